"""The images of a split: an array in memory, or an object that reads images when needed."""

import math
from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from src.params.poses import POSES


class Images(Protocol):
    """Images uint8 [N, H, W, C] of a split, in memory or on disk. An array also fits."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8; float32 if these are vectors, [N, 1, F, 1]."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        """Return the images at a position, a slice, positions or a mask as an array."""

    def __iter__(self) -> Iterator[Any]:
        """Yield each image, uint8 [H, W, C]."""

    def take(self, indices: NDArray[np.intp], /, axis: Literal[0]) -> "Images":
        """Return the images at `indices`, int [K], in that order; images on disk stay there."""


class MappedImages:
    """Selected rows of an array on disk, used like an array uint8 [N, H, W, C].

    Index the first axis by a position, a slice, positions or a mask; slices of the other axes may
    follow. The result is an ordinary array. Memory is used only for the N row numbers and for the
    images being read, so a dataset may be larger than memory. `np.asarray` reads all images.

    Attributes:
        shape: (N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, array: Images, rows: NDArray[np.intp]) -> None:
        """Choose the images.

        Args:
            array: uint8 [M, H, W, C], memory-mapped (`np.load(..., mmap_mode="r")`), or an object
                that reads such an array (`src.data.checked_images.CheckedImages`).
            rows: int [N], the rows of `array` to use, in the wanted order.
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

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> "MappedImages":
        """Return the images at `indices`, int [K], in that order; nothing is read yet."""
        return MappedImages(self._array, self._rows[indices])

    def joined(self, other: "MappedImages") -> "MappedImages":
        """Return these images followed by others of the same array; nothing is read yet."""
        if other._array is not self._array:
            raise ValueError("images of two arrays")
        return MappedImages(self._array, np.concatenate([self._rows, other._rows]))


class PosedImages:
    """Images as they are, then again in each pose; an image is transformed when it is read.

    With N images, position i + p N is image i in pose p; pose 0 is upright. Index the first axis
    by positions, slices or masks.

    Attributes:
        shape: ((1 + poses) N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, images: Images, poses: Sequence[str]) -> None:
        """Use `images`, uint8 [N, H, W, C]; they must be square if a pose is a quarter turn."""
        self._images = images
        self._poses = poses
        self._positions = np.arange((1 + len(poses)) * len(images))
        self.shape = (len(self._positions), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        poses, rows = np.divmod(self._positions[key], len(self._images))
        images = np.array(self._images[rows])  # [M, H, W, C], not a view
        for number, pose in enumerate(self._poses, start=1):
            mirrored, quarter_turns = POSES[pose]
            chosen = images[poses == number]
            if mirrored:
                chosen = chosen[:, :, ::-1]
            images[poses == number] = np.rot90(chosen, quarter_turns, axes=(1, 2))
        return images

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> MappedImages:
        """Return the images at `indices`, int [K], in that order; none is transformed yet."""
        return MappedImages(self, indices)


class ChainedImages:
    """Images of several splits, one after the other; each is read from its own when needed.

    Index the first axis by positions, slices or masks.

    Attributes:
        shape: (N, H, W, C), N the number of all images.
        dtype: of all of them: uint8, or float32 for vectors.
    """

    ndim = 4

    def __init__(self, parts: Sequence[Images]) -> None:
        """Chain `parts`, each [N_i, H, W, C] with the same H, W, C and dtype."""
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])
        self.dtype = parts[0].dtype
        self.shape = (int(self._ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        positions = np.arange(len(self))[key]  # [...]
        numbers = np.searchsorted(self._ends, positions, side="right")
        images = np.empty((*positions.shape, *self.shape[1:]), self.dtype)
        for number, part in enumerate(self._parts):
            chosen = numbers == number
            if chosen.any():
                images[chosen] = part[positions[chosen] - (self._ends[number] - len(part))]
        return images

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> Images:
        """Return the images at `indices`, int [K], in that order; nothing is read yet.

        Vectors are read, because they are in memory anyway.
        """
        return MappedImages(self, indices) if self.dtype == np.uint8 else self[indices]


@singledispatch
def joined(images: Images, others: Images) -> Images:
    """Return images followed by others: an array or, if both are of one file, unread rows."""
    return np.concatenate([images[:], others[:]])


joined.register(MappedImages, MappedImages.joined)


def in_pieces(images: Images) -> Iterator[NDArray[np.uint8]]:
    """Yield images in pieces of about 8 MB, because all together may not fit in memory."""
    size = max(1, (8 << 20) // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), size):
        yield images[start : start + size]
