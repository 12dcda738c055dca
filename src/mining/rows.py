"""The weights of a batch's distances, found by sorting rows of them in NumPy.

What a weight is, and what becomes of it, says `model/mining/distances.py`. Everything here is done
in blocks of rows that fit the processor's cache. To sort rows, what a sort must carry along is
packed into one integer, for NumPy sorts integers with vector instructions, many times faster than
TensorFlow's CPU kernels sort floats.
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
    """A block of rows of the batch's distance matrix.

    Attributes:
        distances: float32 [R, B], >= 0, axes anchor and other.
        same: bool [R, B], whether the other has the anchor's label; so it has itself.
        anchors: int [R], the columns of the anchors themselves.
    """

    distances: NDArray[np.float32]
    same: NDArray[np.bool_]
    anchors: NDArray[np.intp]


class Weights(NamedTuple):
    """What a strategy finds in a block of rows, or in all of them.

    Attributes:
        weights: float32 [R, B], the derivative of `loss_sum` by each distance; 0 for the anchors.
        loss_sum: the sum of the triplets' losses.
        num_positive_triplets: how many of the triplets looked at are positive.
    """

    weights: NDArray[np.float32]
    loss_sum: float
    num_positive_triplets: int


def weigh_in_blocks(
    weigh: Callable[[Rows], Weights], distances: NDArray[np.float32], labels: NDArray[np.integer]
) -> Weights:
    """Return what `weigh` finds in all rows.

    Args:
        weigh: finds the weights in a block of rows.
        distances: float32 [B, B], see `Rows`.
        labels: integer [B].
    """
    size = len(distances)
    weights = np.zeros((size, size), np.float32)
    num_rows = max(1, _BLOCK_PAIRS // max(1, size))

    def weigh_block(start: int) -> tuple[float, int]:
        block = slice(start, start + num_rows)
        if not np.isfinite(distances[block].max()):  # there is no loss then
            return 0.0, 0
        same = labels[block, None] == labels
        found = weigh(Rows(distances[block], same, np.arange(size)[block]))
        weights[block] = found.weights
        return found.loss_sum, found.num_positive_triplets

    starts = range(0, size, num_rows)
    in_turn = map if len(starts) < _NUM_THREADS else _threads().map
    found = list(in_turn(weigh_block, starts))
    loss_sums, nums_positive = zip(*found, strict=True) if found else ((), ())
    return Weights(weights, sum(loss_sums), sum(nums_positive))


@cache
def _threads() -> ThreadPoolExecutor:
    """Return the threads that blocks are shared out to: NumPy lets go of the interpreter."""
    return ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="mining")


def sort_rows(
    distances: NDArray[np.float32], flag: NDArray[np.bool_], anchors: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Sort each anchor's row by distance; of equal ones those with the flag come last.

    A key holds in its upper half the bits of the distance, which for floats >= 0 are ordered as the
    numbers are, and in its lower half the flag and the place.

    Args:
        distances: float32 [R, B], >= 0.
        flag: bool [R, B].
        anchors: int [R], see `Rows`.

    Returns:
        The flags, and the places in the flattened block, in sorted order, [R, B - 1]: without the
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
    """Bring values, [R, B - 1], back to their places, [R, B]; the anchor's own is 0."""
    num_rows, num_others = places.shape
    unsorted = np.zeros(num_rows * (num_others + 1), np.float32)
    unsorted[places] = values.astype(np.float32)
    return unsorted.reshape(num_rows, num_others + 1)
