"""What a leak between splits does to the figures: `python -m benchmarks.leakage` (3 minutes).

Some digits of MNIST become series: copies that are shifted by a pixel, brighter or noisy. The same
network is trained three times: with series on both sides of the split, with whole series on one
side, and measured on digits that are in no series.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.data.idx import read_idx
from src.experiment.table import format_table

ROOT = Path(__file__).parent.parent
NUM_SERIES, NUM_COPIES, NUM_FRESH = 300, 8, 1000

PARAMS = {
    "dataset": "image_folder",
    "image_dir": "series",
    "image_mode": "L",
    "image_size": 28,
    "validation_by": "image",
    "num_blocks": 2,
    "num_channels": 16,
    "classes_per_batch": 10,
    "examples_per_class": 8,
    "l2_normalize": True,
    "margin": 0.5,
    "num_epochs": 10,
}


def main() -> None:
    """Train the three experiments and print a table of the test split's metrics."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory, "data")
        write_series(data_dir / "series")
        rows = []
        for name, what in (
            ("no_groups", "series on both sides (no column group)"),
            ("groups", "whole series on one side (column group)"),
            ("fresh", "new digits, of no series (column split)"),
        ):
            metrics = train(Path(directory, name), data_dir, f"{name}.csv")
            test, pixels = metrics["splits"]["test"], metrics["baselines"]["raw_pixels"]["test"]
            rows.append(
                [
                    what,
                    *(f"{of[key]:.3f}" for of in (test, pixels) for key in SHOWN),
                ]
            )
    header = ["test split", *(f"{of} {key}" for of in ("network", "pixels") for key in SHOWN)]
    print(format_table(header, rows))


SHOWN = ("recall_at_1", "map_at_r_within")


def write_series(folder: Path) -> None:
    """Write pictures of series and of new digits, and the three lists of them."""
    images = read_idx(ROOT / "data/mnist/t10k-images-idx3-ubyte.gz")
    labels = read_idx(ROOT / "data/mnist/t10k-labels-idx1-ubyte.gz")
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(labels))[: NUM_SERIES + NUM_FRESH]
    series, fresh = [], []
    folder.mkdir(parents=True)
    for number, row in enumerate(chosen.tolist()):
        is_series = number < NUM_SERIES
        for copy in range(NUM_COPIES if is_series else 1):
            path = f"{number}_{copy}.png"
            Image.fromarray(copied(images[row], rng)).save(folder / path)
            (series if is_series else fresh).append(f"{path},{labels[row]},{number}")
    for name, columns, lines in (
        ("no_groups", "path,label,series", series),
        ("groups", "path,label,group", series),
        (
            "fresh",
            "path,label,group,split",
            [f"{line},train" for line in series] + [f"{line},test" for line in fresh],
        ),
    ):
        (folder / f"{name}.csv").write_text("\n".join([columns, *lines]))


def copied(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a copy of an image, shifted by up to a pixel, brighter or darker, with noise."""
    shifted = np.roll(image, rng.integers(-1, 2, 2), axis=(0, 1)).astype(float)
    changed = shifted * rng.uniform(0.8, 1.2) + rng.normal(0, 8, image.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


def train(model_dir: Path, data_dir: Path, csv: str) -> dict[str, Any]:
    """Train on one list, and return the metrics."""
    model_dir.mkdir()
    (model_dir / "params.json").write_text(json.dumps({**PARAMS, "image_csv": csv}))
    command = [sys.executable, "train.py", "--model_dir", model_dir, "--data_dir", data_dir]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    metrics: dict[str, Any] = json.loads((model_dir / "metrics.json").read_text())
    return metrics


if __name__ == "__main__":
    main()
