"""Time and file sizes of visualize.py on large splits, as a Markdown table.

    python -m benchmarks.projector --model_dir experiments/demo --sizes 10000 60000 100000

The split consists of MNIST's test and training images, repeated as often as needed. Each repetition
is shifted by one more pixel, so that all images differ. The experiment is copied, so the original
does not change.
"""

import argparse
import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from src.data.idx import read_idx

ROOT = Path(__file__).parent.parent
MNIST = ROOT / "data" / "mnist"


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", type=Path, required=True, help="a trained MNIST experiment")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 60_000, 100_000])
    args = parser.parse_args()
    print("| points | seconds | CPU seconds | again | tensors | bookmarks | metadata | sprites |")
    print("|---|---|---|---|---|---|---|---|")
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as directory:
            print(measure(args.model_dir, size, Path(directory)), flush=True)


def measure(model_dir: Path, size: int, directory: Path) -> str:
    """Visualize a split of `size` images twice and return the row of the table."""
    data_dir, copy = directory / "data", directory / "experiment"
    write_data(data_dir / "mnist", size)
    # Without the record of the data, because these are others.
    ignored = shutil.ignore_patterns("projector", "trained_data.npz")
    shutil.copytree(model_dir, copy, ignore=ignored)
    command = [sys.executable, "visualize.py", "--model_dir", copy, "--data_dir", data_dir]
    seconds = []
    before = os.times()
    for _ in range(2):
        started = time.perf_counter()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
        after = os.times()
        if len(seconds) == 1:
            used = after.children_user + after.children_system
            cpu = used - before.children_user - before.children_system
    files = {path.name: path.stat().st_size for path in (copy / "projector" / "test").iterdir()}

    def megabytes(pattern: str) -> str:
        return f"{sum(n for name, n in files.items() if re.search(pattern, name)) / 1e6:.1f} MB"

    sizes = [megabytes(p) for p in (r"\.bytes$", "bookmarks", "metadata", "sprite")]
    return f"| {size} | {seconds[0]:.0f} | {cpu:.0f} | {seconds[1]:.0f} | {' | '.join(sizes)} |"


def write_data(folder: Path, size: int) -> None:
    """Write MNIST's files with a test split of `size` images."""
    folder.mkdir(parents=True)
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    for kind in kinds:
        os.symlink(MNIST / f"train-{kind}.gz", folder / f"train-{kind}.gz")
    images, labels = (
        np.concatenate([read_idx(MNIST / f"{part}-{kind}.gz") for part in ("t10k", "train")])
        for kind in kinds
    )
    repeats = range(-(-size // len(labels)))
    images = np.concatenate([np.roll(images, repeat, axis=2) for repeat in repeats])[:size]
    labels = np.tile(labels, len(repeats))[:size]
    for kind, array in zip(kinds, (images, labels), strict=True):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        content = gzip.compress(header + array.tobytes(), compresslevel=1)
        (folder / f"t10k-{kind}.gz").write_bytes(content)


if __name__ == "__main__":
    main()
