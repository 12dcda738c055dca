"""The formats of exported models: their files, what they need, and how they are called."""

import importlib.util
from typing import NamedTuple

from src.errors import UserError


class Format(NamedTuple):
    """A format, by its name in `EXPORT_FORMATS` of src/registry.py.

    Attributes:
        title: its name, for people.
        file: the name in `export/`; `{step}` stands for the checkpoint's step.
        packages: the modules that converting and running it need, besides TensorFlow.
        extra: the extra of pyproject.toml that installs them.
        int8_file: the name of the quantized model; None if there is none.
        call: Python that embeds `images`, uint8 [N, H, W, C], or `vectors`, float32 [N, F];
            `{input}` stands for that name, `{file}` for the file.
    """

    title: str
    file: str
    packages: tuple[str, ...]
    extra: str | None
    int8_file: str | None
    call: str


FORMATS = {
    "saved_model": Format(
        "SavedModel",
        "saved_model/{step}",
        (),
        None,
        None,
        """\
import tensorflow as tf

model = tf.saved_model.load("{file}")
embed = model.signatures["serving_default"]
embeddings = embed({input}=tf.constant({input}))["embeddings"].numpy()""",
    ),
    "litert": Format(
        "LiteRT",
        "model.tflite",
        ("ai_edge_litert",),
        "litert",
        "model-int8.tflite",
        """\
from ai_edge_litert.interpreter import Interpreter

embed = Interpreter("{file}").get_signature_runner("serving_default")
embeddings = embed({input}={input})["embeddings"]""",
    ),
    "onnx": Format(
        "ONNX",
        "model.onnx",
        ("onnx", "onnxruntime", "tf2onnx"),
        "onnx",
        "model-int8.onnx",
        """\
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
(embeddings,) = session.run(["embeddings"], {{"{input}": {input}}})""",
    ),
}
"""The formats by their names."""


def check(name: str, quantize: str | None) -> None:
    """Refuse what cannot be exported here, before any slow work.

    Raises:
        UserError: the format has no quantized model, or a package is missing.
    """
    if quantize and FORMATS[name].int8_file is None:
        accepted = ", ".join(key for key, format in FORMATS.items() if format.int8_file)
        raise UserError(f"--quantize: found {quantize} with --to {name}; accepted: --to {accepted}")
    for package in FORMATS[name].packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--to {name}: {package} is not installed; accepted: an environment with the "
                f"extra {FORMATS[name].extra}; install it with pip install "
                f'".[{FORMATS[name].extra}]"'
            )
