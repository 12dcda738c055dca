"""All pairs of a split, in one pass: how far positives and negatives lie, and who lies extreme."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from src.embeddings.search import BLOCK_SIZE
from src.mining.distances import comparable, from_squared
from src.system.progress import progress_bar

# Bins that distances are counted in, from 0 to the largest that may be; then as many are put
# together as leaves no more than the second number.
_FINE_BINS = 4096
_MAX_BINS = 100


class Pairs(NamedTuple):
    """What is known of the pairs of N examples. Each pair counts twice, once from either end.

    Attributes:
        edges: float64 [K + 1], of bins of one width, from 0 to beyond the largest distance.
        positive_counts: int64 [K], the pairs of one class in each bin.
        negative_counts: int64 [K], the pairs of two classes.
        nearest_positive: int [N], which other example of an anchor's class is nearest to it, of
            equally near ones any; -1 where there is none. Likewise the next three.
        farthest_positive: see there.
        nearest_negative: see there.
        farthest_negative: see there.
    """

    edges: NDArray[np.float64]
    positive_counts: NDArray[np.int64]
    negative_counts: NDArray[np.int64]
    nearest_positive: NDArray[np.intp]
    farthest_positive: NDArray[np.intp]
    nearest_negative: NDArray[np.intp]
    farthest_negative: NDArray[np.intp]


def scan_pairs(embeddings: NDArray[np.float32], labels: NDArray[np.int32], distance: str) -> Pairs:
    """Look at all pairs of different examples, in O(N^2 D) time and O(N) memory.

    Args:
        embeddings: float32 [N, D], finite.
        labels: int32 [N].
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        What is found.
    """
    size, num_dimensions = embeddings.shape
    # With each class in one piece, an anchor's positives are a slice of its row.
    order = np.argsort(labels, kind="stable")
    x = comparable(embeddings.astype(np.float64), distance)[order]
    x -= x.mean(axis=0) if size else 0.0  # short vectors, for |x|^2 - 2 x.y + |y|^2 cancels
    squares = np.einsum("nd,nd->n", x, x)
    longest = float(np.sqrt(squares.max(initial=0)))
    limit = float(from_squared(np.array([(2 * longest) ** 2]), distance, num_dimensions)[0])
    bins_per_unit = (_FINE_BINS - 1) / limit if limit > 0 else 1.0
    positive_counts = np.zeros(_FINE_BINS, np.int64)
    negative_counts = np.zeros(_FINE_BINS, np.int64)
    extremes = np.full((4, size), -1, np.intp)

    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    blocks = [
        (first, start, end)
        for start, end in zip(starts, np.append(starts, size)[1:], strict=True)
        for first in range(start, end, BLOCK_SIZE)
    ]
    # Of many classes the products are small: BLAS's threads would wait for each other the longest.
    with threadpool_limits(1, "blas"), progress_bar("pairs", size, "images") as bar:
        for first, start, end in blocks:
            rows = np.arange(first, min(first + BLOCK_SIZE, end))
            squared = squares[rows, None] - 2 * (x[rows] @ x.T) + squares  # [r, N]
            np.maximum(squared, 0, out=squared)
            distances = from_squared(squared, distance, num_dimensions)
            bins = (distances * bins_per_unit).astype(np.int32)
            to_self = bins[np.arange(len(rows)), rows]
            positive_counts += np.bincount(bins[:, start:end].ravel(), minlength=_FINE_BINS)
            positive_counts -= np.bincount(to_self, minlength=_FINE_BINS)
            for others in (bins[:, :start], bins[:, end:]):
                negative_counts += np.bincount(others.ravel(), minlength=_FINE_BINS)
            if end - start > 1:
                positives = distances[:, start:end]
                extremes[1, rows] = start + positives.argmax(axis=1)
                # Of two that are equal, argmax may have found the anchor itself.
                itself = extremes[1, rows] == rows
                positives[np.arange(len(rows)), rows - start] = np.inf
                extremes[0, rows] = start + positives.argmin(axis=1)
                extremes[1, rows[itself]] = extremes[0, rows[itself]]
            if end - start < size:
                distances[:, start:end] = np.inf
                extremes[2, rows] = distances.argmin(axis=1)
                distances[:, start:end] = -np.inf
                extremes[3, rows] = distances.argmax(axis=1)
            bar.update(len(rows))

    found = np.full((4, size), -1, np.intp)
    found[:, order] = np.where(extremes < 0, -1, order[extremes])
    num_used = int(np.flatnonzero(positive_counts + negative_counts).max(initial=0)) + 1
    together = -(-num_used // _MAX_BINS)
    first_bins = np.arange(0, num_used, together)
    edges = np.arange(len(first_bins) + 1) * together / bins_per_unit
    positive_counts, negative_counts = (
        np.add.reduceat(counts[:num_used], first_bins)
        for counts in (positive_counts, negative_counts)
    )
    return Pairs(edges, positive_counts, negative_counts, *found)
