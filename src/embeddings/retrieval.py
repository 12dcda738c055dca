"""Ranks a gallery for each query and computes retrieval metrics from the rankings.

For each query, the whole gallery is ordered by Euclidean distance, as computed in
`src.embeddings.search`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.search import (
    BLOCK_SIZE,
    NUM_VOTES,
    comparable,
    majority,
    nearest_columns,
    nearest_neighbors,
    visit_distances,
)
from src.embeddings.verification import PairCounts
from src.params.metric_names import RECALL_RANKS


class Ranking(NamedTuple):
    """The ranking results of each query.

    Attributes:
        num_positives: int [Q], R: the number of gallery examples with the query's label, without
            the query itself.
        first_positive: int [Q], the rank of the nearest positive, from 1; 9 if it is not among the
            first 8.
        r_precision: float64 [Q], the share of positives among the first R; 0 if R is 0.
        average_precision: float64 [Q], a mean over the ranks 1 to R. A rank that holds a positive
            counts with the precision at that rank, any other with 0. The mean is 0 if R is 0.
        voted_label: int [Q], the most frequent label of the 5 nearest neighbours. In a tie, the
            nearest neighbour's label wins. It is -1 if the gallery is empty.
        pairs: distance counts of all pairs of a query and another example; None if not requested.
    """

    num_positives: NDArray[np.intp]
    first_positive: NDArray[np.intp]
    r_precision: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    voted_label: NDArray[np.intp]
    pairs: PairCounts | None

    @classmethod
    def empty(cls, num_positives: NDArray[np.intp], *, count_pairs: bool) -> "Ranking":
        """Return the results of queries against an empty gallery."""
        size = len(num_positives)
        return cls(
            num_positives,
            np.full(size, max(RECALL_RANKS) + 1, np.intp),
            np.zeros(size),
            np.zeros(size),
            np.full(size, -1, np.intp),
            PairCounts() if count_pairs else None,
        )

    def fill(self, rows: NDArray[np.intp], is_match: NDArray[np.bool_]) -> None:
        """Write the results of some queries, except `voted_label` and `pairs`.

        Args:
            rows: int [r], the positions of the queries.
            is_match: bool [r, K], whether each of the K nearest neighbours, in order, is a
                positive. K is at least R and at least the largest recall rank, unless the gallery
                is smaller.
        """
        of_first = is_match[:, : max(RECALL_RANKS)]
        has_match = of_first.any(axis=1)
        self.first_positive[rows[has_match]] = of_first[has_match].argmax(axis=1) + 1
        ranks = np.arange(1, is_match.shape[1] + 1)
        is_match = is_match & (ranks <= self.num_positives[rows, None])
        num_matches = np.cumsum(is_match, axis=1, dtype=np.float64)  # up to each rank
        limits = np.maximum(self.num_positives[rows], 1)
        self.r_precision[rows] = num_matches[:, -1] / limits
        num_matches *= is_match
        self.average_precision[rows] = num_matches @ (1 / ranks) / limits

    def mean_over_answerable(self, values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
        """Return the mean of `values`, [Q], over the queries with a positive; None without any."""
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

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]. If None, the queries are the gallery, and each excludes itself.
        gallery_labels: int32 [G]; None if `gallery` is None.
        own: int [Q], the position of each query in the gallery, which is excluded. None if the
            gallery does not contain the queries.
        count_pairs: whether to collect `pairs`.

    Returns:
        The ranking. It does not depend on the number of threads.
    """
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    classes, gallery_classes, query_classes = _places_of_classes(gallery_labels, query_labels)
    num_positives = np.append(np.bincount(gallery_classes), 0)[query_classes]
    found = Ranking.empty(num_positives - (own is not None), count_pairs=count_pairs)

    def rank(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        if found.pairs is not None:
            found.pairs.add(distances, query_classes[rows, None] == gallery_classes)
        num_ranks = max(int(found.num_positives[rows].max()), *RECALL_RANKS, NUM_VOTES)
        neighbor_classes = gallery_classes[nearest_columns(distances, num_ranks)]
        found.fill(rows, neighbor_classes == query_classes[rows, None])
        found.voted_label[rows] = classes[majority(neighbor_classes[:, :NUM_VOTES])]

    # Queries with similar numbers of positives are grouped, so few rows are sorted too far.
    order = np.argsort(found.num_positives, kind="stable")
    visit_distances(queries, gallery, rank, own=own, order=order)
    return found


def _places_of_classes(
    gallery_labels: NDArray[np.int32], query_labels: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return the gallery's classes, [C], and the class index of each gallery and query label.

    A query whose class is not in the gallery has the index C.
    """
    classes, gallery_classes = np.unique(gallery_labels, return_inverse=True)
    query_classes = np.searchsorted(classes, query_labels).astype(np.int32)
    query_classes[~np.isin(query_labels, classes)] = len(classes)
    return classes, gallery_classes.astype(np.int32), query_classes


def recall_at_1(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32] | None = None,
    gallery_labels: NDArray[np.int32] | None = None,
) -> float | None:
    """Return the share of queries whose nearest neighbour has the same label.

    A query is excluded if the gallery has no other example of its class.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]. If None, the queries are the gallery, and each excludes itself.
        gallery_labels: int32 [G]; None if `gallery` is None.

    Returns:
        0 to 1; None if every query is excluded.
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
    """Return, for each query, the class whose mean embedding in the gallery is nearest.

    If the gallery contains the query, the mean of its own class excludes the query. In a class of
    n examples, this multiplies the distance to the mean by n / (n - 1).

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D], G > 0. If None, the queries are the gallery.
        gallery_labels: int32 [G]; None if `gallery` is None.
        own: see `rank_gallery`.

    Returns:
        int32 [Q], labels. In a tie, the smallest label wins.
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
