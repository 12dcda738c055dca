"""Shows vectors as small pictures, so that whatever shows images can show them."""

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.data.images import Images

# The numbers of a vector are compared with those of so many others.
_NUM_COMPARED = 1000

_LOWEST, _HIGHEST = 2, 98  # percentiles: black and white
_GREY = 128  # where there is no number, or nothing to compare


class HeatMaps:
    """The vectors of a split as grey squares, read row by row, one cell for each number.

    A cell is black at the number's 2nd percentile in the split and white at its 98th, so numbers on
    different scales are equally visible. A map is made when it is read.

    Attributes:
        shape: (N, S, S, 1); S is the root of the vectors' length, rounded up.
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, vectors: Images) -> None:
        """Compare about a thousand vectors, float32 [N, 1, F, 1]."""
        self._vectors = vectors
        self._length = vectors.shape[2]
        side = math.isqrt(self._length - 1) + 1
        self.shape = (len(vectors), side, side, 1)
        some = vectors[:: max(1, len(vectors) // _NUM_COMPARED)]
        self._low, high = np.percentile(some, [_LOWEST, _HIGHEST], axis=0)  # each [1, F, 1]
        self._span = high - self._low

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        """Return the maps at a position, a slice, positions or a mask, uint8 [..., S, S, 1]."""
        first, *others = key if isinstance(key, tuple) else (key,)
        vectors = np.asarray(self._vectors[first], np.float64)  # [..., 1, F, 1]
        shares = np.full(vectors.shape, _GREY / 255)
        np.divide(vectors - self._low, self._span, out=shares, where=self._span > 0)
        levels = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
        of_cells = levels.reshape(*vectors.shape[:-3], self._length)
        maps = np.full((*of_cells.shape[:-1], math.prod(self.shape[1:])), _GREY, np.uint8)
        maps[..., : self._length] = of_cells
        maps = maps.reshape(*of_cells.shape[:-1], *self.shape[1:])
        return maps[(*[slice(None)] * (maps.ndim - 3), *others)]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[position] for position in range(len(self)))

    def take(self, indices: NDArray[np.intp], axis: Literal[0] = 0) -> NDArray[np.uint8]:
        """Return the maps at `indices`, int [K], uint8 [K, S, S, 1]."""
        return self[indices]
