"""Pretrained weights: reads them as arrays and puts them into the Estimator's session."""

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from model.backbone import APPLICATION_LAYER, application_name
from model.estimator import keras
from model.moving_average import MovingAverage
from model.network import plain
from model.networks import efficientnet_lite0
from model.networks.keras_application import build_application
from src.errors import UserError
from src.params.schema import Params
from src.printable import printable

# For each of the application's layers with weights, in order, the values of its weights.
LayerValues = list[list[np.ndarray]]

_SECONDS_TO_CONNECT = 30

_IMAGENET_STDDEV = (0.229, 0.224, 0.225)  # for pixels in [0, 1], by channel


def read_weights(params: Params, source: Path | Literal["imagenet"]) -> LayerValues:
    """Read an application's weights.

    Keras loads ImageNet's weights into a copy of the application outside any graph. In the
    Estimator's graph, it would load them into a session of its own.

    Args:
        params: `network`, `application`.
        source: an HDF5 file, as written by `save_weights("weights.h5")` of tf_keras and as
            published by Keras. Files for EfficientNetB0 to B7 must hold ImageNet's weights, or
            weights trained from them. Or "imagenet", which Keras downloads once to
            `~/.keras/models`.

    Raises:
        UserError: the file belongs to another application, or cannot be read or downloaded.
    """
    if source == "imagenet":
        values = [layer.get_weights() for layer in _with_weights(_fetch(params))]
    else:
        values = _read_file(params, source)
    if re.fullmatch(r"EfficientNetB\d", application_name(params)):
        # EfficientNet normalizes its input itself: (x - mean) / sqrt(variance). ImageNet's weights
        # need one more division, by the square root of ImageNet's standard deviation. Keras adds it
        # to the network only when it loads these weights itself.
        _, variance, _ = values[0]
        values[0][1] = variance * np.array(_IMAGENET_STDDEV, variance.dtype)
    return values


# For the names of a network's variables, their values.
NamedValues = dict[str, np.ndarray]


class InitialWeights:
    """Puts weights into the session of a new run; used as the `init_fn` of its Scaffold.

    It is not called if a checkpoint is restored, because that holds the trained weights.
    """

    def __init__(
        self,
        network: keras.Model,
        values: LayerValues | NamedValues | None,
        average: MovingAverage | None = None,
        fit: Callable[[Any], None] | None = None,
    ) -> None:
        """Store the values.

        Args:
            network: the network of the session's graph.
            values: by name, or of its application's layers; None to leave the weights.
            average: follows the weights, and starts with these values.
            fit: called with the session when the values are set; it may set further weights.
        """
        self._average, self._fit = average, fit
        if values is None:
            self._values: list[tuple[Any, np.ndarray]] = []
            return
        if isinstance(values, dict):
            self._values = [
                (weight.initializer, values[weight.op.name])
                for weight in map(plain, network.weights)
                if weight.op.name in values
            ]
            return
        layers = _with_weights(network.get_layer(APPLICATION_LAYER))
        self._values = [
            (variable.initializer, value)
            for layer, of_layer in zip(layers, values, strict=True)
            for variable, value in zip(layer.weights, of_layer, strict=True)
        ]

    def __call__(self, scaffold: Any, session: Any) -> None:
        """Set the weights; this runs after the variables' own initializers."""
        # Run the initializers again with fed values: this adds neither ops nor values to the graph.
        session.run(
            [initializer for initializer, _ in self._values],
            {initializer.inputs[1]: value for initializer, value in self._values},
        )
        if self._fit:
            self._fit(session)
        if self._average:
            session.run(self._average.restart)


def _read_file(params: Params, path: Path) -> LayerValues:
    """Return the weights of the layers that the network uses; the file has all of them."""
    if params.network == "keras_application":
        return _read(build_application(params), path, params)
    any_size = (None, None, 3)
    whole = efficientnet_lite0.build_application(any_size)
    used = efficientnet_lite0.build_application(any_size, params.last_layer)
    names = {layer.name for layer in _with_weights(used)}
    layers = zip(_with_weights(whole), _read(whole, path, params), strict=True)
    return [values for layer, values in layers if layer.name in names]


def _with_weights(application: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers that have weights: only these are the same in every build."""
    return [layer for layer in application.layers if layer.weights]


def _fetch(params: Params) -> keras.Model:
    """Return the application with ImageNet's weights, which Keras downloads."""
    with _time_limit(_SECONDS_TO_CONNECT):
        try:
            return build_application(params, weights="imagenet")
        except Exception as error:  # Keras raises a plain Exception if a download fails
            reason = " ".join(str(error).split())
            if address := re.search(r"https?://\S+\.h5", reason):
                fault = f"{address[0]} cannot be fetched ({reason.rpartition(' -- ')[2]})"
            elif "corrupted file" in reason:
                fault = f"the file in ~/.keras/models is damaged ({reason})"
            else:
                raise
            raise UserError(
                f'weights: found "imagenet", but {fault}; accepted: a network connection, or '
                "the path of that file in data_dir, if it was downloaded otherwise"
            ) from None


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Inside the block, limit the time that network connections may wait."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(application: keras.Model, path: Path, params: Params) -> LayerValues:
    """Return the file's weights; their layers must match the application's in order and shape.

    Works like Keras' own loading, but errors say more, and nothing outside the file is read.
    """
    accepted = (
        f"accepted: weights of {application_name(params)} without its classifier (`notop`), as "
        'tf_keras saves them: save_weights("weights.h5")'
    )
    if params.network == "efficientnet_lite0":
        accepted = "accepted: the file that `make weights-efficientnet-lite0` writes"
    wanted = [(layer.name, layer.get_weights()) for layer in _with_weights(application)]
    try:
        with h5py.File(path, "r") as file:
            if foreign := _find_foreign(file):
                raise UserError(
                    f"{path}: weights: found {printable(foreign)}, which is stored outside the "
                    f"file, as a link or external storage; {accepted}"
                )
            group = file if _names(file, "layer_names") else file["model_weights"]
            found = list(_saved_layers(group))
            _compare(found, wanted, path, params, accepted)
            with np.errstate(over="ignore"):
                values = [
                    [data[()].astype(one.dtype) for data, one in zip(theirs, weights, strict=True)]
                    for (_, theirs), (_, weights) in zip(found, wanted, strict=True)
                ]
            for (name, _), arrays in zip(found, values, strict=True):
                if not all(np.isfinite(array).all() for array in arrays):
                    raise UserError(
                        f"{path}: weights: layer {printable(name)}: found numbers that are not "
                        f"finite; {accepted}"
                    )
            return values
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = printable(" ".join(str(error).split()))
        raise UserError(f"{path}: weights: cannot be read ({reason}); {accepted}") from None


def _compare(
    found: list[tuple[str, list[h5py.Dataset]]],
    wanted: list[tuple[str, list[np.ndarray]]],
    path: Path,
    params: Params,
    accepted: str,
) -> None:
    """Raise `UserError` for the first layer of a file that differs from the application's."""
    for position in range(max(len(found), len(wanted))):
        theirs, datasets = found[position] if position < len(found) else ("no layer", [])
        mine, weights = wanted[position] if position < len(wanted) else ("no layer", [])
        shapes, wanted_shapes = ([array.shape for array in of] for of in (datasets, weights))
        if shapes != wanted_shapes:
            raise UserError(
                f"{path}: weights: layer {position + 1} with weights: found "
                f"{_describe(printable(theirs), shapes)}, but {application_name(params)} has "
                f"{_describe(mine, wanted_shapes)}; {accepted}"
            )
        for data in datasets:
            if data.dtype.kind not in "fiu":
                raise UserError(
                    f"{path}: weights: layer {position + 1} with weights: found values of type "
                    f"{data.dtype}, but {application_name(params)} has numbers; {accepted}"
                )


def _find_foreign(file: h5py.File) -> str | None:
    """Return the first item of an HDF5 file whose content is outside it; None if there is none.

    Such items are links to another file or path, and datasets with external or virtual storage.
    """

    def is_link(path: str, link: object) -> str | None:
        return None if isinstance(link, h5py.HardLink) else path

    def is_stored_elsewhere(path: str, item: object) -> str | None:
        elsewhere = isinstance(item, h5py.Dataset) and (item.external or item.is_virtual)
        return path if elsewhere else None

    # Both visit each group once, however many links lead to it.
    return file.visititems_links(is_link) or file.visititems(is_stored_elsewhere)


def _saved_layers(group: h5py.Group) -> Iterator[tuple[str, list[h5py.Dataset]]]:
    """Yield the name and the values of each layer with weights in a Keras file."""
    for layer in _names(group, "layer_names"):
        if datasets := [group[layer][name] for name in _names(group[layer], "weight_names")]:
            yield layer, datasets


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names; Keras splits long lists into parts, `layer_names0`, ..."""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = []
        while f"{attribute}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{attribute}{len(parts)}"])
    return [name.decode() if isinstance(name, bytes) else name for part in parts for name in part]


def _describe(name: str, shapes: list[tuple[int, ...]]) -> str:
    return f"{name} {', '.join(map(str, shapes))}".strip()
