"""Scans all pairs of a split in one pass: distance histograms, nearest and farthest pairs."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from src.embeddings.search import BLOCK_SIZE
from src.mining.distances import comparable, from_squared
from src.system.progress import progress_bar

# Distances are first counted in fine bins, from 0 to the largest possible distance. Adjacent bins
# are then merged until at most _MAX_BINS remain.
_FINE_BINS = 4096
_MAX_BINS = 100


class Pairs(NamedTuple):
    """Statistics of all pairs of N examples. Each pair counts twice, once for each anchor.

    Attributes:
        edges: float64 [K + 1], the edges of bins of equal width, from 0 to beyond the largest
            distance.
        positive_counts: int64 [K], the number of positive pairs in each bin.
        negative_counts: int64 [K], the number of negative pairs in each bin.
        nearest_positive: int [N], the position of each anchor's nearest positive. A tie is resolved
            arbitrarily; -1 if there is none. The next three follow the same rules.
        farthest_positive: int [N].
        nearest_negative: int [N].
        farthest_negative: int [N].
    """

    edges: NDArray[np.float64]
    positive_counts: NDArray[np.int64]
    negative_counts: NDArray[np.int64]
    nearest_positive: NDArray[np.intp]
    farthest_positive: NDArray[np.intp]
    nearest_negative: NDArray[np.intp]
    farthest_negative: NDArray[np.intp]


def scan_pairs(embeddings: NDArray[np.float32], labels: NDArray[np.int32], distance: str) -> Pairs:
    """Scan all pairs of different examples, in O(N^2 D) time and O(N) memory.

    Args:
        embeddings: float32 [N, D], finite.
        labels: int32 [N].
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        The histograms and the extreme pairs.
    """
    size, num_dimensions = embeddings.shape
    # Examples are sorted by class, so an anchor's positives are a slice of its row.
    order = np.argsort(labels, kind="stable")
    x = comparable(embeddings.astype(np.float64), distance)[order]
    x -= x.mean(axis=0) if size else 0.0  # centred: less rounding error in |x|^2 - 2 x.y + |y|^2
    squares = np.einsum("nd,nd->n", x, x)
    longest = float(np.sqrt(squares.max(initial=0)))
    limit = float(from_squared(np.array([(2 * longest) ** 2]), distance, num_dimensions)[0])
    bins_per_unit = (_FINE_BINS - 1) / limit if limit > 0 else 1.0
    positive_counts = np.zeros(_FINE_BINS, np.int64)
    negative_counts = np.zeros(_FINE_BINS, np.int64)
    extremes = np.full((4, size), -1, np.intp)

    bounds = [*np.flatnonzero(np.diff(labels[order], prepend=-1)).tolist(), size]  # of classes
    blocks = [
        (first, start, end)
        for start, end in pairwise(bounds)
        for first in range(start, end, BLOCK_SIZE)
    ]
    # With many classes the matrix products are small: BLAS threads would mostly wait.
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
            extremes[:, rows] = _extremes(distances, rows, start, end)
            bar.update(len(rows))

    found = np.full((4, size), -1, np.intp)
    found[:, order] = np.where(extremes < 0, -1, order[extremes])
    return Pairs(*_merged(positive_counts, negative_counts, bins_per_unit), *found)


def _extremes(
    distances: NDArray[np.float64], rows: NDArray[np.intp], start: int, end: int
) -> NDArray[np.intp]:
    """Return the nearest and farthest positives and negatives of anchors of one class.

    Args:
        distances: float64 [r, N], to all examples, sorted by class; overwritten.
        rows: int [r], the positions of the anchors.
        start: the first position of the class.
        end: the position after its last.

    Returns:
        int [4, r]: nearest and farthest positive, nearest and farthest negative; -1 if there is
        none.
    """
    found = np.full((4, len(rows)), -1, np.intp)
    if end - start > 1:
        positives = distances[:, start:end]
        found[1] = start + positives.argmax(axis=1)
        # If all positives are at distance 0, argmax may return the anchor itself.
        itself = found[1] == rows
        positives[np.arange(len(rows)), rows - start] = np.inf
        found[0] = start + positives.argmin(axis=1)
        found[1, itself] = found[0, itself]
    if end - start < distances.shape[1]:
        distances[:, start:end] = np.inf
        found[2] = distances.argmin(axis=1)
        distances[:, start:end] = -np.inf
        found[3] = distances.argmax(axis=1)
    return found


def _merged(
    positive_counts: NDArray[np.int64], negative_counts: NDArray[np.int64], bins_per_unit: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Merge adjacent fine bins; return the edges and both counts of at most _MAX_BINS bins."""
    num_used = int(np.flatnonzero(positive_counts + negative_counts).max(initial=0)) + 1
    together = -(-num_used // _MAX_BINS)
    first_bins = np.arange(0, num_used, together)
    edges = np.arange(len(first_bins) + 1) * together / bins_per_unit
    positive, negative = (
        np.add.reduceat(counts[:num_used], first_bins)
        for counts in (positive_counts, negative_counts)
    )
    return edges, positive, negative
