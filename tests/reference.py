"""The losses as NumPy loops over (a, p, n), written from their definitions, in float64."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from src.registry import OFFLINE_STRATEGIES, SIMILARITY_STRATEGIES

DISTANCES = ("euclidean", "squared_euclidean", "mean_squared", "cosine")


def distances_of(strategy: str) -> tuple[str, ...]:
    """The distances that a strategy takes; the first one is for tests that need any."""
    return ("cosine",) if strategy in SIMILARITY_STRATEGIES else DISTANCES


def keys_of(strategy: str, **keys: Any) -> dict[str, Any]:
    """Keys of params with this strategy: those that it refuses are replaced."""
    if strategy in SIMILARITY_STRATEGIES:
        keys = {key: value for key, value in keys.items() if key != "margin"}
        keys["distance"] = "cosine"
    return {**keys, "triplet_strategy": strategy}


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

    def sum_of_losses(
        self, by_anchor: dict[int, tuple[float, dict[int, float]]], divisor: int
    ) -> tuple[float, np.ndarray]:
        """As `mean`, of each anchor's loss and its derivatives by the distances to others."""
        gradient = self.zeros.copy()
        for a, (_, slopes) in by_anchor.items():
            for other, slope in slopes.items():
                gradient[a] += slope * self.by_first[a][other]
                gradient[other] += slope * self.by_first[other][a]
        total = sum(loss for loss, _ in by_anchor.values())
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


def positives_and_negatives(
    labels: np.ndarray, anchors: Iterable[int] | None
) -> Iterator[tuple[int, list[int], list[int]]]:
    """Of the anchors that have both."""
    for a in range(len(labels)) if anchors is None else anchors:
        positives = [p for p in range(len(labels)) if p != a and labels[p] == labels[a]]
        negatives = [n for n in range(len(labels)) if labels[n] != labels[a]]
        if positives and negatives:
            yield a, positives, negatives


def easy_positive(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float | str,
    distance: str,
    anchors: Iterable[int] | None = None,
    negative: str = "semihard",
    temperature: float = 0.1,
) -> Reference:
    """Each anchor's nearest positive, and its nearest negative (that is farther)."""
    batch = Batch(embeddings, distance)
    triplets, num_wrong = [], 0
    for a, positives, negatives in positives_and_negatives(labels, anchors):
        d = batch.d[a]
        p = min(positives, key=lambda p: d[p])
        nearest = min(d[n] for n in negatives)
        if negative == "semihard":
            negatives = [n for n in negatives if d[n] > d[p]]
        if negatives:
            triplets.append((a, p, min(negatives, key=lambda n: d[n])))
            num_wrong += nearest <= d[p]
    if margin == "soft":
        num_positive = num_wrong
        loss, gradient = batch.mean(
            triplets,
            lambda x: float(np.log1p(np.exp(x / temperature))),
            lambda x: float(1 / (1 + np.exp(-x / temperature))) / temperature,
            len(triplets),
        )
    else:
        num_positive = sum(batch.difference(t) + margin > 0 for t in triplets)
        loss, gradient = batch.mean(triplets, *_hinge(margin), len(triplets))
    return Reference(loss, len(triplets), num_positive, len(triplets), gradient)


def multi_similarity(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float,
    distance: str,
    anchors: Iterable[int] | None = None,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> Reference:
    """By similarities, as the paper writes it; the mean over all anchors."""
    assert distance == "cosine"
    batch = Batch(embeddings, distance)
    s = 1 - np.array(batch.d)
    by_anchor, num_positive, num_valid = {}, 0, 0
    for a, positives, negatives in positives_and_negatives(labels, anchors):
        largest, smallest = max(s[a, n] for n in negatives), min(s[a, p] for p in positives)
        positives = [p for p in positives if s[a, p] - epsilon < largest]
        negatives = [n for n in negatives if s[a, n] + epsilon > smallest]
        pulls = {p: np.exp(-alpha * (s[a, p] - base)) for p in positives}
        pushes = {n: np.exp(beta * (s[a, n] - base)) for n in negatives}
        pulled, pushed = 1 + sum(pulls.values()), 1 + sum(pushes.values())
        slopes = {p: pull / pulled for p, pull in pulls.items()}
        slopes |= {n: -push / pushed for n, push in pushes.items()}
        by_anchor[a] = np.log(pulled) / alpha + np.log(pushed) / beta, slopes
        num_valid += 1
        num_positive += bool(positives)
        assert bool(positives) == bool(negatives)
    num_anchors = len(labels) if anchors is None else len(list(anchors))
    loss, gradient = batch.sum_of_losses(by_anchor, num_anchors)
    return Reference(loss, num_anchors, num_positive, num_valid, gradient)


def supervised_contrastive(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float,
    distance: str,
    anchors: Iterable[int] | None = None,
    temperature: float = 0.1,
) -> Reference:
    """The mean over the positives of minus the logarithm of their probabilities."""
    assert distance == "cosine"
    batch = Batch(embeddings, distance)
    s = 1 - np.array(batch.d)
    by_anchor, num_positive = {}, 0
    for a, positives, negatives in positives_and_negatives(labels, anchors):
        others = {j: np.exp(s[a, j] / temperature) for j in positives + negatives}
        total = sum(others.values())
        slopes = {j: -share / total / temperature for j, share in others.items()}
        loss = 0.0
        for p in positives:
            loss -= np.log(others[p] / total) / len(positives)
            slopes[p] += 1 / temperature / len(positives)
        by_anchor[a] = loss, slopes
        num_positive += min(s[a, p] for p in positives) <= max(s[a, n] for n in negatives)
    loss, gradient = batch.sum_of_losses(by_anchor, len(by_anchor))
    return Reference(loss, len(by_anchor), num_positive, len(by_anchor), gradient)


def distance_weighted(
    labels: np.ndarray,
    embeddings: np.ndarray,
    *,
    margin: float,
    distance: str,
    anchors: Iterable[int] | None = None,
    seed: tuple[int, int] = (0, 0),
    cutoff: float = 0.5,
    farthest: float = 1.4,
) -> Reference:
    """For each (a, p), the negative in whose share of the weights a random number falls."""
    batch, directions = Batch(embeddings, distance), Batch(embeddings, "cosine")
    triplets = []
    for a, positives, negatives in positives_and_negatives(labels, anchors):
        r = np.sqrt(2 * np.array(directions.d[a]))  # d = r^2 / 2
        negatives = [n for n in negatives if r[n] < farthest]
        weights = [1 / sphere_density(max(r[n], cutoff), embeddings.shape[1]) for n in negatives]
        for p in positives if negatives else []:
            left = uniform(*seed, a, p) * sum(weights)
            behind = np.cumsum(weights) > left
            triplets.append((a, p, negatives[int(np.argmax(behind))]))
    num_positive = sum(batch.difference(t) + margin > 0 for t in triplets)
    loss, gradient = batch.mean(triplets, *_hinge(margin), len(triplets))
    return Reference(loss, len(triplets), num_positive, len(triplets), gradient)


def sphere_density(r: float, num_dimensions: int) -> float:
    """How frequent the distance r is between random points of a sphere, up to a factor."""
    return r ** (num_dimensions - 2) * (1 - r**2 / 4) ** ((num_dimensions - 3) / 2)


def uniform(seed: int, step: int, row: int, column: int) -> float:
    """The number of `model.mining.draws.uniform_by_pair`."""
    of_row = mixed(mixed(mixed(seed) ^ step) ^ row)
    return mixed(of_row ^ mixed(column ^ 0x6A09E667)) / 2**32


def mixed(x: int) -> int:
    x &= 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x21F0AAAD & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x735A2D97 & 0xFFFFFFFF
    return x ^ x >> 15


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
