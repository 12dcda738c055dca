"""Pictures compared with their digests when they are first read; damaged ones are made anew."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.data.digests import digests_of
from src.data.images import MappedImages


class CheckedImages:
    """The rows of an array on disk, each verified when it is first read.

    Verified is what was read, not the file: after that a row costs no more than without. A damaged
    one is replaced in what is returned, and verified again the next time.

    Attributes:
        shape: (N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        array: NDArray[np.uint8],
        digests: NDArray[np.uint64],
        restore: Callable[[int], NDArray[np.uint8]],
    ) -> None:
        """Trust no row yet.

        Args:
            array: uint8 [N, H, W, C], memory-mapped.
            digests: uint64 [N], the rows' `digests_of`; 0 where any content is right.
            restore: returns the right content of a row, uint8 [H, W, C], given its position. It may
                put it into the file, too.
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
        """Return the rows at a position, a slice, positions or a mask, as uint8 [..., H, W, C].

        Raises:
            Exception: whatever `restore` raises.
        """
        rows = self._positions[key]
        images: NDArray[np.uint8] = np.take(self._array, rows, axis=0)
        if not np.all(self._verified[rows]):
            self._verify(np.reshape(rows, -1), images.reshape(-1, *self.shape[1:]))
        return images

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> MappedImages:
        """Return the images at `indices`, int [K], in that order, without reading any."""
        return MappedImages(self, indices)

    def _verify(self, rows: NDArray[np.intp], images: NDArray[np.uint8]) -> None:
        """Compare images [K, H, W, C] with the digests of their rows [K]; replace damaged ones."""
        unseen = np.flatnonzero(~self._verified[rows])
        is_right = digests_of(MappedImages(images, unseen)) == self._digests[rows[unseen]]
        self._verified[rows[unseen[is_right]]] = True
        for position in unseen[~is_right]:
            images[position] = self._restore(int(rows[position]))
