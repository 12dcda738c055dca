"""The slopes of a batch's distances, found by sorting rows of them in NumPy.

A distance's slope is the derivative of the loss's sum by it; `model/mining/rectangle.py` makes the
gradient of slopes. Rows are sorted in blocks that fit the processor's cache. What a sort must carry
along is packed into one integer, because NumPy sorts integers with vector instructions, many times
faster than TensorFlow's CPU kernels sort floats.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Pairs in a block of rows: 128 Ki of int64 are 1 MiB, so that an array fits the L2 cache. In
# smaller ones threads would wait for each other: between operations each needs the interpreter.
_BLOCK_PAIRS = 1 << 17
_NUM_THREADS = 2

# The lower half of a sort key: the place in the block, and above it a flag that sorts last among
# equals.
_FLAG = 1 << 30
_PLACE = _FLAG - 1


class Rows(NamedTuple):
    """A block of rows of the matrix of distances.

    Attributes:
        distances: float32 [R, C], >= 0, axes anchor and candidate.
        same: bool [R, C], whether the candidate has the anchor's label; each anchor has its own.
        anchors: int [R], the columns of the anchors themselves.
    """

    distances: NDArray[np.float32]
    same: NDArray[np.bool_]
    anchors: NDArray[np.integer]


class Slopes(NamedTuple):
    """What a strategy finds in rows of distances, as arrays or as tensors.

    Attributes:
        slopes: float32 [R, C], the derivative of `loss_sum` by each distance; 0 for the distance of
            an anchor to itself.
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
    """Return what `find` finds in all rows.

    Args:
        find: finds the slopes of a block of rows.
        distances: float32 [A, C], see `Rows`.
        labels: integer [C], of the candidates.
        anchors: integer [A], the columns of the anchors themselves.
    """
    num_anchors, num_candidates = distances.shape
    slopes = np.zeros(distances.shape, np.float32)
    num_rows = max(1, _BLOCK_PAIRS // max(1, num_candidates))

    def find_in_block(start: int) -> tuple[float, int]:
        block = slice(start, start + num_rows)
        if not np.isfinite(distances[block].max()):  # there is no loss then
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
    """Return the threads that blocks are shared out to: NumPy lets go of the interpreter."""
    return ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="mining")


def sort_rows(
    distances: NDArray[np.float32], flag: NDArray[np.bool_], anchors: NDArray[np.integer]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Sort each anchor's row by distance; of equal ones those with the flag come last.

    A key holds in its upper half the bits of the distance, which for floats >= 0 are ordered as the
    numbers are, and in its lower half the flag and the place.

    Args:
        distances: float32 [R, C], >= 0.
        flag: bool [R, C].
        anchors: int [R], see `Rows`.

    Returns:
        The flags, and the places in the flattened block, in sorted order, [R, C - 1]: without the
        anchor itself.
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
    """Bring values, [R, C - 1], back to their places, [R, C]; the anchor's own is 0."""
    num_rows, num_others = places.shape
    unsorted = np.zeros(num_rows * (num_others + 1), np.float32)
    unsorted[places] = values.astype(np.float32)
    return unsorted.reshape(num_rows, num_others + 1)
