"""An experiment without TensorFlow: its network is a function, its checkpoint a few bytes."""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from src import registry
from src.experiment.checkpoint_files import digest_of, step_of
from src.experiment.experiment import Best, Experiment
from src.gallery.building import build, identity_of
from src.gallery.gallery import load_embedder
from src.gallery.store import open_store
from src.gallery.verdict import Calibration
from src.params.reading import save_params
from src.params.schema import Params

IMAGE_SHAPE = (8, 8, 1)  # unless a test wants another
THRESHOLD = 0.5

CALIBRATION = {
    "thresholds": {
        "distance": "euclidean",
        "measured_on": "validation",
        "num_positive_pairs": 1000,
        "num_negative_pairs": 1000,
        "at": {
            "far_1e-1": {"threshold": 0.6},
            "far_1e-2": {"threshold": THRESHOLD},
            "far_1e-3": {"threshold": 0.3},
            "far_1e-4": {"threshold": None, "why": "too few negative pairs"},
            "eer": {"threshold": 0.7},
            "best_f1": {"threshold": 0.65},
        },
    },
    "open_set": {
        "distance": "euclidean",
        "gallery": {"split": "train", "num_images": 100, "num_classes": 4},
        "calibrated_on": "unseen classes",
        "why": None,
        "size_factors": None,
        "why_no_size_factors": "a test",
        "whitening": None,
        "class_by": "nearest",
        "num_known": 100,
        "num_strangers": 100,
        "auroc": 0.99,
        "at": {
            "fpir_1e-1": {"threshold": 0.6, "reported": {"fpir": 0.12, "dir": 0.99}},
            "fpir_1e-2": {"threshold": THRESHOLD, "reported": {"fpir": 0.02, "dir": 0.97}},
            "fpir_1e-3": {
                "threshold": None,
                "why": "a rate of 1e-3 needs 1000 strangers",
                "reported": {"fpir": None, "dir": None},
            },
        },
        "curve": {"fpir": [], "dir": []},
        "histograms": {"edges": [0.0, 0.5, 1.0], "known": [97, 3], "unknown": [2, 98]},
    },
}


class Quadrants:
    """Embeds an image as the brightness of its quadrants, scaled to length 1."""

    embedding_size = 4

    def __init__(self, experiment, params, image_shape):
        height, width, num_channels = image_shape
        assert num_channels == 1
        path = experiment.evaluated_checkpoint
        self.checkpoint, self.step = digest_of(path), step_of(path)
        self._split = (-1, 2, height // 2, 2, width // 2)

    def __call__(self, images):
        pooled = images.reshape(self._split).mean(axis=(2, 4)).reshape(-1, 4) + 1e-3
        return (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)


def quadrant(position, brightness=200, seed=0):
    """Return an image whose quadrant `position` is bright."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 20, IMAGE_SHAPE, dtype=np.uint8)
    row, column = 4 * (position // 2), 4 * (position % 2)
    image[row : row + 4, column : column + 4] += np.uint8(brightness)
    return image


def png(position, seed=0):
    """Return such an image as PNG."""
    file = io.BytesIO()
    Image.fromarray(quadrant(position, seed=seed)[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def write_experiment(
    model_dir: Path, monkeypatch, weights: bytes = b"weights", image_shape=IMAGE_SHAPE
) -> Experiment:
    """Write what a finished training leaves, with the checkpoint `weights`."""
    monkeypatch.setitem(registry.EMBEDDERS, "checkpoint", "gallery_experiment:Quadrants")
    experiment = Experiment(model_dir)
    (model_dir / "best").mkdir(parents=True, exist_ok=True)
    params = Params(l2_normalize=True)
    save_params(experiment.params_path, params)
    save_params(experiment.trained_params_path, params)
    (model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    for folder in (model_dir, model_dir / "best"):
        (folder / "model.ckpt-7.index").write_bytes(b"index")
        (folder / "model.ckpt-7.data-00000-of-00001").write_bytes(weights)
    experiment.save_best(
        Best("map_at_r_within", 0.9, step=7, latest_step=7, num_evaluations_since=0, loss=0.1)
    )
    metrics = {
        "status": "finished",
        "global_step": 7,
        "image_shape": image_shape,
        "splits": {},
        **CALIBRATION,
    }
    experiment.metrics_path.write_text(json.dumps(metrics))
    return experiment


def write_gallery(model_dir: Path, monkeypatch, **given) -> Experiment:
    """Write such an experiment with an empty gallery."""
    experiment = write_experiment(model_dir, monkeypatch, **given)
    params, image_shape = experiment.trained_params(), experiment.image_shape()
    embed = load_embedder(experiment, params, image_shape)
    identity = identity_of(experiment, params, image_shape, embed)
    with open_store(experiment.gallery_path, create=True) as store:
        build(store, identity, calibration_of(experiment), [], embed, 0)
    return experiment


def calibration_of(experiment):
    """Return the calibration of an experiment as a gallery stores it."""
    return Calibration.from_metrics(experiment.metrics(), "metrics.json").to_json()
