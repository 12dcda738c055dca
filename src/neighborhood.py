"""What the neighbours of each example say of it: its predicted class, and where errors gather."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUM_VOTES = 5
"""The nearest neighbours that vote on an example's class."""

NUM_NEARBY = 50
"""The nearest neighbours among which errors are counted."""


class Neighborhood(NamedTuple):
    """What is known of each of Q examples from its neighbours.

    Attributes:
        predicted: int32 [Q], the most frequent label of the 5 nearest, of several the smallest.
        is_wrong: bool [Q], whether that is not the example's own.
        own_distance: float32 [Q], the Euclidean distance to the nearest example of its class;
            infinite where it is the only one.
        other_distance: float32 [Q], to the nearest example of another class; infinite where there
            is none.
        errors_nearby: float32 [Q], 0 to 1: the share of wrong ones among the 50 nearest of the
            same split, where the r-th nearest counts 1/r.
    """

    predicted: NDArray[np.int32]
    is_wrong: NDArray[np.bool_]
    own_distance: NDArray[np.float32]
    other_distance: NDArray[np.float32]
    errors_nearby: NDArray[np.float32]


def neighborhood(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32] | None = None,
    gallery_labels: NDArray[np.int32] | None = None,
) -> Neighborhood:
    """Look at the neighbours of each query, exactly, in bounded memory.

    scikit-learn compares all pairs in blocks that the caches hold, on all cores.

    Args:
        queries: float32 [Q, D], Q at least 1.
        query_labels: int32 [Q].
        gallery: float32 [G, D], the examples that predict; None for the queries themselves, each
            without itself.
        gallery_labels: int32 [G]; None with `gallery`.
    """
    within = nearest(queries, queries, NUM_NEARBY, leave_one_out=True)[0]  # [Q, <= 50]
    if gallery is None or gallery_labels is None:
        gallery, gallery_labels = queries, query_labels
        voters = within[:, :NUM_VOTES]
        leave_one_out = True
    else:
        voters = nearest(queries, gallery, NUM_VOTES)[0]
        leave_one_out = False
    predicted = _vote(gallery_labels[voters], query_labels)
    is_wrong = predicted != query_labels
    own_distance = np.full(len(queries), np.inf, np.float32)
    other_distance = np.full(len(queries), np.inf, np.float32)
    for label in np.unique(query_labels):
        rows = np.flatnonzero(query_labels == label)
        own, other = gallery[gallery_labels == label], gallery[gallery_labels != label]
        for distance, points, leave_out in (
            (own_distance, own, leave_one_out),
            (other_distance, other, False),
        ):
            found = nearest(queries[rows], points, 1, leave_one_out=leave_out)[1]
            if found.shape[1] == 1:
                distance[rows] = found[:, 0]
    weights = 1 / np.arange(1, within.shape[1] + 1)
    weights /= max(weights.sum(), 1)
    errors_nearby = (is_wrong[within] @ weights).astype(np.float32)
    return Neighborhood(predicted, is_wrong, own_distance, other_distance, errors_nearby)


def nearest(
    queries: NDArray[np.float32],
    gallery: NDArray[np.float32],
    count: int,
    *,
    leave_one_out: bool = False,
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Find each query's nearest neighbours by Euclidean distance.

    Args:
        queries: float32 [Q, D], Q at least 1.
        gallery: float32 [G, D].
        count: how many, K; fewer where the gallery is smaller.
        leave_one_out: whether the gallery is the queries, in the same order, and each is left out.

    Returns:
        Positions in the gallery, int [Q, K], the nearest first, and the distances, float32 [Q, K].
    """
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(gallery) - leave_one_out)
    if count < 1:
        return np.empty((len(queries), 0), np.intp), np.empty((len(queries), 0), np.float32)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(gallery)
    distances, neighbors = search.kneighbors(None if leave_one_out else queries)
    return neighbors, distances.astype(np.float32)


def _vote(
    neighbor_labels: NDArray[np.int32], without_neighbors: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the most frequent label of each row, [Q, K] -> [Q], of several the smallest.

    Where there is no neighbour at all, it is that of `without_neighbors`.
    """
    if neighbor_labels.shape[1] == 0:
        return without_neighbors
    votes = (neighbor_labels[:, :, None] == neighbor_labels[:, None, :]).sum(axis=2)  # [Q, K]
    is_elected = votes == votes.max(axis=1, keepdims=True)
    last = np.iinfo(np.int32).max
    elected: NDArray[np.int32] = np.where(is_elected, neighbor_labels, last).min(axis=1)
    return elected
