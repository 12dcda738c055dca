"""Grid, random and TPE with pruning, on an equal budget: `python -m benchmarks.searching`.

Nine searches on Fashion-MNIST, an hour each: three kinds, three seeds. They take turns seed by
seed, so that an interrupted study compares all kinds on the seeds it has. Killed or interrupted,
the same command goes on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import compare
import sweep
from src.errors import SweepFailed
from src.system.cli import run

ROOT = Path(__file__).parent.parent

PARAMS = {
    "dataset": "fashion_mnist",
    "num_epochs": 3,
    "classes_per_batch": 10,
    "examples_per_class": 12,
    "network": "naive_cnn",
    "num_channels": 32,
    "embedding_size": 64,
    "l2_normalize": True,
}
"""Without a schedule of the learning rate: its early values would mislead pruning."""

RANGES = {
    "margin": ("0.05..1:log", "0.05,0.1,0.2,0.5,1"),
    "learning_rate": ("1e-4..1e-2:log", "0.0001,0.001,0.01"),
    "triplet_strategy": ("batch_all,batch_hard,batch_semihard",) * 2,
    "augment.shift": ("0..4", "0,2,4"),
}
"""For each key: what random search and TPE draw from, and the values of the grid."""

SEARCHES = {"grid": "none", "random": "none", "tpe": "median"}
"""Each search with its pruning."""


def commands(directory: Path, minutes: float, data_dir: Path) -> list[list[str]]:
    """Return what `sweep.py` is given for each search, in order, after writing its params."""
    found = []
    for seed in (0, 1, 2):
        for search, prune in SEARCHES.items():
            parent = directory / f"{search}-seed_{seed}"
            parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps({**PARAMS, "seed": seed}, indent=2) + "\n"
            (parent / "params.json").write_text(content)
            command = ["--parent_dir", str(parent), "--data_dir", str(data_dir)]
            command += ["--search", search, "--prune", prune]
            command += ["--minutes", f"{minutes:g}"]
            for key, texts in RANGES.items():
                command += ["--param", f"{key}={texts[search == 'grid']}"]
            found.append(command)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Run the searches that have time left, then draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=60, help="for each search")
    parser.add_argument("--directory", type=Path, default=ROOT / "experiments" / "search_study")
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data")
    args = parser.parse_args(argv)
    for command in commands(args.directory, args.minutes, args.data_dir):
        # In this process: if it is killed, no search is left behind that keeps the next one out.
        try:
            sweep.main(command)
        except SweepFailed as error:  # nothing has finished in this time, which is a result
            print(error, flush=True)
        except SystemExit:  # by a signal
            print("to go on with all searches: the same command as before", flush=True)
            raise
    compare.main([str(args.directory), "--plot", str(args.directory / "searches.png")])


if __name__ == "__main__":
    run(main)
