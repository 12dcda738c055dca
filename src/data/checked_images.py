"""Verifies each cached image against its digest on first read, and restores damaged ones."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.data.cache_files import ShardedImages
from src.data.digests import digests_of
from src.data.images import MappedImages


class CheckedImages:
    """The rows of an array on disk; each row is verified when it is first read.

    The data read are verified, not the file. A verified row is not checked again, so later reads
    cost nothing extra. A damaged row is replaced in the result, and verified again next time.

    Attributes:
        shape: (N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        array: NDArray[np.uint8] | ShardedImages,
        digests: NDArray[np.uint64],
        restore: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        """Mark all rows as not yet verified, except those with digest 0.

        Args:
            array: uint8 [N, H, W, C], memory-mapped, or several such arrays in a row.
            digests: uint64 [N], the rows' `digests_of`; 0 if any content is accepted.
            restore: given a row's position, returns its correct content, uint8 [H, W, C]. It may
                also write this content to the file.
        """
        self.shape = array.shape
        self._array = array
        self._digests = digests
        self._restore = restore
        self._verified = digests == 0
        self._positions = np.arange(len(array))

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return the rows selected by `key`, uint8 [..., H, W, C].

        The key is a position, a slice, an array of positions or a mask.

        Raises:
            Exception: any that `restore` raises.
        """
        rows = self._positions[key]
        images: NDArray[np.uint8] = self._array.take(rows, axis=0)
        if not np.all(self._verified[rows]):
            self._verify(np.reshape(rows, -1), images.reshape(-1, *self.shape[1:]))
        return images

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> MappedImages:
        """Return the images at `indices`, int [K], in that order; nothing is read yet."""
        return MappedImages(self, indices)

    def _verify(self, rows: NDArray[np.intp], images: NDArray[np.uint8]) -> None:
        """Compare images [K, H, W, C] with their rows' digests; replace damaged ones in place.

        Args:
            rows: int [K].
            images: uint8 [K, H, W, C], the content read from these rows.
        """
        unseen = np.flatnonzero(~self._verified[rows])
        is_right = digests_of(MappedImages(images, unseen)) == self._digests[rows[unseen]]
        self._verified[rows[unseen[is_right]]] = True
        for position in unseen[~is_right]:
            images[position] = self._restore(int(rows[position]))
