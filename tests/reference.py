"""The losses as NumPy loops over (a, p, n), written from their definitions, in float64."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from src.registry import OFFLINE_STRATEGIES

DISTANCES = ("euclidean", "squared_euclidean", "mean_squared", "cosine")


class Reference(NamedTuple):
    """What a strategy must return, and the gradient of its loss by the embeddings."""

    loss: float
    num_averaged_triplets: int
    num_positive_triplets: int
    num_valid_triplets: int
    gradient: np.ndarray  # float64 [B, D]


def unit(x: np.ndarray) -> np.ndarray:
    length = float((x**2).sum()) ** 0.5
    return x / length if length > 0 else x


def distance(x: np.ndarray, y: np.ndarray, name: str) -> float:
    if name == "cosine":
        return float(((unit(x) - unit(y)) ** 2).sum()) / 2
    square = float(((x - y) ** 2).sum())
    return {"euclidean": square**0.5, "squared_euclidean": square, "mean_squared": square / len(x)}[
        name
    ]


def distance_gradient(x: np.ndarray, y: np.ndarray, name: str) -> np.ndarray:
    """The gradient of `distance` by x. 0 at distance 0."""
    if name == "squared_euclidean":
        return 2 * (x - y)
    if name == "mean_squared":
        return 2 * (x - y) / len(x)
    if name == "cosine":  # of |unit(x) - unit(y)|^2 / 2 = (|x^|^2 + |y^|^2) / 2 - x^.y^
        length = float((x**2).sum()) ** 0.5
        if length == 0:
            return np.zeros_like(x)
        return -(unit(y) - (unit(x) @ unit(y)) * unit(x)) / length
    d = distance(x, y, name)
    return (x - y) / d if d > 0 else np.zeros_like(x)


def valid_triplets(
    labels: np.ndarray, anchors: Iterable[int] | None = None
) -> Iterator[tuple[int, int, int]]:
    """Those of the `anchors`, places in the batch; None for all."""
    size = len(labels)
    for a in range(size) if anchors is None else anchors:
        for p in range(size):
            for n in range(size):
                if a != p and labels[a] == labels[p] and labels[n] != labels[a]:
                    yield a, p, n


class Batch:
    """Embeddings with all their distances and the gradients of these."""

    def __init__(self, embeddings: np.ndarray, name: str) -> None:
        x = embeddings.astype(np.float64)
        size = range(len(x))
        self.d = [[distance(x[i], x[j], name) for j in size] for i in size]
        self.by_first = [[distance_gradient(x[i], x[j], name) for j in size] for i in size]
        self.zeros = np.zeros_like(x)

    def difference(self, triplet: tuple[int, int, int]) -> float:
        a, p, n = triplet
        return self.d[a][p] - self.d[a][n]

    def mean(
        self,
        triplets: list[tuple[int, int, int]],
        loss: Callable[[float], float],
        slope: Callable[[float], float],
        divisor: int,
    ) -> tuple[float, np.ndarray]:
        """The sum of loss(d(a,p) - d(a,n)) and its gradient, both divided by `divisor`."""
        total, gradient = 0.0, self.zeros.copy()
        for a, p, n in triplets:
            difference = self.difference((a, p, n))
            total += loss(difference)
            factor = slope(difference)
            gradient[a] += factor * (self.by_first[a][p] - self.by_first[a][n])
            gradient[p] += factor * self.by_first[p][a]
            gradient[n] -= factor * self.by_first[n][a]
        return (total / divisor, gradient / divisor) if divisor else (0.0, gradient)


def _hinge(margin: float) -> tuple[Callable[[float], float], Callable[[float], float]]:
    return lambda x: max(x + margin, 0.0), lambda x: float(x + margin > 0)


def batch_all(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float,
    distance: str,
    anchors: Iterable[int] | None = None,
) -> Reference:
    """Every valid triplet; the mean over those with a loss > 0."""
    batch = Batch(embeddings, distance)
    triplets = list(valid_triplets(labels, anchors))
    num_positive = sum(batch.difference(t) + margin > 0 for t in triplets)
    loss, gradient = batch.mean(triplets, *_hinge(margin), num_positive)
    return Reference(loss, num_positive, num_positive, len(triplets), gradient)


def batch_hard(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float | str,
    distance: str,
    anchors: Iterable[int] | None = None,
) -> Reference:
    """Each anchor's farthest positive and nearest negative; the mean over anchors with both."""
    batch = Batch(embeddings, distance)
    hardest: dict[int, tuple[int, int, int]] = {}
    for a, p, n in valid_triplets(labels, anchors):
        _, p_so_far, n_so_far = hardest.get(a, (a, p, n))
        if batch.d[a][p] > batch.d[a][p_so_far]:
            p_so_far = p
        if batch.d[a][n] < batch.d[a][n_so_far]:
            n_so_far = n
        hardest[a] = (a, p_so_far, n_so_far)
    triplets = list(hardest.values())
    if margin == "soft":
        num_positive = sum(batch.difference(t) >= 0 for t in triplets)
        loss, gradient = batch.mean(
            triplets,
            lambda x: float(np.log1p(np.exp(x))),
            lambda x: float(1 / (1 + np.exp(-x))),
            len(triplets),
        )
    else:
        num_positive = sum(batch.difference(t) + margin > 0 for t in triplets)
        loss, gradient = batch.mean(triplets, *_hinge(margin), len(triplets))
    return Reference(loss, len(triplets), num_positive, len(triplets), gradient)


def batch_semihard(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float,
    distance: str,
    anchors: Iterable[int] | None = None,
) -> Reference:
    """For each (a, p) the nearest negative farther than p, else the farthest; mean over (a, p)."""
    batch = Batch(embeddings, distance)
    triplets = []
    for a, p in sorted({(a, p) for a, p, _ in valid_triplets(labels, anchors)}):
        negatives = [n for n in range(len(labels)) if labels[n] != labels[a]]
        farther = [n for n in negatives if batch.d[a][n] > batch.d[a][p]]
        if farther:
            n = min(farther, key=lambda n: batch.d[a][n])
        else:
            n = max(negatives, key=lambda n: batch.d[a][n])
        triplets.append((a, p, n))
    num_positive = sum(batch.difference(t) + margin > 0 for t in triplets)
    loss, gradient = batch.mean(triplets, *_hinge(margin), len(triplets))
    return Reference(loss, len(triplets), num_positive, len(triplets), gradient)


def offline(
    labels: np.ndarray, embeddings: np.ndarray, *, margin: float, distance: str
) -> Reference:
    """The triplets of a batch stacked in thirds; the mean over those that are valid by label."""
    batch = Batch(embeddings, distance)
    size = len(labels) // 3
    triplets = [
        (a, size + a, 2 * size + a)
        for a in range(size)
        if labels[a] == labels[size + a] and labels[a] != labels[2 * size + a]
    ]
    num_positive = sum(batch.difference(t) + margin > 0 for t in triplets)
    loss, gradient = batch.mean(triplets, *_hinge(margin), len(triplets))
    return Reference(loss, len(triplets), num_positive, len(triplets), gradient)


def as_batch_of(strategy: str, labels: np.ndarray) -> np.ndarray:
    """The examples that the strategy is given of a batch: all, or offline as stacked triplets.

    There each example is an anchor once, with the next one of its class and the next of another,
    and where there is none with what `src/mining/triplets.py` puts in that place.
    """
    if strategy not in OFFLINE_STRATEGIES:
        return np.arange(len(labels))
    triplets = []
    for a, label in enumerate(labels):
        behind = [*range(a + 1, len(labels)), *range(a)]
        n = next((i for i in behind if labels[i] != label), a)
        p = next((i for i in behind if labels[i] == label), n)
        triplets.append((a, p, n))
    return np.array(triplets, int).T.reshape(-1)
