"""What the images of a split are: an array, or what reads each image when it is needed."""

import math
from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from src.params.poses import POSES


class Images(Protocol):
    """Images uint8 [N, H, W, C] of a split, wherever they are. An array is one of these, too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, H, W, C)."""

    def __len__(self) -> int:
        """Return N."""

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        """Return the images at a position, a slice, positions or a mask, as an array."""

    def __iter__(self) -> Iterator[Any]:
        """Yield each image, uint8 [H, W, C]."""

    def take(self, indices: NDArray[np.intp], /, axis: Literal[0]) -> "Images":
        """Return the images at `indices`, int [K], in that order; images on disk stay there."""


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

    def __init__(self, array: Images, rows: NDArray[np.intp]) -> None:
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

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> "MappedImages":
        """Return the images at `indices`, int [K], in that order, without reading any."""
        return MappedImages(self._array, self._rows[indices])

    def joined(self, other: "MappedImages") -> "MappedImages":
        """Return these images and, behind them, others of the same array, without reading any."""
        if other._array is not self._array:
            raise ValueError("images of two arrays")
        return MappedImages(self._array, np.concatenate([self._rows, other._rows]))


class PosedImages:
    """Images upright, and once more in each pose; each is turned when it is read.

    With N images, position i + p N is image i in the pose p, the first of which is upright. Indexed
    by positions, slices or masks along the first axis.

    Attributes:
        shape: ((1 + poses) N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, images: Images, poses: Sequence[str]) -> None:
        """Pose `images`, uint8 [N, H, W, C], which are square if a pose is a quarter turn."""
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
        """Return the images at `indices`, int [K], in that order, without turning any."""
        return MappedImages(self, indices)


@singledispatch
def joined(images: Images, others: Images) -> Images:
    """Return images and, behind them, others: an array; or unread rows, if both are of one file."""
    return np.concatenate([images[:], others[:]])


joined.register(MappedImages, MappedImages.joined)


def in_pieces(images: Images) -> Iterator[NDArray[np.uint8]]:
    """Yield images some 8 MB at a time, because they may be more than memory holds."""
    size = max(1, (8 << 20) // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), size):
        yield images[start : start + size]
