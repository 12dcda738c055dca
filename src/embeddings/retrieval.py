"""How well embeddings find their own class: rankings of a gallery, and what they are worth.

A query is ranked against a gallery: all of it in the order of Euclidean distance, as
`src.embeddings.search` compares it.
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

    @classmethod
    def empty(cls, num_positives: NDArray[np.intp], count_pairs: bool) -> "Ranking":
        """Return what holds of queries that find nothing."""
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
        """Write all but the vote and the pairs of some queries.

        Args:
            rows: int [r], their positions.
            is_match: bool [r, K], whether their K nearest, in order, are positives. K is at least R
                and the largest rank of recall, unless the gallery is smaller.
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

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]; None for the queries themselves, each without itself.
        gallery_labels: int32 [G]; None with `gallery`.
        own: int [Q], the position of each query in the gallery, where it is left out; None if the
            gallery does not hold the queries.
        count_pairs: whether to collect `pairs`.

    Returns:
        The ranking, the same whatever the number of threads.
    """
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    classes, gallery_classes, query_classes = _places_of_classes(gallery_labels, query_labels)
    num_positives = np.append(np.bincount(gallery_classes), 0)[query_classes]
    found = Ranking.empty(num_positives - (own is not None), count_pairs)

    def rank(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        if found.pairs is not None:
            found.pairs.add(distances, query_classes[rows, None] == gallery_classes)
        num_ranks = max(int(found.num_positives[rows].max()), *RECALL_RANKS, NUM_VOTES)
        neighbor_classes = gallery_classes[nearest_columns(distances, num_ranks)]
        found.fill(rows, neighbor_classes == query_classes[rows, None])
        found.voted_label[rows] = classes[majority(neighbor_classes[:, :NUM_VOTES])]

    # Rows with as many positives stand together, so that few are sorted further than they need.
    order = np.argsort(found.num_positives, kind="stable")
    visit_distances(queries, gallery, rank, own=own, order=order)
    return found


def _places_of_classes(
    gallery_labels: NDArray[np.int32], query_labels: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Return the classes of the gallery, [C], and the place in them of each label of both.

    A query whose class the gallery lacks has the place C.
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
