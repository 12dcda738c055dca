"""How well embeddings find their own class: exact rankings, in blocks, in bounded memory.

A query is ranked against a gallery: all of it in the order of Euclidean distance, of equally near
ones the first. Squared distances are computed in float64 and compared as float32: what differs by
less than a rounding of it is equally near, and equal embeddings are exactly 0 apart.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from src.embeddings.verification import PairCounts
from src.params.metric_names import RECALL_RANKS

# Rows of a block of the distance matrix, which one matrix product fills: 64 x 60 000 are 31 MB.
BLOCK_SIZE = 64

# Each thread has a block.
_MAX_THREADS = 8

# Distances that a thread looks at in one go: as sort keys 2 MiB, which the L2 cache still serves.
_CHUNK_PAIRS = 1 << 18

# Squared distances below this share of |x|^2 + |y|^2 are rounding: the two vectors are equal.
_ROUNDING = 1e-13

# The neighbours that vote in k-NN.
NUM_VOTES = 5


class Ranking(NamedTuple):
    """What the ranking of the gallery says of each query.

    Attributes:
        num_positives: int [Q], R: how many of the gallery have the query's label, itself left out.
        first_positive: int [Q], the rank of the nearest of those, from 1; 9 where it is not among
            the first 8.
        r_precision: float64 [Q], the share of positives among the first R; 0 where R is 0.
        average_precision: float64 [Q], the mean over the ranks 1 to R of the precision at that rank
            where it holds a positive, and of 0 where it does not; 0 where R is 0.
        voted_label: int [Q], the most frequent label of the 5 nearest, of several that of the
            nearest; -1 where the gallery is empty.
        pairs: the distances of all pairs of a query and another example; None if not asked for.
    """

    num_positives: NDArray[np.intp]
    first_positive: NDArray[np.intp]
    r_precision: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    voted_label: NDArray[np.intp]
    pairs: PairCounts | None

    def mean_over_answerable(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
        """Return the mean of `values`, [Q], over the queries that have a positive; None if none."""
        answerable = values[self.num_positives > 0]
        return float(answerable.mean()) if len(answerable) else None


def rank_gallery(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32] | None = None,
    gallery_labels: NDArray[np.int32] | None = None,
    *,
    own: NDArray[np.intp] | None = None,
    count_pairs: bool = False,
) -> Ranking:
    """Rank the gallery for each query.

    Of a query's row of G distances the R smallest are found by partition, and only they are sorted:
    O(G + R log R). Distances, column and order are one integer each, which NumPy partitions and
    sorts with vector instructions; blocks of rows are shared among threads.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]; None for the queries themselves, each without itself.
        gallery_labels: int32 [G]; None with `gallery`.
        own: int [Q], the place of each query in the gallery, where it is left out; None where the
            gallery does not hold the queries.
        count_pairs: whether to collect `pairs`.

    Returns:
        The ranking, the same whatever the number of threads.
    """
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    size, gallery_size = len(queries), len(gallery)
    # Each class by its place among those of the gallery, or the place past them.
    classes, places = np.unique(gallery_labels, return_inverse=True)
    gallery_classes = places.astype(np.int32)
    query_classes = np.searchsorted(classes, query_labels).astype(np.int32)
    query_classes[~np.isin(query_labels, classes)] = len(classes)
    num_positives = np.append(np.bincount(gallery_classes), 0)[query_classes]
    if own is not None:
        num_positives = num_positives - 1
    found = Ranking(
        num_positives,
        np.full(size, max(RECALL_RANKS) + 1, np.intp),
        np.zeros(size),
        np.zeros(size),
        np.full(size, -1, np.intp),
        PairCounts() if count_pairs else None,
    )
    num_others = gallery_size - (own is not None)
    if size == 0 or num_others < 1:
        return found
    columns = np.arange(gallery_size)
    ranks = np.arange(1, gallery_size + 1)

    def rank(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        if found.pairs is not None:
            found.pairs.add(distances, query_classes[rows, None] == gallery_classes)
        keys = distances.view(np.int32).astype(np.int64)
        keys <<= 32
        keys |= columns
        limits = num_positives[rows, None]
        num_ranks = min(max(int(limits.max()), *RECALL_RANKS, NUM_VOTES), num_others)
        if num_ranks < gallery_size:
            keys.partition(num_ranks - 1, axis=1)
        nearest = np.sort(keys[:, :num_ranks], axis=1) & 0xFFFFFFFF
        neighbor_classes = gallery_classes[nearest]  # [rows, num_ranks]
        is_match = neighbor_classes == query_classes[rows, None]
        of_first = is_match[:, : max(RECALL_RANKS)]
        has_match = of_first.any(axis=1)
        found.first_positive[rows[has_match]] = of_first[has_match].argmax(axis=1) + 1
        is_match &= ranks[:num_ranks] <= limits
        num_matches = np.cumsum(is_match, axis=1, dtype=np.float64)  # up to each rank
        limits = np.maximum(limits[:, 0], 1)
        found.r_precision[rows] = num_matches[:, -1] / limits
        num_matches *= is_match
        found.average_precision[rows] = num_matches @ (1 / ranks[:num_ranks]) / limits
        found.voted_label[rows] = classes[_vote(neighbor_classes[:, :NUM_VOTES])]

    # Rows with as many positives stand together, so that few are sorted further than they need.
    order = np.argsort(num_positives, kind="stable")
    visit_distances(queries, gallery, own, order, rank)
    return found


def nearest_neighbors(
    queries: NDArray[np.float32], gallery: NDArray[np.float32] | None = None
) -> NDArray[np.intp]:
    """Find each query's nearest neighbour by Euclidean distance.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D]; None for the queries themselves, each without itself.

    Returns:
        int [Q], positions in the gallery; of several equally near, the first.
    """
    own = np.arange(len(queries)) if gallery is None else None
    nearest = np.empty(len(queries), np.intp)

    def find(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        nearest[rows] = distances.argmin(axis=1)

    points = queries if gallery is None else gallery
    visit_distances(queries, points, own, np.arange(len(queries)), find)
    return nearest


def recall_at_1(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32] | None = None,
    gallery_labels: NDArray[np.int32] | None = None,
) -> float | None:
    """Return the share of queries whose nearest neighbour has their label, of those that have one.

    Queries of a class that has no other example in the gallery are left out.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]; None for the queries themselves, each without itself.
        gallery_labels: int32 [G]; None with `gallery`.

    Returns:
        0 to 1; None where there is no such query.
    """
    own = gallery is None
    labels = query_labels if gallery_labels is None else gallery_labels
    classes, counts = np.unique(labels, return_counts=True)
    can_answer = np.isin(query_labels, classes[counts > own])
    if not can_answer.any():
        return None
    nearest = labels[nearest_neighbors(queries, gallery)]
    return float(np.mean((nearest == query_labels)[can_answer]))


def nearest_class_means(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32] | None = None,
    gallery_labels: NDArray[np.int32] | None = None,
    *,
    own: NDArray[np.intp] | None = None,
) -> NDArray[np.int32]:
    """Return, for each query, the label whose mean embedding in the gallery is nearest.

    A query that the gallery holds is left out of the mean of its own class. In a class of n, that
    moves the mean away from it, to n / (n - 1) of the distance.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D], G > 0; None for the queries themselves.
        gallery_labels: int32 [G]; None with `gallery`.
        own: see `rank_gallery`.

    Returns:
        int32 [Q]; of equally near ones the smallest label.
    """
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    classes, gallery_classes, sizes = np.unique(
        gallery_labels, return_inverse=True, return_counts=True
    )
    queries64, gallery64 = comparable(queries, gallery)
    means = np.zeros((len(classes), gallery64.shape[1]))
    np.add.at(means, gallery_classes, gallery64)
    means /= sizes[:, None]
    half_norms = 0.5 * np.einsum("cd,cd->c", means, means)
    predicted = np.empty(len(queries), np.int32)
    for start in range(0, len(queries), BLOCK_SIZE):
        block = queries64[start : start + BLOCK_SIZE]
        distances = half_norms - block @ means.T  # [<= BLOCK_SIZE, C]
        if own is not None:
            norms = 0.5 * np.einsum("qd,qd->q", block, block)
            rows = np.arange(len(block))
            own_classes = gallery_classes[own[start : start + BLOCK_SIZE]]
            others = sizes[own_classes] - 1
            with np.errstate(divide="ignore", invalid="ignore"):
                farther = np.where(others > 0, (sizes[own_classes] / others) ** 2, np.inf)
                own_distances = (distances[rows, own_classes] + norms) * farther - norms
            distances[rows, own_classes] = np.where(others > 0, own_distances, np.inf)
        predicted[start : start + BLOCK_SIZE] = classes[distances.argmin(axis=1)]
    return predicted


def comparable(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both in float64, moved and scaled alike such that no vector is longer than 1.

    The order of the distances stays. Around their mean the vectors are as short as the distances
    between them, which would else be lost to rounding where all lie together far from the origin;
    and the power of two, by which nothing is rounded, keeps the distances from overflow. What is
    not finite, as a diverged network's embeddings may be, becomes 0 or the largest float32.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D], G > 0, whose mean is taken.

    Returns:
        float64 [Q, D] and [G, D].
    """
    origin = np.nan_to_num(gallery).mean(axis=0, dtype=np.float64)
    queries64, gallery64 = (
        np.nan_to_num(x).astype(np.float64) - origin for x in (queries, gallery)
    )
    longest = max(float(np.linalg.norm(x, axis=1).max(initial=0)) for x in (queries64, gallery64))
    scale = 2.0 ** -np.frexp(longest)[1]
    return queries64 * scale, gallery64 * scale


def _vote(neighbor_classes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the most frequent of each row's classes, [Q, K] -> [Q]; of several the first."""
    votes = (neighbor_classes[:, :, None] == neighbor_classes[:, None, :]).sum(axis=2)  # [Q, K]
    elected: NDArray[np.int32] = neighbor_classes[np.arange(len(votes)), votes.argmax(axis=1)]
    return elected


def visit_distances(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    own: NDArray[np.intp] | None,
    order: NDArray[np.intp],
    visit: Callable[[NDArray[np.intp], NDArray[np.float32]], None],
) -> None:
    """Call `visit(rows, distances)` for all queries, some at a time, from several threads.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D].
        own: see `rank_gallery`; those distances are infinite.
        order: int [Q], the order in which the queries are visited.
        visit: gets which queries, int [r], and their squared distances to all of the gallery,
            float32 [r, G], in [0, 4) by the scale of `comparable`.
    """
    if len(queries) == 0 or len(gallery) == 0:
        return
    queries64, gallery64 = comparable(queries, gallery)
    query_norms = np.einsum("qd,qd->q", queries64, queries64)
    gallery_norms = np.einsum("gd,gd->g", gallery64, gallery64)
    # |q - g|^2 = -2 q.g + |q|^2 + |g|^2, as one product of matrices
    ones = np.ones(len(gallery64))
    columns = np.column_stack([gallery64, ones, gallery_norms]).T  # [D + 2, G]
    rounding = (_ROUNDING * gallery_norms).astype(np.float32)
    largest_rounding = 2 * _ROUNDING  # no vector is longer than 1
    chunk_size = max(1, _CHUNK_PAIRS // len(gallery))
    num_threads = min(os.cpu_count() or 1, _MAX_THREADS)

    def visit_every(thread: int) -> None:
        """Visit every `num_threads`-th block of the queries."""
        block = np.empty((min(BLOCK_SIZE, len(order)), len(gallery)))
        for first in range(thread * BLOCK_SIZE, len(order), num_threads * BLOCK_SIZE):
            of_block = order[first : first + BLOCK_SIZE]
            left = np.column_stack(
                [-2 * queries64[of_block], query_norms[of_block], np.ones(len(of_block))]
            )
            np.matmul(left, columns, out=block[: len(of_block)])
            for start in range(0, len(of_block), chunk_size):
                rows = of_block[start : start + chunk_size]
                visit(rows, as_compared(rows, block[start : start + len(rows)]))

    def as_compared(rows: NDArray[np.intp], exact: NDArray[np.float64]) -> NDArray[np.float32]:
        distances = exact.astype(np.float32)
        if own is not None:
            distances[np.arange(len(rows)), own[rows]] = np.inf
        if distances.min() <= largest_rounding:  # seldom, and to look at each is dear
            smallest = (_ROUNDING * query_norms[rows]).astype(np.float32)
            distances[distances <= smallest[:, None] + rounding] = 0
        return distances

    # One thread for each product: BLAS's own wait for each other by spinning, at the cost of ours.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(num_threads) as threads:
        list(threads.map(visit_every, range(num_threads)))
