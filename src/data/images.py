"""Images that stay in their file: only those that are asked for come into memory."""

import math
from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """What gives its rows at positions, int [...], as uint8 [..., H, W, C]: also an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows, (M, H, W, C)."""

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]: ...


class MappedImages:
    """Some rows of an array on disk, as if they were the array uint8 [N, H, W, C] of these rows.

    Indexed along the first axis, by a position, a slice, positions or a mask, it gives the images
    meant as an ordinary array; slices of the other axes may follow. So a batch costs a batch's
    memory, and a split of a data set larger than memory only its N row numbers. `np.asarray` reads
    all of them.

    Attributes:
        shape: (N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, array: Rows, rows: NDArray[np.intp]) -> None:
        """Choose the images.

        Args:
            array: uint8 [M, H, W, C], memory-mapped (`np.load(..., mmap_mode="r")`), or what reads
                such an array (`src.data.checked_images.CheckedImages`).
            rows: int [N], which rows of it, in the order wanted.
        """
        self._array = array
        self._rows = rows
        self.shape = (len(rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        first, *others = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(other, slice) for other in others):
            raise TypeError("only slices of the other axes may follow the images asked for")
        images = np.asarray(self._array[self._rows[first]])  # [..., H, W, C]
        return images[(*[slice(None)] * (images.ndim - 3), *others)]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)

    def take(self, indices: NDArray[np.intp]) -> "MappedImages":
        """Return the images at `indices`, int [K], in that order, without reading any."""
        return MappedImages(self._array, self._rows[indices])

    def joined(self, other: "MappedImages") -> "MappedImages":
        """Return these images and, behind them, others of the same array, without reading any."""
        if other._array is not self._array:
            raise ValueError("images of two arrays")
        return MappedImages(self._array, np.concatenate([self._rows, other._rows]))


Images: TypeAlias = NDArray[np.uint8] | MappedImages


def in_pieces(images: Images) -> Iterator[NDArray[np.uint8]]:
    """Yield images some 8 MB at a time, for they may be more than memory holds."""
    size = max(1, (8 << 20) // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), size):
        yield images[start : start + size]
