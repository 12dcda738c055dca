"""Ranks a gallery for each query and computes retrieval metrics from the rankings.

For each query, the whole gallery is ordered by Euclidean distance, as computed in
`src.embeddings.search`.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.roles import counts_of, parts_of
from src.embeddings.search import (
    BLOCK_SIZE,
    NUM_VOTES,
    ROUNDING,
    centred_and_scaled,
    majority,
    nearest_columns,
    nearest_neighbors,
    visit_distances,
)
from src.embeddings.verification import PairCounts
from src.params.metric_names import RECALL_RANKS

# Stands for the distance to what a query does not search: larger than every distance.
_UNSEARCHED = np.float32(8)


class Ranking(NamedTuple):
    """The ranking results of each query.

    Attributes:
        num_positives: int [Q], R: the number of gallery examples with the query's label, without
            those that it does not search.
        first_positive: int [Q], the rank of the nearest positive, from 1; 9 if it is not among the
            first 8.
        r_precision: float64 [Q], the share of positives among the first R; 0 if R is 0.
        average_precision: float64 [Q], a mean over the ranks 1 to R. A rank that holds a positive
            counts with the precision at that rank, any other with 0. The mean is 0 if R is 0.
        voted_label: int [Q], the most frequent label of the 5 nearest neighbours. In a tie, the
            nearest neighbour's label wins. It is -1 if there is nothing to search.
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
    groups: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None,
    count_pairs: bool = False,
) -> Ranking:
    """Rank the gallery for each query.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]. If None, the queries are the gallery, and each excludes itself.
        gallery_labels: int32 [G]; None if `gallery` is None.
        own: int [Q], the position of each query in the gallery, which is excluded; -1 for a query
            that is not in it. None if the gallery contains none of them.
        groups: int32 [Q] and [G]; if given, a query does not search the gallery's examples of its
            own label and group.
        count_pairs: whether to collect `pairs`.

    Returns:
        The ranking. It does not depend on the number of threads.
    """
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    classes, gallery_classes, query_classes = _places_of_classes(gallery_labels, query_labels)
    num_positives = np.append(np.bincount(gallery_classes), 0)[query_classes]
    hidden = Unsearched.of(own, query_labels, gallery_labels, groups)
    found = Ranking.empty(num_positives - hidden.num_positives, count_pairs=count_pairs)

    def rank(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        hidden.hide(rows, distances)
        if found.pairs is not None:
            found.pairs.add(distances, query_classes[rows, None] == gallery_classes)
        num_ranks = max(int(found.num_positives[rows].max()), *RECALL_RANKS, NUM_VOTES)
        neighbor_classes = hidden.nearest(distances, num_ranks, gallery_classes)
        found.fill(rows, neighbor_classes == query_classes[rows, None])
        voted = majority(neighbor_classes[:, :NUM_VOTES])
        found.voted_label[rows] = np.where(voted < 0, -1, classes[voted])

    # Queries with similar numbers of positives are grouped, so few rows are sorted too far.
    order = np.argsort(found.num_positives, kind="stable")
    visit_distances(queries, gallery, rank, own=hidden.visited_own, order=order)
    return found


class Unsearched(NamedTuple):
    """What each query does not search: itself, or also its own class in its own group.

    Attributes:
        own: int [Q], as for `rank_gallery`; None if there is nothing else than `parts` to hide.
        parts: int [Q] and int [G], equal numbers for equal labels and groups; None without groups.
        num_positives: int [Q], how many examples of its own label a query does not search.
        varies: whether queries differ in how many examples they do not search.
    """

    own: NDArray[np.intp] | None
    parts: tuple[NDArray[np.intp], NDArray[np.intp]] | None
    num_positives: NDArray[np.intp]
    varies: bool

    @classmethod
    def of(
        cls,
        own: NDArray[np.intp] | None,
        query_labels: NDArray[np.int32],
        gallery_labels: NDArray[np.int32],
        groups: tuple[NDArray[np.int32], NDArray[np.int32]] | None,
    ) -> "Unsearched":
        """Return what queries do not search; arguments as those of `rank_gallery`."""
        if groups is not None:
            query_parts, gallery_parts = parts_of(
                query_labels, groups[0], gallery_labels, groups[1]
            )
            num_hidden = counts_of(query_parts, gallery_parts)
            return cls(own, (query_parts, gallery_parts), num_hidden, varies=True)
        if own is None or (own >= 0).all():
            num_hidden = np.full(len(query_labels), own is not None, np.intp)
            return cls(own, None, num_hidden, varies=False)
        return cls(own, None, (own >= 0).astype(np.intp), varies=True)

    @property
    def visited_own(self) -> NDArray[np.intp] | None:
        """What `visit_distances` hides already."""
        return None if self.varies else self.own

    def hide(self, rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        """Make the distances, float32 [r, G], of queries `rows` infinite if not searched."""
        if not self.varies:
            return
        if self.parts is not None:
            distances[self.parts[0][rows, None] == self.parts[1]] = np.inf
        if self.own is not None:
            are_there = np.flatnonzero(self.own[rows] >= 0)
            distances[are_there, self.own[rows[are_there]]] = np.inf

    def nearest(
        self, distances: NDArray[np.float32], count: int, gallery_classes: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Return the classes of each row's nearest columns, int [r, K]; see `nearest_columns`.

        If queries differ in what they do not search, it comes last: each with a class of its own
        below 0, that nothing has.
        """
        if not self.varies:
            return gallery_classes[nearest_columns(distances, count)]
        distances[np.isinf(distances)] = _UNSEARCHED  # so that every row is finite
        nearest = nearest_columns(distances, count)
        is_hidden = np.take_along_axis(distances, nearest, axis=1) == _UNSEARCHED
        no_class = -1 - np.arange(nearest.shape[1], dtype=np.int32)
        found: NDArray[np.int32] = np.where(is_hidden, no_class, gallery_classes[nearest])
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
    groups: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None,
) -> NDArray[np.int32]:
    """Return, for each query, the class whose mean embedding in the gallery is nearest.

    The mean of its own class excludes what the query does not search; see `rank_gallery`.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D], G > 0. If None, the queries are the gallery.
        gallery_labels: int32 [G]; None if `gallery` is None.
        own: see `rank_gallery`.
        groups: see `rank_gallery`.

    Returns:
        int32 [Q], labels. In a tie, the smallest label wins; distances that round to the same
        float32 are equal. A class of which nothing is searched never wins.
    """
    # Long: the query's own class has a mean of its own.
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    classes, gallery_classes, own_classes = _places_of_classes(gallery_labels, query_labels)
    sizes = np.bincount(gallery_classes)
    queries64, gallery64 = centred_and_scaled(queries, gallery)
    sums = np.zeros((len(classes), gallery64.shape[1]))
    np.add.at(sums, gallery_classes, gallery64)
    means = sums / sizes[:, None]
    half_norms = 0.5 * np.einsum("cd,cd->c", means, means)
    query_half_norms = 0.5 * np.einsum("qd,qd->q", queries64, queries64)
    hidden = _HiddenOfClass(gallery64, Unsearched.of(own, query_labels, gallery_labels, groups))
    predicted = np.empty(len(queries), np.int32)
    for start in range(0, len(queries), BLOCK_SIZE):
        rows = np.arange(start, min(start + BLOCK_SIZE, len(queries)))
        # Half of the squared distances, float64 [<= BLOCK_SIZE, C].
        norms = query_half_norms[rows, None] + half_norms
        distances = norms - queries64[rows] @ means.T
        changed = rows[(own_classes[rows] < len(classes)) & (hidden.counts[rows] > 0)]
        if len(changed):
            of_class = own_classes[changed]
            left = sizes[of_class] - hidden.counts[changed]
            own_means = (sums[of_class] - hidden.sums(changed)) / np.maximum(left, 1)[:, None]
            own_norms = 0.5 * np.einsum("qd,qd->q", own_means, own_means)
            own_norms += query_half_norms[changed]
            products = np.einsum("qd,qd->q", queries64[changed], own_means)
            norms[changed - start, of_class] = own_norms
            distances[changed - start, of_class] = np.where(left > 0, own_norms - products, np.inf)
        # As neighbours are compared: rounding does not decide between equally near means.
        distances[distances <= ROUNDING * norms] = 0
        predicted[rows] = classes[distances.astype(np.float32).argmin(axis=1)]
    return predicted


class _HiddenOfClass:
    """Sums and counts of the gallery's examples that a query does not search.

    Attributes:
        counts: int [Q].
    """

    def __init__(self, gallery: NDArray[np.float64], hidden: Unsearched) -> None:
        """Take the gallery, float64 [G, D], and what its queries do not search."""
        self.counts = hidden.num_positives
        self._gallery, self._own = gallery, hidden.own
        self._part_sums: NDArray[np.float64] | None = None
        if hidden.parts is not None:
            wanted, self._part_of = np.unique(hidden.parts[0], return_inverse=True)
            rows = np.flatnonzero(np.isin(hidden.parts[1], wanted))
            self._part_sums = np.zeros((len(wanted), gallery.shape[1]))
            parts = np.searchsorted(wanted, hidden.parts[1][rows])
            np.add.at(self._part_sums, parts, gallery[rows])

    def sums(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the sum of what each of the queries `rows` does not search, float64 [r, D]."""
        if self._part_sums is not None:
            return self._part_sums[self._part_of.ravel()[rows]]
        assert self._own is not None
        return self._gallery[self._own[rows]]
