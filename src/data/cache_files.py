"""The files of an image cache: the images (.npy) and the index that describes them (.npz).

The images may be in several files, the shards, in folders on different disks. Each has consecutive
rows. The index of all is beside each.
"""

import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.system.cache import load_arrays, save_arrays
from src.system.regular_file import open_regular


class Index(NamedTuple):
    """The content of the .npz file, which describes the images.

    Attributes:
        facts: uint64 [N], hashes of the name and state of each source file; see
            `src.data.picture_files.PictureFiles.facts`.
        digests: uint64 [N], hashes of the pixels; 0 if a picture is bad.
        file_digests: uint64 [N], hashes of the files' content; 0 if a picture is bad.
        reasons: why each bad picture is bad, in order of position.
    """

    facts: NDArray[np.uint64]
    digests: NDArray[np.uint64]
    file_digests: NDArray[np.uint64]
    reasons: list[str]


def load_index(cache_path: Path, key: str) -> Index | None:
    """Return the index if it is intact and its key is `key`, else None."""
    arrays = load_arrays(cache_path.with_suffix(".npz"))
    try:
        if arrays is None or str(arrays["key"]) != key:
            return None
        columns = (arrays["facts"], arrays["digests"], arrays["file_digests"])
        index = Index(*columns, json.loads(arrays["reasons"].tobytes()))
        num_bad = np.count_nonzero(index.digests == 0)
    except (ValueError, KeyError):
        return None
    are_columns = all(
        column.dtype == np.uint64 and column.shape == (index.facts.size,) for column in columns
    )
    return index if are_columns and len(index.reasons) == num_bad else None


def save_index(cache_path: Path, key: str, index: Index) -> None:
    """Write the index beside the images."""
    arrays = {
        "key": np.array(key),
        "facts": index.facts,
        "digests": index.digests,
        "file_digests": index.file_digests,
        "reasons": np.frombuffer(json.dumps(index.reasons).encode(), np.uint8),
    }
    save_arrays(cache_path.with_suffix(".npz"), arrays)


class Shard(NamedTuple):
    """A file of images, and the rows that it has.

    Attributes:
        path: the .npy file.
        start: the first row.
        shape: (n, S, S, C), of its images.
    """

    path: Path
    start: int
    shape: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The row behind the last."""
        return self.start + self.shape[0]


def shards_of(cache_paths: Sequence[Path], shape: tuple[int, ...]) -> list[Shard]:
    """Divide images of `shape`, (N, S, S, C), among files as equally as possible, in order."""
    bounds = [shape[0] * number // len(cache_paths) for number in range(len(cache_paths) + 1)]
    return [
        Shard(path, start, (stop - start, *shape[1:]))
        for path, start, stop in zip(cache_paths, bounds[:-1], bounds[1:], strict=True)
    ]


class ShardedImages:
    """The images of several shards, indexed like one array.

    Attributes:
        shape: (N, S, S, C).
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        """Join `parts`, each uint8 [n, S, S, C], memory-mapped; nothing is read yet."""
        self._parts = parts
        self._stops = np.cumsum([len(part) for part in parts])
        self.shape: tuple[int, ...] = (int(self._stops[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, indices: NDArray[np.intp], axis: int = 0, **_: Any) -> NDArray[np.uint8]:
        """Read rows, as `np.take` does; only the shards of these rows are read.

        Args:
            indices: int, any shape; positions >= 0.
            axis: 0.

        Returns:
            uint8 [..., S, S, C].
        """
        rows = np.reshape(indices, -1)
        found = np.empty((len(rows), *self.shape[1:]), np.uint8)
        owners = np.searchsorted(self._stops, rows, side="right")
        for owner in np.unique(owners):
            is_there = owners == owner
            part = self._parts[owner]
            found[is_there] = part[rows[is_there] - (self._stops[owner] - len(part))]
        return found.reshape(*np.shape(indices), *self.shape[1:])


class Mapped(NamedTuple):
    """The .npy file.

    Attributes:
        images: uint8 [N, S, S, C], memory-mapped.
        status: identifies the file.
        has_header: whether the file begins with the expected header.
    """

    images: NDArray[np.uint8]
    status: os.stat_result
    has_header: bool


def map_images(cache_path: Path, shape: tuple[int, ...]) -> Mapped | None:
    """Map the .npy file; return None if it is missing or its size does not fit this shape."""
    header = npy_header(shape)
    try:
        with open_regular(cache_path) as file:
            status = os.fstat(file.fileno())
            if status.st_size != len(header) + math.prod(shape):
                return None
            has_header = file.read(len(header)) == header
            if not math.prod(shape):  # nothing to map
                return Mapped(np.empty(shape, np.uint8), status, has_header)
            images: NDArray[np.uint8] = np.memmap(file, np.uint8, "r", len(header), shape)
            return Mapped(np.asarray(images), status, has_header)
    except (OSError, ValueError):
        return None


def npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the header of the .npy file that holds uint8 images of this shape."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()
