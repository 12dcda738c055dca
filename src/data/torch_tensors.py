"""Reads the tensors of a PyTorch state dict without PyTorch, in the format before version 1.6.

Such a file is a pickle, which could run code when it is read. Here the unpickler knows four names,
and they make arrays; any other name is refused before anything is called.

Source: `torch.serialization`, `_legacy_load`.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001


class _Storage(NamedTuple):
    """A one-dimensional array whose values come later in the file."""

    key: str
    dtype: np.dtype[Any]
    size: int


class _Tensor(NamedTuple):
    """A part of a storage; strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a state dict by name; float32 and int64 as arrays of any shape.

    Args:
        content: the file.

    Raises:
        UserError: it is no such file, or holds anything but tensors.
    """
    file = io.BytesIO(content)
    try:
        return _read(file)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise _no_tensors(f"{type(error).__name__}: {error}") from None


def _read(file: BinaryIO) -> dict[str, NDArray[Any]]:
    if _load(file) != _MAGIC_NUMBER or _load(file) != _PROTOCOL_VERSION:
        raise _no_tensors("another format")
    if not _load(file)["little_endian"]:
        raise _no_tensors("numbers with the highest byte first")
    named = _load(file)
    tensors = {name: value for name, value in named.items() if isinstance(value, _Tensor)}
    if len(tensors) != len(named) or not all(isinstance(name, str) for name in tensors):
        raise _no_tensors("values that are no tensors")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values = {}
    for key in _load(file):
        (size,) = np.frombuffer(file.read(8), "<i8")
        storage = storages[key]
        if size != storage.size:
            raise _no_tensors(f"a storage of {size} numbers instead of {storage.size}")
        data = file.read(storage.size * storage.dtype.itemsize)
        values[key] = np.frombuffer(data, storage.dtype, storage.size)
    return {name: _array(tensor, values) for name, tensor in tensors.items()}


def _array(tensor: _Tensor, values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return a tensor as an array of its own."""
    of_storage = values[tensor.storage.key]
    steps = [(size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True)]
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or (
        0 not in tensor.shape and tensor.offset + sum(steps) >= len(of_storage)
    ):
        raise _no_tensors("a tensor that reaches beyond its storage")
    strides = [step * of_storage.itemsize for step in tensor.strides]
    part = of_storage[tensor.offset :]
    return np.lib.stride_tricks.as_strided(part, tensor.shape, strides, writeable=False).copy()


def _load(file: BinaryIO) -> Any:
    """Return the next object of the file."""
    return _Tensors(file).load()


class _Tensors(pickle.Unpickler):
    """Unpickles tensors, and containers and numbers, which need no name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name in the file stands for; refuse all names but those of tensors."""
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in known:
            raise _no_tensors(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, identifier: Any) -> _Storage:
        """Return a storage for its identifier in the file."""
        kind, dtype, key, _, size, view = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype) or view is not None:
            raise _no_tensors("a storage of another kind")
        return _Storage(str(key), dtype, int(size))


def _rebuilt(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    """Return a tensor; its further arguments concern gradients."""
    if not isinstance(storage, _Storage):
        raise _no_tensors("a tensor without storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _no_tensors(found: str) -> UserError:
    return UserError(f"state dict: found {found}; accepted: a PyTorch file of tensors alone")
