"""Arrays that are computed once: kept in a file together with what they were computed from."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.atomic import atomic_write


def cached(
    path: Path, key: Mapping[str, object], compute: Callable[[], NDArray[Any]]
) -> NDArray[Any]:
    """Return the array in `path` if it was computed from `key`, else compute and keep it.

    Args:
        path: an `.npz` file of the array and the key; any that is missing, damaged or of another
            key is written anew.
        key: all that the array depends on, as JSON can hold it.
        compute: returns the array, of numbers or text.
    """
    text = json.dumps(key, sort_keys=True)
    if (kept := _read(path, text)) is not None:
        return kept
    array = compute()
    with atomic_write(path) as file:
        np.savez(file, array=array, key=np.array(text))
    return array


def digest(parts: Iterable[NDArray[Any] | bytes]) -> str:
    """Return a SHA-256 of arrays (type, shape and numbers) and bytes, in this order."""
    sha256 = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            sha256.update(part)
        else:
            sha256.update(f"{part.dtype.str}{part.shape}".encode())
            sha256.update(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data)
    return sha256.hexdigest()


def _read(path: Path, key: str) -> NDArray[Any] | None:
    """Return the array that `path` holds for `key`; None where it holds none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["array"]) if str(file["key"]) == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
