"""TensorFlow's own format, for TensorFlow Serving and KServe."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf

Images = NDArray[np.uint8]


def saved_model(
    saved_model: Path, target: Path, calibration: Images | None
) -> Callable[[Images], NDArray[np.float32]]:
    """Copy the SavedModel to the folder `target`, and return what runs it; see this package."""
    assert calibration is None
    shutil.copytree(saved_model, target)
    loaded = tf.saved_model.load(str(target))
    serve = loaded.signatures["serving_default"]

    def embed(images: Images) -> NDArray[np.float32]:
        _ = loaded  # its variables live as long as it
        return np.asarray(serve(images=tf.constant(images))["embeddings"])

    return embed
