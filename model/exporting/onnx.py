"""ONNX, for ONNX Runtime and all that read the format."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf

Inputs = NDArray[np.uint8] | NDArray[np.float32]

# Read by ONNX Runtime since 1.14; everything that the networks need is in it.
_OPSET = 17


def onnx(
    saved_model: Path, target: Path, calibration: Inputs | None
) -> Callable[[Inputs], NDArray[np.float32]]:
    """Convert a SavedModel to an `.onnx` file, and return what runs it; see this package.

    An int8 model keeps its input and its float32 output. Weights and activations between them are
    int8 (quantize and dequantize nodes around float nodes, which a runtime fuses).
    """
    import onnxruntime

    _convert(saved_model, target)
    if calibration is not None:
        _quantize(target, calibration)
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda inputs: session.run(["embeddings"], {name: inputs})[0]


def _convert(saved_model: Path, target: Path) -> None:
    """Write the frozen graph as ONNX, with the names of the signature."""
    import tf2onnx

    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(saved_model))
        signature = loaded.signature_def["serving_default"]
        ((name, tensor),) = signature.inputs.items()
        inputs, embeddings = tensor.name, signature.outputs["embeddings"].name
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), [embeddings.partition(":")[0]]
        )
    converted, _ = tf2onnx.convert.from_graph_def(
        frozen,
        input_names=[inputs],
        output_names=[embeddings],
        opset=_OPSET,
        tensors_to_rename={inputs: name, embeddings: "embeddings"},
    )
    target.write_bytes(converted.SerializeToString())


def _quantize(target: Path, calibration: Inputs) -> None:
    """Replace the model by its int8 version."""
    from onnx import load
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    (name,) = (each.name for each in load(target).graph.input)

    class Reader(CalibrationDataReader):
        """Gives the inputs one by one."""

        def __init__(self) -> None:
            self._inputs = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            each = next(self._inputs, None)
            return None if each is None else {name: each[None]}

    logging.getLogger().addFilter(_is_no_advice)
    try:
        quantize_static(target, target, Reader(), per_channel=True)
    finally:
        logging.getLogger().removeFilter(_is_no_advice)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Return whether a message is another than the advice to simplify the graph before.

    tf2onnx has done that.
    """
    return "pre-processing before quantization" not in record.getMessage()
