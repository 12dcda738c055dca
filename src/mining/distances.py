"""The distances of `src/distance.py`, in NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.distance import DISTANCES

PERCENTILES = (5, 50, 95)
"""Percentiles of the distances between examples: near pairs, the median pair, far pairs."""

# Differences are computed for this many pairs at a time.
_BLOCK_PAIRS = 64


def comparable(embeddings: NDArray[Any], distance: str) -> NDArray[Any]:
    """Return vectors whose squared Euclidean distances are the input of `from_squared`.

    Args:
        embeddings: float [N, D].
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        [N, D] of the same type. A zero vector stays zero.
    """
    if not DISTANCES[distance].compares_directions:
        return embeddings
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: NDArray[Any] = embeddings / np.maximum(lengths, np.finfo(embeddings.dtype).tiny)
    return scaled


def from_squared(squared: NDArray[Any], distance: str, num_dimensions: int) -> NDArray[Any]:
    """Return the distances, given the squared Euclidean distances of `comparable` vectors.

    Args:
        squared: float, of any shape, >= 0.
        distance: a key of `src.distance.DISTANCES`.
        num_dimensions: D.

    Returns:
        The same shape and type.
    """
    divisor = DISTANCES[distance].divisor
    return np.sqrt(squared) if divisor is None else squared / divisor(num_dimensions)


def paired_distances(
    x: NDArray[np.float32], y: NDArray[np.float32], distance: str
) -> NDArray[np.float64]:
    """Return the distance between each row of `x` and the same row of `y`.

    Args:
        x: float32 [M, D]; or [1, D] to compare one vector with all of `y`.
        y: float32 [M, D].
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        float64 [M].
    """
    x64, y64 = (comparable(vectors.astype(np.float64), distance) for vectors in (x, y))
    differences = x64 - y64
    return from_squared(np.einsum("md,md->m", differences, differences), distance, x.shape[1])


def percentiles_of_distances(
    embeddings: NDArray[np.float32], distance: str, max_pairs: int = 200_000
) -> NDArray[np.float32]:
    """Return percentiles of the distances between different examples.

    Args:
        embeddings: float32 [N, D].
        distance: a key of `src.distance.DISTANCES`.
        max_pairs: if there are more pairs, this many are drawn, with a fixed seed.

    Returns:
        float32, one value for each of PERCENTILES; NaN if there is no pair.
    """
    size, num_dimensions = embeddings.shape
    if size < 2:
        return np.full(len(PERCENTILES), np.nan, np.float32)
    if size * (size - 1) // 2 <= max_pairs:
        first, second = np.triu_indices(size, k=1)
    else:
        rng = np.random.default_rng(0)
        first = rng.integers(size, size=max_pairs)
        second = (first + rng.integers(1, size, size=max_pairs)) % size
    vectors = embeddings
    if DISTANCES[distance].compares_directions:  # float32 has no squares of very small lengths
        vectors = comparable(embeddings.astype(np.float64), distance).astype(np.float32)
    squared = np.empty(len(first), np.float32)
    for start in range(0, len(first), _BLOCK_PAIRS):
        block = slice(start, start + _BLOCK_PAIRS)
        differences = vectors[first[block]] - vectors[second[block]]  # [<= _BLOCK_PAIRS, D]
        squared[block] = np.einsum("pd,pd->p", differences, differences)
    distances = from_squared(squared, distance, num_dimensions)
    percentiles: NDArray[np.float64] = np.percentile(distances, PERCENTILES)
    return percentiles.astype(np.float32)
