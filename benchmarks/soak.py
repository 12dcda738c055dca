"""Train a tiny experiment for long: its memory stays flat, and its directory bounded.

`python -m benchmarks.soak 200000` writes docs/soak.md and docs/soak.png; `--out` another folder.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt

from benchmarks.harness import REPOSITORY
from src.experiment.experiment import Experiment
from src.experiment.table import format_table
from src.system.atomic import atomic_write

IMAGES = 240  # in the training file; 200 of them are trained on
BATCH_SIZE = 32
STEPS_PER_EPOCH = 7

MAX_GROWTH = 0.05
"""Largest accepted growth of the resident memory, from the second tenth of the steps to the
last."""

MAX_BYTES_PER_SUMMARY = 20_000
"""Largest accepted growth of the event files per writing of summaries or evaluation of a split."""

SECONDS_PER_SAMPLE = 0.5


@dataclass(frozen=True)
class Sample:
    """Measurements at one moment.

    Attributes:
        step: the step of the latest checkpoint.
        seconds: the time since the start.
        memory_mb: resident memory of the process, in MB.
        events_mb: size of the event files and TensorFlow's log, in MB.
        others_mb: size of the directory's other files, in MB: checkpoints, the graph, metrics.
    """

    step: int
    seconds: float
    memory_mb: float
    events_mb: float
    others_mb: float


def main(argv: Sequence[str] | None = None) -> None:
    """Train, take samples, check them, and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("steps", type=int, help="how many to train; docs/soak.md is of 200000")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs", metavar="DIR")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        params = tiny_params(args.steps)
        experiment = make_experiment(Path(directory), params)
        samples = train_and_look_on(experiment, Path(directory))
        steps = params["num_epochs"] * STEPS_PER_EPOCH
        checkpoint_mb = largest_checkpoint_mb(experiment)
    num_writes = steps / params["save_summary_steps"] + steps / params["save_checkpoints_steps"]
    lines, passed = report(samples, steps, checkpoint_mb, num_writes, params)
    draw(samples, steps).savefig(args.out / "soak.png", dpi=100)
    command = f"python -m benchmarks.soak {args.steps}"
    with atomic_write(args.out / "soak.md") as file:
        file.write("\n".join([*lines, "", f"{circumstances()}; `{command}`", ""]).encode())
    print("\n".join(lines))
    sys.exit(not passed)


def tiny_params(steps: int) -> dict[str, object]:
    """Return the params of a training of `steps` steps, rounded up to whole epochs.

    It evaluates and saves a checkpoint at most 200 times, regardless of its length.
    """
    return {
        "num_epochs": -(-steps // STEPS_PER_EPOCH),
        "num_channels": 4,
        "embedding_size": 8,
        "batch_size": BATCH_SIZE,
        "augment": {"shift": 1},
        "save_summary_steps": max(1, steps // 2000),
        "save_checkpoints_steps": max(100, steps // 200),
        "keep_checkpoint_max": 3,
    }


def make_experiment(directory: Path, params: dict[str, object]) -> Experiment:
    """Write the params and a dataset of noise images; the brighter quadrant is the class."""
    from src.data.idx import UINT8_CODE

    experiment = Experiment(directory / "experiment")
    with atomic_write(experiment.params_path) as file:
        file.write(json.dumps(params).encode())
    rng = np.random.default_rng(0)
    for prefix, size in (("train", IMAGES), ("t10k", 60)):
        labels = np.arange(size, dtype=np.uint8) % 4
        images = rng.integers(0, 130, (size, 8, 8), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            image[row : row + 4, column : column + 4] += 90
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes([0, 0, UINT8_CODE, array.ndim])
            header += np.array(array.shape, ">u4").tobytes()
            with atomic_write(directory / "data" / "mnist" / f"{prefix}-{name}-ubyte") as file:
                file.write(header + array.tobytes())
    return experiment


def train_and_look_on(experiment: Experiment, directory: Path) -> list[Sample]:
    """Run `train.py` and take samples from its first checkpoint to its last."""
    command = [sys.executable, "train.py", "--model_dir", experiment.model_dir]
    samples, started = [], time.monotonic()
    with subprocess.Popen(
        [*command, "--data_dir", directory / "data"], cwd=REPOSITORY, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            time.sleep(SECONDS_PER_SAMPLE)
            step = experiment.latest_step()
            if step and (memory := resident_mb(process.pid)):
                seconds = time.monotonic() - started
                samples.append(Sample(step, seconds, memory, *directory_mb(experiment.model_dir)))
        if process.returncode != 0:
            sys.exit(f"train.py ended with {process.returncode}")
    return samples


def resident_mb(pid: int) -> float | None:
    """Return the resident memory of a process in MB; None if it has ended."""
    done = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return int(done.stdout) / 1024 if done.stdout.strip() else None


def directory_mb(directory: Path) -> tuple[float, float]:
    """Return the sizes in MB of the files that grow with each summary, and of all other files."""
    sizes = {True: 0, False: 0}
    for path in directory.rglob("*"):
        try:
            size = path.stat().st_size
        except FileNotFoundError:  # removed meanwhile
            continue
        if not path.is_dir():
            sizes[path.name.startswith("events.") or path.suffix == ".log"] += size
    return sizes[True] / 1e6, sizes[False] / 1e6


def largest_checkpoint_mb(experiment: Experiment) -> float:
    """Return the size of the latest checkpoint, in MB."""
    step = experiment.latest_step()
    return sum(p.stat().st_size for p in experiment.model_dir.glob(f"model.ckpt-{step}.*")) / 1e6


def circumstances() -> str:
    """Return the number of cores, the versions and the date of the measurement."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "tensorflow"))
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {versions}, {date.today()}"


def report(
    samples: Sequence[Sample],
    steps: int,
    checkpoint_mb: float,
    num_writes: float,
    params: dict[str, object],
) -> tuple[list[str], bool]:
    """Return the lines of docs/soak.md, and whether all values are within their bounds.

    Growth compares the median of the second tenth of the steps, when all caches are filled, with
    the median of the last tenth.
    """

    def of_tenth(tenth: int) -> list[Sample]:
        low, high = steps * tenth / 10, steps * (tenth + 1) / 10
        return [sample for sample in samples if low <= sample.step <= high]

    early, late = of_tenth(1), of_tenth(9)
    memory = [statistics.median(s.memory_mb for s in tenth) for tenth in (early, late)]
    growth = memory[1] / memory[0] - 1
    # Terms: the checkpoints that are kept, and one being written; copies of the first and the best;
    # the best as exported, and the export before it; the graph as text, three times as large.
    bound_mb = (int(str(params["keep_checkpoint_max"])) + 1 + 2 + 2 + 3) * checkpoint_mb
    largest_mb = max(sample.others_mb for sample in samples)
    per_write = 1e6 * (samples[-1].events_mb - early[0].events_mb) / (num_writes * 0.9)
    rows = [
        ["memory, growth", f"{growth:+.1%}", f"below {MAX_GROWTH:.0%}"],
        ["directory less event files", f"{largest_mb:.2f} MB", f"below {bound_mb:.2f} MB"],
        ["event files, per write", f"{per_write:,.0f} B", f"below {MAX_BYTES_PER_SUMMARY:,} B"],
    ]
    passed = growth < MAX_GROWTH and largest_mb < bound_mb and per_write < MAX_BYTES_PER_SUMMARY
    seconds = samples[-1].seconds
    lines = [
        "# Soak: a long training",
        "",
        f"`make soak` trains a tiny experiment for {steps:,} steps ({seconds / 60:.0f} minutes).",
        f"It evaluates and saves a checkpoint every {params['save_checkpoints_steps']:,} steps,",
        f"writes summaries every {params['save_summary_steps']:,}, and is looked at twice a second",
        "from outside.",
        "",
        "![Memory and directory over the steps](soak.png)",
        "",
        "```text",
        format_table(["", "found", "bound"], rows),
        "```",
        "",
        f"Memory is the process's resident one, {memory[0]:.0f} MB in the second tenth of the",
        f"steps and {memory[1]:.0f} MB in the last (medians). Event files grow with each summary,",
        f"as they must: to {samples[-1].events_mb:.1f} MB here.",
    ]
    return lines, passed


def draw(samples: Sequence[Sample], steps: int) -> plt.Figure:
    """Return the figure: memory at the top, the directory at the bottom."""
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(8, 5), layout="constrained")
    x = [sample.step for sample in samples]
    above.plot(x, [sample.memory_mb for sample in samples], color="tab:blue", linewidth=1)
    above.set_ylim(bottom=0)
    above.set_ylabel("resident memory, MB")
    below.stackplot(
        x,
        [sample.others_mb for sample in samples],
        [sample.events_mb for sample in samples],
        labels=["checkpoints and all else", "event files"],
        colors=["tab:blue", "tab:orange"],
    )
    below.legend(loc="upper left")
    below.set_ylabel("directory, MB")
    below.set_xlabel("step")
    below.set_xlim(0, steps)
    return figure


if __name__ == "__main__":
    main()
