"""Scores that tell strangers from known queries, compared by `benchmarks.open_set`."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.search import k_nearest_neighbors

NUM_NEIGHBORS = 20

# Share of the mean variance that is added to each direction's before whitening.
_SHRINKAGE = 0.3

Embeddings = NDArray[np.float32]
Values = NDArray[np.float64]


class Gallery(NamedTuple):
    """The enrolled digits.

    Attributes:
        embeddings: float32 [G, D].
        labels: int32 [G].
        radii: [G], the mean distance of each to its 5 nearest others.
    """

    embeddings: Embeddings
    labels: NDArray[np.int32]
    radii: Values


class Queries(NamedTuple):
    """Embedded images and their neighbours in the gallery.

    Attributes:
        embeddings: float32 [Q, D].
        positions: int [Q, K], the nearest pictures.
        distances: [Q, K], to them.
        by_class: [Q, C], to the nearest picture of each class.
    """

    embeddings: Embeddings
    positions: NDArray[np.intp]
    distances: Values
    by_class: Values


def make_gallery(embeddings: Embeddings, labels: NDArray[np.int32]) -> Gallery:
    """Return the gallery of a split."""
    radii = k_nearest_neighbors(embeddings, count=5)[1].mean(axis=1)
    return Gallery(embeddings, labels, radii)


def whitening(embeddings: Embeddings, labels: NDArray[np.int32]) -> Values:
    """Return a linear map, [D, D], after which classes spread in all directions alike.

    The deviations from the class means have about the same variance in all directions. Their total
    variance changes little. Distances to class means become Mahalanobis distances.
    """
    means = np.stack([embeddings[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    variances, directions = np.linalg.eigh(np.cov((embeddings - means[labels]).T))
    mean = variances.mean()
    scales = np.sqrt((1 + _SHRINKAGE) * mean / (variances + _SHRINKAGE * mean))
    whitened: Values = directions * scales
    return whitened


def find(gallery: Gallery, embeddings: Embeddings) -> Queries:
    """Search the gallery for each embedding."""
    classes = range(gallery.labels.max() + 1)
    by_class = [
        k_nearest_neighbors(embeddings, gallery.embeddings[gallery.labels == c], count=1)[1]
        for c in classes
    ]
    nearest = k_nearest_neighbors(embeddings, gallery.embeddings, count=NUM_NEIGHBORS)
    return Queries(embeddings, *nearest, np.concatenate(by_class, axis=1))


def _to_class_mean(gallery: Gallery, queries: Queries) -> Values:
    """Return the distance to the nearest class mean, [Q]."""
    means = [
        gallery.embeddings[gallery.labels == c].mean(axis=0)
        for c in range(gallery.labels.max() + 1)
    ]
    return np.min([np.linalg.norm(queries.embeddings - mean, axis=1) for mean in means], axis=0)


def _votes_against(gallery: Gallery, queries: Queries) -> Values:
    """Return the share of 20 neighbours of another class; the distance decides ties."""
    labels = gallery.labels[queries.positions]
    agreeing = (labels[:, :, None] == labels[:, None, :]).sum(axis=2).max(axis=1)
    return NUM_NEIGHBORS - agreeing + queries.distances[:, 0] / 10


SCORES: Mapping[str, Callable[[Gallery, Queries], Values]] = {
    "nearest distance": lambda g, q: q.distances[:, 0],
    "mean of the 5 nearest": lambda g, q: q.distances[:, :5].mean(axis=1),
    "mean of the 20 nearest": lambda g, q: q.distances.mean(axis=1),
    "nearest / its radius": lambda g, q: q.distances[:, 0] / g.radii[q.positions[:, 0]],
    "mean of 20 / mean of their radii": lambda g, q: (
        q.distances.mean(axis=1) / g.radii[q.positions].mean(axis=1)
    ),
    "nearest / nearest of another class": lambda g, q: np.divide(
        *np.sort(q.by_class, axis=1)[:, :2].T
    ),
    "votes against, of 20": _votes_against,
    "nearest class mean": _to_class_mean,
}
"""Small for known queries. A score is computed from the gallery and the queries."""
