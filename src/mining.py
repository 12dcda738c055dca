"""Counting triplets by sorting: how often each distance of a batch stands in its loss.

A triplet loss over the triplets that are positive, the sum of d(a,p) - d(a,n) + margin, is linear
in the distances: each d(a,p) stands in it once for each negative that makes a positive triplet with
(a, p), and each d(a,n) minus once for each such positive. These numbers, the weights, are all that
mining has to find, and they are the gradient too.

They come from sorting each anchor's row, so B^2 log B steps instead of B^3, and in blocks of rows
that fit the processor's cache. NumPy sorts integers with vector instructions, many times faster
than TensorFlow's CPU kernels sort floats. So all that a sort must carry along is packed into one
int64: the distance in the upper half (the bits of a float32 >= 0 are ordered as the number is), in
the lower half what the example is to the anchor, and its column.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Pairs in a block of rows: 64 Ki of int64 are 512 KiB, what a processor's L2 cache takes.
_BLOCK_PAIRS = 1 << 16

# The lower half of a sort key: the column, and above it a flag that sorts last among equals.
_FLAG = 30
_COLUMN = (1 << _FLAG) - 1


class Weights(NamedTuple):
    """How often each distance stands in a loss.

    Where a distance is not finite, neither are the weights and the loss.

    Attributes:
        weights: float32 [B, B], axes anchor and other: positive numbers for positives, negative
            ones for negatives, 0 elsewhere.
        loss_sum: the sum of the losses of the positive triplets.
        num_positive_triplets: how many triplets those are.
        num_valid_triplets: how many there are.
    """

    weights: NDArray[np.float32]
    loss_sum: float
    num_positive_triplets: int
    num_valid_triplets: int


def batch_all_weights(
    distances: NDArray[np.float32], labels: NDArray[np.integer], margin: float
) -> Weights:
    """Weigh the distances by all positive triplets: those with d(a,n) < d(a,p) + margin.

    Args:
        distances: float32 [B, B], >= 0.
        labels: integer [B].
        margin: > 0, in units of the distance.

    Returns:
        The weights; counts are of triplets.
    """

    def weigh(rows: slice) -> tuple[NDArray[np.float32], int, int]:
        same = labels[rows, None] == labels[None, :]  # [rows, B]
        # Where d(a,n) = d(a,p) + margin the loss is 0: the negative comes last, not counted.
        is_negative, columns = _sort(
            distances[rows] + same * np.float32(margin), flag=~same, rows=rows
        )
        num_negatives = np.cumsum(is_negative, axis=1, dtype=np.int32)  # nearer or here
        num_positives = np.arange(1, len(labels), dtype=np.int32) - num_negatives
        total_positives, total_negatives = num_positives[:, -1:], num_negatives[:, -1:]
        weights = np.where(is_negative, num_positives - total_positives, num_negatives)
        num_valid = np.einsum("ij,ij->", total_positives, total_negatives, dtype=np.int64)
        # A positive triplet adds 1 to a positive's weight and takes 1 from a negative's.
        num_positive = np.abs(weights).sum(dtype=np.int64) // 2
        return _unsort(weights, columns), int(num_positive), int(num_valid)

    return _by_blocks(weigh, distances, margin)


def batch_semihard_weights(
    distances: NDArray[np.float32], labels: NDArray[np.integer], margin: float
) -> Weights:
    """Weigh the distances by one triplet for each anchor and positive, if it is positive.

    Its negative is the nearest one farther from the anchor than the positive is; where there is
    none, the farthest negative.

    Args:
        distances: float32 [B, B], >= 0.
        labels: integer [B].
        margin: > 0, in units of the distance.

    Returns:
        The weights; counts are of pairs (a, p) that have a negative.

    Source:
        arXiv:1503.03832, section 3.2; with the farthest negative in place of none as in
        TensorFlow's own `triplet_semihard_loss`.
    """

    def weigh(rows: slice) -> tuple[NDArray[np.float32], int, int]:
        same = labels[rows, None] == labels[None, :]  # [rows, B]
        # Strictly farther: among equal distances the positive comes last.
        is_positive, columns = _sort(distances[rows], flag=same, rows=rows)
        row_starts = np.arange(len(columns))[:, None] * len(labels)
        ordered = distances[rows].reshape(-1)[columns + row_starts]  # [rows, B - 1]
        # The place of the nearest negative behind each place, found from the right; the last
        # negative's where there is none behind.
        places = np.arange(columns.shape[1])
        behind = np.where(is_positive, len(places), places)
        chosen = np.minimum.accumulate(behind[:, ::-1], axis=1)[:, ::-1]
        last = np.where(is_positive, -1, places).max(axis=1, keepdims=True, initial=-1)
        chosen = np.minimum(chosen, last)
        row, place = np.nonzero(is_positive & (last >= 0))
        chosen = chosen[row, place]
        is_active = ordered[row, place] - ordered[row, chosen] + np.float32(margin) > 0

        weights = np.zeros(columns.shape, np.int32)
        weights[row, place] = is_active
        np.subtract.at(weights, (row, chosen), is_active)
        return _unsort(weights, columns), int(is_active.sum()), len(row)

    return _by_blocks(weigh, distances, margin)


def _sort(
    distances: NDArray[np.float32], *, flag: NDArray[np.bool_], rows: slice
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Sort each anchor's row by distance; of equal ones those with the flag come last.

    Args:
        distances: float32 [rows, B], >= 0.
        flag: bool [rows, B].
        rows: which rows of the batch these are.

    Returns:
        The flags and the columns in sorted order, [rows, B - 1]: without the anchor itself.
    """
    columns = np.arange(distances.shape[1], dtype=np.int64)
    keys = distances.view(np.int32).astype(np.int64)
    keys <<= 32
    keys |= flag.astype(np.int64) << _FLAG
    keys |= columns
    keys[np.arange(len(keys)), columns[rows]] = -1  # the anchor: before all others
    keys.sort(axis=1)
    low = keys[:, 1:].astype(np.int32)  # the lower halves
    return (low >> _FLAG).astype(np.bool_), low & _COLUMN


def _unsort(values: NDArray[np.int32], columns: NDArray[np.int32]) -> NDArray[np.float32]:
    """Bring values, [rows, B - 1], back to their columns, [rows, B]; the anchor's own is 0."""
    num_rows, num_others = columns.shape
    unsorted = np.zeros((num_rows, num_others + 1), np.float32)
    row_starts = np.arange(num_rows)[:, None] * (num_others + 1)
    unsorted.reshape(-1)[columns + row_starts] = values
    return unsorted


def _by_blocks(
    weigh: Callable[[slice], tuple[NDArray[np.float32], int, int]],
    distances: NDArray[np.float32],
    margin: float,
) -> Weights:
    """Weigh all rows, a block at a time, and several blocks at once where there are several."""
    if not np.isfinite(distances).all():
        return Weights(np.full_like(distances, np.nan), np.nan, 1, 1)
    size = len(distances)
    weights = np.empty_like(distances)
    num_rows = max(1, _BLOCK_PAIRS // max(1, size))

    def run(start: int) -> tuple[float, int, int]:
        rows = slice(start, min(start + num_rows, size))
        weights[rows], num_positive, num_valid = weigh(rows)
        # In float64: the two parts nearly cancel where losses are small beside the distances.
        distance_sum = np.einsum("ij,ij->", weights[rows], distances[rows], dtype=np.float64)
        return float(distance_sum), num_positive, num_valid

    starts = range(0, size, num_rows)
    blocks = list(_pool().map(run, starts) if len(starts) > 1 else map(run, starts))
    distance_sum = sum(block[0] for block in blocks)
    num_positive = sum(block[1] for block in blocks)
    num_valid = sum(block[2] for block in blocks)
    return Weights(weights, distance_sum + margin * num_positive, num_positive, num_valid)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    """Return the threads for blocks; NumPy lets go of the interpreter's lock while it sorts."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="mining")
