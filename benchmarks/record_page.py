"""Records the page of `serve.py`: draws a 7, a heart, enrols hearts, and draws another one.

    make demo-open
    .venv/bin/python -m benchmarks.record_page docs/open_digits.gif

Needs Chromium. The gallery of the experiment is copied first; it does not change.
"""

import argparse
import io
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness import REPOSITORY
from benchmarks.strangers import SIDE, Drawing, as_mnist, drawings

_SIZE = {"width": 900, "height": 820}
_SEED = 7


def main(argv: Sequence[str] | None = None) -> None:
    """Write the recording as a GIF."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.record_page", description=__doc__)
    parser.add_argument("path", type=Path, help="the GIF file")
    parser.add_argument("--model_dir", type=Path, default=REPOSITORY / "experiments/open_digits")
    args = parser.parse_args(argv)
    with serving(args.model_dir) as address, page_at(address) as page:
        frames: list[tuple[Image.Image, int]] = []

        def take(milliseconds: int) -> None:
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            frames.append((picture, milliseconds))

        seven, *hearts = drawings("7", 1, _SEED) + drawings("heart", 7, _SEED)
        for step, drawing in enumerate([seven, *hearts]):
            page.click("#clear")
            draw_by_mouse(page, drawing, during=lambda: take(60))
            answered(page)
            take(1800)
            if 1 <= step <= 5:  # the first is unknown, and five are enrolled
                page.fill("#name", "heart")
                take(500)
                page.click("#add-button")
                page.locator("#message").wait_for()
                answered(page)
                take(900)
    pictures = [picture.quantize(64, dither=Image.Dither.NONE) for picture, _ in frames]
    durations = [milliseconds for _, milliseconds in frames]
    pictures[0].save(
        args.path, save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )
    print(f"wrote {args.path}: {len(frames)} frames, {args.path.stat().st_size / 1e6:.1f} MB")


def answered(page) -> None:  # noqa: ANN001
    """Wait until the page of Playwright shows the answer to what was drawn."""
    page.locator("#verdict").filter(has_text=re.compile("[^…]")).wait_for()
    page.wait_for_timeout(400)
    page.evaluate("() => scrollTo(0, 0)")


def draw_by_mouse(page, drawing: Drawing, during=lambda: None) -> None:  # noqa: ANN001
    """Draw the lines of a drawing on the page's canvas.

    Args:
        page: a page of Playwright.
        drawing: in pixels of an image of 28 x 28.
        during: called now and then while it is drawn.
    """
    box = page.locator("#canvas").bounding_box()
    scale = box["width"] / SIDE
    for stroke in as_mnist(drawing).strokes:
        points = stroke[np.linspace(0, len(stroke) - 1, 40).round().astype(int)]
        points = np.array([box["x"], box["y"]]) + scale * points
        page.mouse.move(*points[0])
        page.mouse.down()
        for number, (x, y) in enumerate(points[1:]):
            page.mouse.move(x, y)
            if number % 13 == 12:
                during()
        page.mouse.up()


@contextmanager
def serving(model_dir: Path) -> Iterator[str]:
    """Serve a copy of an experiment's gallery during the block; yield the address."""
    import uvicorn

    from src.gallery import Gallery
    from src.gallery.service import create_app

    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(model_dir / "gallery.sqlite", Path(folder) / "gallery.sqlite")
        with Gallery(model_dir, copy) as gallery:
            config = uvicorn.Config(create_app(gallery, far=0.1), port=0, log_level="warning")
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run)
            thread.start()
            try:
                while not server.started:
                    thread.join(0.05)
                port = server.servers[0].sockets[0].getsockname()[1]
                yield f"http://127.0.0.1:{port}/"
            finally:
                server.should_exit = True
                thread.join()


@contextmanager
def page_at(address: str) -> Iterator:
    """Open an address in Chromium; yield Playwright's page."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=_SIZE, color_scheme="light")
        page.goto(address)
        page.wait_for_selector("#classes li")
        yield page
        browser.close()


if __name__ == "__main__":
    main()
