"""LiteRT (TensorFlow Lite), for telephones and small machines."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf

Inputs = NDArray[np.uint8] | NDArray[np.float32]


def litert(
    saved_model: Path, target: Path, calibration: Inputs | None
) -> Callable[[Inputs], NDArray[np.float32]]:
    """Convert a SavedModel to a `.tflite` file, and return what runs it; see this package.

    An int8 model keeps its input and its float32 output; weights and activations between them are
    int8. An op that has no int8 kernel stays float32.
    """
    from ai_edge_litert.interpreter import Interpreter

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([each[None]] for each in calibration)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ]
    target.write_bytes(converter.convert())
    interpreter = Interpreter(str(target))
    serve = interpreter.get_signature_runner("serving_default")
    (name,) = serve.get_input_details()
    return lambda inputs: serve(**{name: inputs})["embeddings"]
