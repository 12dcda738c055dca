"""Caches computed arrays in files, each with the key it was computed from."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.system.atomic import atomic_write
from src.system.regular_file import open_regular


def cached(
    path: Path,
    key: Mapping[str, object],
    compute: Callable[[], NDArray[Any]],
    could_be: Callable[[NDArray[Any]], bool] = lambda _: True,
) -> NDArray[Any]:
    """Return the array in `path` if it was computed from `key`; otherwise compute and store it.

    Args:
        path: an `.npz` file of the array and its key. It is written anew if it is missing, damaged
            or has another key.
        key: everything the array depends on, as JSON values.
        compute: returns the array, of numbers or text.
        could_be: returns whether `compute` could return such an array. Key and checksum cannot
            detect a wrong array that another program has written.
    """
    kept = kept_in(path, key)
    if kept is not None and could_be(kept):
        return kept
    array = compute()
    save_cached(path, key, array)
    return array


def kept_in(path: Path, key: Mapping[str, object]) -> NDArray[Any] | None:
    """Return the array in `path` if it was computed from `key`; otherwise None. See `cached`."""
    kept = load_arrays(path) or {}
    is_whole = kept.keys() == {"array", "key"}
    return kept["array"] if is_whole and np.array_equal(kept["key"], _text(key)) else None


def save_cached(path: Path, key: Mapping[str, object], array: NDArray[Any]) -> None:
    """Store an array for `kept_in`.

    Raises:
        UserError: the file cannot be written.
    """
    save_arrays(path, {"array": array, "key": _text(key)})


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of numbers or text to an `.npz` file, with one checksum over all of them.

    Raises:
        UserError: the file cannot be written.
    """
    contents: dict[str, Any] = {**arrays, "checksum": _checksum(arrays)}
    with atomic_write(path) as file:
        np.savez(file, **contents)


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return what `save_arrays` wrote; None if the file is missing or was changed."""
    try:
        with open_regular(path) as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except Exception:
        # Damaged files make zipfile and NumPy raise almost anything: BadZipFile, zlib.error,
        # NotImplementedError, MemoryError, ...
        return None
    checksum = arrays.pop("checksum", None)
    return arrays if np.array_equal(checksum, _checksum(arrays)) else None


def digest(parts: Iterable[NDArray[Any] | bytes]) -> str:
    """Return the SHA-256 of arrays (dtype, shape and values) and bytes, in this order."""
    sha256 = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            sha256.update(part)
        else:
            sha256.update(f"{part.dtype.str}{part.shape}".encode())
            sha256.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()


def _text(key: Mapping[str, object]) -> NDArray[np.str_]:
    return np.array(json.dumps(key, sort_keys=True))


def _checksum(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.str_]:
    def parts() -> Iterator[NDArray[Any] | bytes]:
        for name in sorted(arrays):
            yield name.encode()
            yield arrays[name]

    return np.array(digest(parts()))
