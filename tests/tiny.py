"""A tiny dataset and a tiny experiment, for trainings of seconds."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

# 8 x 8 pixels, four classes that a small network separates within an epoch or two.
TINY = {
    "num_epochs": 4,
    "learning_rate": 5e-3,
    "num_channels": 4,
    "embedding_size": 8,
    "batch_size": 32,
    "l2_normalize": True,
    "save_summary_steps": 2,
}


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 `array` as a gzip IDX file."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_noise(folder: Path) -> None:
    """Write a data set in MNIST's format: ten classes of noise, 4 x 4 pixels, 300 and 40 images."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix, size in (("train", 300), ("t10k", 40)):
        images = rng.integers(0, 256, (size, 4, 4), dtype=np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        labels = np.arange(size, dtype=np.uint8) % 10
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)


def bright_quadrants(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [size, 8, 8] of noise, in which the quadrant of the label is brighter."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size, dtype=np.uint8) % 4
    images = rng.integers(0, 130, (size, 8, 8), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[row : row + 4, column : column + 4] += 90
    return images, labels


def write_params(model_dir: Path, params: dict[str, Any]) -> Path:
    """Write a params.json to a directory, and return that."""
    model_dir.mkdir(exist_ok=True)
    (model_dir / "params.json").write_text(json.dumps(params))
    return model_dir


class NotEvaluatedError(Exception):
    """Ends a training before its last evaluation."""


def train_only(model_dir: Path, data_dir: Path, *options: str) -> int:
    """Train as `train.py` does, without the evaluation of all splits and baselines at the end.

    This takes a third of the time of a tiny training, and many tests are not about it.

    Returns:
        The latest step.
    """
    import train
    from src.experiment.experiment import Experiment

    try:
        with patch("model.training.evaluation.evaluate", side_effect=NotEvaluatedError):
            train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options])
    except NotEvaluatedError:
        return Experiment(model_dir).latest_step()
    raise AssertionError("the training came to no evaluation")
