"""Records TensorBoard's projector as it opens on an experiment.

    make demo
    .venv/bin/python -m benchmarks.record_projector docs/projector.png

Needs Chromium. Takes half a minute.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from benchmarks.harness import REPOSITORY

_SIZE = {"width": 1500, "height": 900}
_PATIENCE = 120  # seconds

# TensorBoard draws by WebGL, here without a graphics card.
_FLAGS = [
    "--no-sandbox",
    "--no-proxy-server",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]

# The projector's elements are nested shadows.
_NUM_DRAWN = """() => {
    const roots = [document];
    while (roots.length) {
        const root = roots.pop(), found = root.querySelector('vz-projector');
        if (found) {
            const axes = found.projection && found.projection.projectionComponents;
            const points = found.dataSet && axes ? found.dataSet.points : [];
            return points.filter(point => point.projections[axes[0]] != null).length;
        }
        for (const e of root.querySelectorAll('*')) if (e.shadowRoot) roots.push(e.shadowRoot);
    }
    return 0;
}"""


def main(argv: Sequence[str] | None = None) -> None:
    """Write the screenshot as a PNG of 256 colours."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.record_projector", description=__doc__
    )
    parser.add_argument("path", type=Path, help="the PNG file")
    parser.add_argument("--model_dir", type=Path, default=REPOSITORY / "experiments/demo")
    args = parser.parse_args(argv)
    with _tensorboard(args.model_dir) as address:
        picture = _screenshot(f"{address}/#projector")
    picture.quantize(256, dither=Image.Dither.NONE).save(args.path, optimize=True)
    print(f"wrote {args.path}: {args.path.stat().st_size / 1e6:.2f} MB")


def _screenshot(address: str) -> Image.Image:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        page.goto(address)
        deadline = time.monotonic() + _PATIENCE
        before, drawn = -1, 0
        while drawn == 0 or drawn != before:
            if time.monotonic() > deadline:
                sys.exit(f"{address}: no points after {_PATIENCE} s")
            page.wait_for_timeout(1000)
            frames = [frame for frame in page.frames if "projector_binary" in frame.url]
            before, drawn = drawn, frames[0].evaluate(_NUM_DRAWN) if frames else 0
        page.wait_for_timeout(5000)  # the pictures, and messages that disappear by themselves
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    return picture


@contextmanager
def _tensorboard(model_dir: Path) -> Iterator[str]:
    """Run TensorBoard on an experiment during the block; yield the address."""
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(model_dir)]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"], stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + _PATIENCE
            found = None
            while not found:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("TensorBoard has not started")
                time.sleep(0.2)
                output.seek(0)
                found = re.search(r"http://127\.0\.0\.1:\d+", output.read())
            yield found[0]
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
