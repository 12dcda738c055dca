"""Slopes of a batch's distances, found in NumPy by sorting each anchor's row.

A distance's slope is the derivative of the loss sum with respect to it. `model/mining/rectangle.py`
computes the gradient from the slopes. Rows are sorted in blocks that fit the processor's cache.
Each sort key packs the distance, a flag and the place into one integer. NumPy sorts integers with
vector instructions, many times faster than TensorFlow's CPU kernels sort floats.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Pairs in a block of rows. 128 Ki of int64 are 1 MiB, so an array fits the L2 cache. With smaller
# blocks, threads wait for each other, because each needs the interpreter between operations.
BLOCK_PAIRS = 1 << 17
_NUM_THREADS = 2

# The lower half of a sort key: the place in the block, and above it a flag. Of equal distances,
# those with the flag sort last.
_FLAG = 1 << 30
_PLACE = _FLAG - 1


class Rows(NamedTuple):
    """A block of rows of the distance matrix.

    Attributes:
        distances: float32 [R, C], >= 0; axes: anchor, candidate.
        same: bool [R, C], whether the candidate has the anchor's label; True for the anchor itself.
        anchors: int [R], the columns of the anchors themselves.
    """

    distances: NDArray[np.float32]
    same: NDArray[np.bool_]
    anchors: NDArray[np.integer]


class Slopes(NamedTuple):
    """The result of a strategy for rows of distances, as arrays or as tensors.

    Attributes:
        slopes: float32 [R, C], the derivative of `loss_sum` with respect to each distance; 0 for
            the distance of an anchor to itself.
        loss_sum: float64, the sum of the triplets' losses.
        num_positive_triplets: int64, the number of triplets whose loss is > 0.
    """

    slopes: Any
    loss_sum: Any
    num_positive_triplets: Any


def find_in_blocks(
    find: Callable[[Rows], Slopes],
    distances: NDArray[np.float32],
    labels: NDArray[np.integer],
    anchors: NDArray[np.integer],
) -> Slopes:
    """Apply `find` to all rows, block by block, and return the combined result.

    Args:
        find: returns the slopes of a block of rows.
        distances: float32 [A, C], see `Rows`.
        labels: integer [C], of the candidates.
        anchors: integer [A], the columns of the anchors themselves.
    """
    num_anchors, num_candidates = distances.shape
    slopes = np.zeros(distances.shape, np.float32)
    num_rows = max(1, BLOCK_PAIRS // max(1, num_candidates))

    def find_in_block(start: int) -> tuple[float, int]:
        block = slice(start, start + num_rows)
        if not np.isfinite(distances[block].max()):  # no loss then
            return 0.0, 0
        own = anchors[block]
        found = find(Rows(distances[block], labels[own, None] == labels, own))
        slopes[block] = found.slopes
        return found.loss_sum, found.num_positive_triplets

    starts = range(0, num_anchors, num_rows)
    in_turn = map if len(starts) < _NUM_THREADS else _threads().map
    found = list(in_turn(find_in_block, starts))
    loss_sums, nums_positive = zip(*found, strict=True) if found else ((), ())
    return Slopes(slopes, np.float64(sum(loss_sums)), np.int64(sum(nums_positive)))


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that process blocks: NumPy releases the interpreter meanwhile."""
    return ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="mining")


def sort_rows(
    distances: NDArray[np.float32], flag: NDArray[np.bool_], anchors: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Sort each anchor's row by distance; of equal distances, those with the flag come last.

    A key's upper half holds the bits of the distance. For floats >= 0 they have the same order as
    the numbers. The lower half holds the flag and the place.

    Args:
        distances: float32 [R, C], >= 0.
        flag: bool [R, C].
        anchors: int [R], see `Rows`.

    Returns:
        The flags and the places in the flattened block, each [R, C - 1], in sorted order. The
        anchor itself is left out.
    """
    low = flag.astype(np.int32)
    low *= _FLAG
    low += np.arange(flag.size, dtype=np.int32).reshape(flag.shape)
    keys = distances.view(np.int32).astype(np.int64)
    keys <<= 32
    keys |= low
    keys[np.arange(len(keys)), anchors] = -1  # before all others
    keys.sort(axis=1)
    low = keys[:, 1:].astype(np.int32)  # the lower halves
    return low >= _FLAG, (low & _PLACE).astype(np.intp)


def unsort_rows(values: NDArray[Any], places: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return `values`, [R, C - 1], at their original places, [R, C]; 0 for the anchor itself."""
    num_rows, num_others = places.shape
    unsorted = np.zeros(num_rows * (num_others + 1), np.float32)
    unsorted[places] = values.astype(np.float32)
    return unsorted.reshape(num_rows, num_others + 1)
