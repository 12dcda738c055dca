"""TensorFlow's own format, for TensorFlow Serving and KServe."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf

Inputs = NDArray[np.uint8] | NDArray[np.float32]


def saved_model(
    saved_model: Path, target: Path, calibration: Inputs | None
) -> Callable[[Inputs], NDArray[np.float32]]:
    """Copy the SavedModel to the folder `target`, and return what runs it; see this package."""
    assert calibration is None
    shutil.copytree(saved_model, target)
    loaded = tf.saved_model.load(str(target))
    serve = loaded.signatures["serving_default"]

    (name,) = serve.structured_input_signature[1]

    def embed(inputs: Inputs) -> NDArray[np.float32]:
        _ = loaded  # its variables live as long as it
        return np.asarray(serve(**{name: tf.constant(inputs)})["embeddings"])

    return embed
