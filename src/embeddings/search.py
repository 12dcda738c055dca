"""Exact nearest-neighbour search by Euclidean distance, in blocks and with bounded memory.

Squared distances are computed in float64 and compared as float32. Distances that round to the same
float32 are equal. In a tie, the example that comes first in the gallery is the nearest. The
distance between equal embeddings is exactly 0.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

# Rows in a block of the distance matrix, filled by one matrix product: 64 x 60 000 take 31 MB.
BLOCK_SIZE = 64

# Each thread holds one block.
_MAX_THREADS = 8

# Distances that a thread visits at once. Their sort keys take 2 MiB, which fits the L2 cache.
_CHUNK_PAIRS = 1 << 18

# A squared distance below this share of |x|^2 + |y|^2 is rounding error: the vectors are equal.
ROUNDING = 1e-13

# Number of neighbours that vote in k-NN.
NUM_VOTES = 5


def nearest_neighbors(
    queries: NDArray[np.float32], gallery: NDArray[np.float32] | None = None
) -> NDArray[np.intp]:
    """Find each query's nearest neighbour.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D]. If None, the queries are the gallery, and each excludes itself.

    Returns:
        int [Q], positions in the gallery; 0 if there is no neighbour.
    """
    points, own = (queries, np.arange(len(queries))) if gallery is None else (gallery, None)
    nearest = np.zeros(len(queries), np.intp)

    def find(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        nearest[rows] = distances.argmin(axis=1)

    visit_distances(queries, points, find, own=own)
    return nearest


def k_nearest_neighbors(
    queries: NDArray[np.float32], gallery: NDArray[np.float32] | None = None, *, count: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find each query's K nearest neighbours and their distances, nearest first.

    Args:
        queries: float32 [Q, D], finite.
        gallery: float32 [G, D], finite. If None, the queries are the gallery, and each excludes
            itself.
        count: the desired K. If there are fewer neighbours, K is their number.

    Returns:
        Positions in the gallery, int [Q, K], and Euclidean distances, float64 [Q, K].
    """
    points, own = (queries, np.arange(len(queries))) if gallery is None else (gallery, None)
    shape = len(queries), max(0, min(count, len(points) - (own is not None)))
    nearest, nearest_distances = np.empty(shape, np.intp), np.empty(shape)

    def find(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        nearest[rows] = found = nearest_columns(distances, count)
        differences = queries[rows, None].astype(np.float64) - points[found]  # [r, K, D]
        nearest_distances[rows] = np.sqrt(np.einsum("rkd,rkd->rk", differences, differences))

    visit_distances(queries, points, find, own=own)
    return nearest, nearest_distances


def visit_distances(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    visit: Callable[[NDArray[np.intp], NDArray[np.float32]], None],
    *,
    own: NDArray[np.intp] | None = None,
    order: NDArray[np.intp] | None = None,
) -> None:
    """Call `visit(rows, distances)` for all queries, in chunks, from several threads.

    `visit` is not called if the gallery is empty or contains only the query itself.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D].
        visit: receives positions of queries, int [r], and their squared distances to the whole
            gallery, float32 [r, G], in [0, 4), in the scale of `centred_and_scaled`.
        own: int [Q], the position of each query in the gallery. The distance of a query to itself
            is set to infinity. None if the gallery does not contain the queries.
        order: int [Q], the order in which to visit the queries. If None, they are visited in the
            given order.
    """
    if len(queries) == 0 or len(gallery) <= (own is not None):
        return
    order = np.arange(len(queries)) if order is None else order
    distances = _SquaredDistances(queries, gallery, own)
    chunk_size = max(1, _CHUNK_PAIRS // len(gallery))
    num_threads = min(os.cpu_count() or 1, _MAX_THREADS)

    def visit_every(thread: int) -> None:
        """Visit every `num_threads`-th block of the queries."""
        block = np.empty((min(BLOCK_SIZE, len(order)), len(gallery)))
        for first in range(thread * BLOCK_SIZE, len(order), num_threads * BLOCK_SIZE):
            of_block = order[first : first + BLOCK_SIZE]
            distances.fill(of_block, block[: len(of_block)])
            for start in range(0, len(of_block), chunk_size):
                rows = of_block[start : start + chunk_size]
                visit(rows, distances.as_compared(rows, block[start : start + len(rows)]))

    # One BLAS thread per product: BLAS threads wait in busy loops and would slow down ours.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads) as threads:
        list(threads.map(visit_every, range(num_threads)))


class _SquaredDistances:
    """Computes squared distances from some queries to the whole gallery."""

    def __init__(
        self,
        queries: NDArray[np.float32],
        gallery: NDArray[np.float32],
        own: NDArray[np.intp] | None,
    ) -> None:
        """Take the arguments of `visit_distances`."""
        self._queries, gallery64 = centred_and_scaled(queries, gallery)
        self._query_norms = np.einsum("qd,qd->q", self._queries, self._queries)
        gallery_norms = np.einsum("gd,gd->g", gallery64, gallery64)
        # |q - g|^2 = -2 q.g + |q|^2 + |g|^2, as one product of matrices
        ones = np.ones(len(gallery64))
        self._columns = np.column_stack([gallery64, ones, gallery_norms]).T  # [D + 2, G]
        self._rounding = (ROUNDING * gallery_norms).astype(np.float32)
        self._own = own

    def fill(self, rows: NDArray[np.intp], block: NDArray[np.float64]) -> None:
        """Write the squared distances of the queries `rows`, int [r], to `block`, [r, G]."""
        ones = np.ones(len(rows))
        left = np.column_stack([-2 * self._queries[rows], self._query_norms[rows], ones])
        np.matmul(left, self._columns, out=block)

    def as_compared(
        self, rows: NDArray[np.intp], exact: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return the distances from `fill` as float32 [r, G], corrected for comparison.

        Rounding errors become 0. The distance of a query to itself becomes infinite.
        """
        distances = exact.astype(np.float32)
        if self._own is not None:
            distances[np.arange(len(rows)), self._own[rows]] = np.inf
        # No vector is longer than 1. Such small distances are rare, and testing each one is slow.
        if distances.min() <= 2 * ROUNDING:
            rounding = (ROUNDING * self._query_norms[rows]).astype(np.float32)
            distances[distances <= rounding[:, None] + self._rounding] = 0
        return distances


def centred_and_scaled(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both in float64, centred and scaled so that no vector is longer than 1.

    The order of the distances does not change. Centring keeps distances accurate if all vectors lie
    close together but far from the origin. The scale is a power of two: it causes no rounding and
    prevents overflow. Non-finite values become 0 or the largest float32.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D], G > 0. Its mean is subtracted from both.

    Returns:
        float64 [Q, D] and [G, D].
    """
    centred = _centred(queries, gallery)
    scale = 2.0 ** -_exponent(*centred)
    return centred[0] * scale, centred[1] * scale


def scale_exponent(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> int:
    """Return E, such that a squared distance in the scale of `centred_and_scaled` is real / 4^E.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D], G > 0.
    """
    return _exponent(*_centred(queries, gallery))


def _centred(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both in float64, less the gallery's mean, with finite numbers only."""
    origin = np.nan_to_num(gallery).mean(axis=0, dtype=np.float64)
    return (
        np.nan_to_num(queries).astype(np.float64) - origin,
        np.nan_to_num(gallery).astype(np.float64) - origin,
    )


def _exponent(*centred: NDArray[np.float64]) -> int:
    """Return the smallest E such that every vector is a little shorter than 2^E.

    Squared distances between opposite vectors are then below 4 as float32, too.
    """
    longest = max(float(np.linalg.norm(x, axis=1).max(initial=0)) for x in centred)
    return int(np.frexp(longest * (1 + 2.0**-20))[1])


def nearest_columns(distances: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Return the columns of each row's K smallest distances, smallest first.

    A partition finds them, and only they are sorted: O(G + K log K) per row.

    Args:
        distances: float32 [r, G], at least 0. Each row has the same number of infinite values.
        count: the desired K. If a row has fewer finite distances, K is their number.

    Returns:
        int [r, K]. In a tie, the first column comes first.
    """
    count = min(count, int(np.isfinite(distances[0]).sum()))
    # Float32 values of at least 0 have the same order as their bits. Distance and column form one
    # integer, which NumPy partitions and sorts with vector instructions.
    keys = distances.view(np.int32).astype(np.int64)
    keys <<= 32
    keys |= np.arange(distances.shape[1])
    if count < distances.shape[1]:
        keys.partition(count - 1, axis=1)
    return np.sort(keys[:, :count], axis=1) & 0xFFFFFFFF


def majority(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the most frequent label of each row, [r, K] -> [r]; in a tie, the first one."""
    votes = (labels[:, :, None] == labels[:, None, :]).sum(axis=2)  # [r, K]
    elected: NDArray[np.int32] = labels[np.arange(len(votes)), votes.argmax(axis=1)]
    return elected
