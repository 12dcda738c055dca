"""The losses as NumPy loops over (a, p, n), written from their definitions, in float64."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    """What a strategy must return, and the gradient of its loss by the embeddings."""

    loss: float
    num_averaged_triplets: int
    num_positive_triplets: int
    num_valid_triplets: int
    gradient: np.ndarray  # float64 [B, D]


def distance(x: np.ndarray, y: np.ndarray, squared: bool) -> float:
    square = float(((x - y) ** 2).sum())
    return square if squared else square**0.5


def distance_gradient(x: np.ndarray, y: np.ndarray, squared: bool) -> np.ndarray:
    """The gradient of `distance` by x; by y it is the negative. 0 where x = y."""
    if squared:
        return 2 * (x - y)
    d = distance(x, y, squared)
    return (x - y) / d if d > 0 else np.zeros_like(x)


def valid_triplets(labels: np.ndarray) -> Iterator[tuple[int, int, int]]:
    size = len(labels)
    for a in range(size):
        for p in range(size):
            for n in range(size):
                if a != p and labels[a] == labels[p] and labels[n] != labels[a]:
                    yield a, p, n


def mean_over(
    triplets: list[tuple[int, int, int]],
    embeddings: np.ndarray,
    margin: float,
    squared: bool,
    divisor: int,
) -> tuple[float, np.ndarray]:
    """The sum of the triplets' losses and its gradient, both divided by `divisor`."""
    x = embeddings.astype(np.float64)
    loss, gradient = 0.0, np.zeros_like(x)
    for a, p, n in triplets:
        value = distance(x[a], x[p], squared) - distance(x[a], x[n], squared) + margin
        if value > 0:
            loss += value
            by_positive = distance_gradient(x[a], x[p], squared)
            by_negative = distance_gradient(x[a], x[n], squared)
            gradient[a] += by_positive - by_negative
            gradient[p] -= by_positive
            gradient[n] += by_negative
    return (loss / divisor, gradient / divisor) if divisor else (0.0, gradient)


def count_positive(
    triplets: list[tuple[int, int, int]], embeddings: np.ndarray, margin: float, squared: bool
) -> int:
    x = embeddings.astype(np.float64)
    return sum(
        distance(x[a], x[p], squared) - distance(x[a], x[n], squared) + margin > 0
        for a, p, n in triplets
    )


def batch_all(
    labels: np.ndarray, embeddings: np.ndarray, *, margin: float, squared: bool
) -> Reference:
    """Every valid triplet; the mean over those with a loss > 0."""
    triplets = list(valid_triplets(labels))
    num_positive = count_positive(triplets, embeddings, margin, squared)
    loss, gradient = mean_over(triplets, embeddings, margin, squared, num_positive)
    return Reference(loss, num_positive, num_positive, len(triplets), gradient)


def batch_hard(
    labels: np.ndarray, embeddings: np.ndarray, *, margin: float, squared: bool
) -> Reference:
    """Each anchor's farthest positive and nearest negative; the mean over anchors with both."""
    x = embeddings.astype(np.float64)
    hardest: dict[int, tuple[int, int, int]] = {}
    for a, p, n in valid_triplets(labels):
        _, p_so_far, n_so_far = hardest.get(a, (a, p, n))
        if distance(x[a], x[p], squared) > distance(x[a], x[p_so_far], squared):
            p_so_far = p
        if distance(x[a], x[n], squared) < distance(x[a], x[n_so_far], squared):
            n_so_far = n
        hardest[a] = (a, p_so_far, n_so_far)
    triplets = list(hardest.values())
    num_positive = count_positive(triplets, embeddings, margin, squared)
    loss, gradient = mean_over(triplets, embeddings, margin, squared, len(triplets))
    return Reference(loss, len(triplets), num_positive, len(triplets), gradient)
