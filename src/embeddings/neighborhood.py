"""Analyses each example's neighbours: predicted class, distances, and errors nearby."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.search import NUM_VOTES, majority, nearest_columns, visit_distances
from src.mining.distances import paired_distances
from src.system.progress import progress_bar

NUM_NEARBY = 50
"""Number of nearest neighbours among which `errors_nearby` counts errors."""


class Neighbors(NamedTuple):
    """The result of Q queries against a gallery.

    Attributes:
        predicted: int32 [Q], the most frequent label of the 5 nearest neighbours. In a tie, the
            nearest neighbour's label wins. It is -1 if the gallery has no other example of the
            query's class, because no prediction could be right.
        own_distance: float64 [Q], Euclidean distance to the nearest other example of the query's
            class; NaN if there is none.
        other_distance: float64 [Q], Euclidean distance to the nearest example of another class;
            NaN if there is none.
    """

    predicted: NDArray[np.int32]
    own_distance: NDArray[np.float64]
    other_distance: NDArray[np.float64]


def neighbors(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int32],
    own: NDArray[np.intp] | None = None,
) -> Neighbors:
    """Find each query's neighbours exactly, in one pass over all distances.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D], the examples whose labels predict.
        gallery_labels: int32 [G].
        own: int [Q], the position of each query in the gallery, which is excluded. None if the
            gallery does not contain the queries.
    """
    size = len(queries)
    voted = np.full(size, -1, np.int32)
    nearest_own, nearest_other = np.full((2, size), -1, np.intp)

    def visit(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        nearest = nearest_columns(distances, NUM_VOTES)
        labels, own_labels = gallery_labels[nearest], query_labels[rows, None]
        voted[rows] = majority(labels)
        for found, fits in ((nearest_own, np.equal), (nearest_other, np.not_equal)):
            # Mostly the first voter that fits is the nearest: no other needs to be looked at.
            is_voter = fits(labels, own_labels)
            first = nearest[np.arange(len(rows)), is_voter.argmax(axis=1)]
            rest = np.flatnonzero(~is_voter.any(axis=1))
            if rest.size:
                excluded = ~fits(gallery_labels, own_labels[rest])
                candidates = np.where(excluded, np.float32(np.inf), distances[rest])
                first[rest] = candidates.argmin(axis=1)
                exists = np.isfinite(candidates[np.arange(len(rest)), first[rest]])
                first[rest[~exists]] = -1
            found[rows] = first
        bar.update(len(rows))

    with progress_bar("neighbours", size, "images") as bar:
        visit_distances(queries, gallery, visit, own=own)
    own_distance, other_distance = np.full((2, size), np.nan)
    for distance, found in ((own_distance, nearest_own), (other_distance, nearest_other)):
        exists = found >= 0
        distance[exists] = paired_distances(queries[exists], gallery[found[exists]], "euclidean")
    predicted = np.where(nearest_own < 0, np.int32(-1), voted)
    return Neighbors(predicted, own_distance, other_distance)


def errors_nearby(
    points: NDArray[np.float32], is_judged: NDArray[np.bool_], is_wrong: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the share of wrong predictions around each point.

    Args:
        points: float32 [N, D].
        is_judged: bool [N], whether the point has a prediction; points without one do not count.
        is_wrong: bool [N], whether the prediction is wrong.

    Returns:
        float64 [N], 0 to 1: the weighted share among the 50 nearest neighbours; the r-th has weight
        1/r. NaN if none of them has a prediction.
    """
    size = len(points)
    shares = np.full(size, np.nan)
    counts_as_wrong = is_judged & is_wrong

    def visit(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
        nearest = nearest_columns(distances, NUM_NEARBY)
        weights = 1 / np.arange(1, nearest.shape[1] + 1)
        judged = is_judged[nearest] @ weights
        wrong = counts_as_wrong[nearest] @ weights
        shares[rows] = np.divide(wrong, judged, out=np.full(len(rows), np.nan), where=judged > 0)
        bar.update(len(rows))

    with progress_bar("errors nearby", size, "images") as bar:
        visit_distances(points, points, visit, own=np.arange(size))
    return shares
