"""How well embeddings find their own class: exact nearest neighbours, in bounded memory."""

import numpy as np
from numpy.typing import NDArray

# Rows of a block of the distance matrix: 128 x 60 000 float32 are 31 MB, which caches still serve.
BLOCK_SIZE = 128

# Of the distances between examples: a few near pairs, the typical pair, a few far pairs.
PERCENTILES = (5, 50, 95)


def nearest_neighbors(
    queries: NDArray[np.float32], gallery: NDArray[np.float32] | None = None
) -> NDArray[np.intp]:
    """Find each query's nearest neighbour by Euclidean distance.

    Args:
        queries: float32 [Q, D].
        gallery: float32 [G, D]; None for the queries themselves, each without itself.

    Returns:
        int [Q], positions in the gallery; of several equally near, the first.
    """
    leave_one_out = gallery is None
    points = queries if gallery is None else gallery
    # Distances stay when all move alike. Around one of them the norms are as small as the
    # distances, which the sum below would else lose to rounding where all embeddings lie together.
    origin = points[:1]
    queries, points = queries - origin, points - origin
    # |q - g|^2 = |q|^2 + |g|^2 - 2 q.g; |q|^2 is the same for all g and can be left out.
    half_norms = 0.5 * np.einsum("gd,gd->g", points, points)
    nearest = np.empty(len(queries), np.intp)
    for start in range(0, len(queries), BLOCK_SIZE):
        block = queries[start : start + BLOCK_SIZE]
        distances = block @ points.T  # [<= BLOCK_SIZE, G]
        np.subtract(half_norms, distances, out=distances)
        if leave_one_out:
            rows = np.arange(len(block))
            distances[rows, start + rows] = np.inf
        nearest[start : start + BLOCK_SIZE] = distances.argmin(axis=1)
    return nearest


def recall_at_1(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int32],
    gallery: NDArray[np.float32] | None = None,
    gallery_labels: NDArray[np.int32] | None = None,
) -> float:
    """Return the share of queries whose nearest neighbour has the query's label.

    Args:
        queries: float32 [Q, D].
        query_labels: int32 [Q].
        gallery: float32 [G, D]; None for the queries themselves, each without itself.
        gallery_labels: int32 [G]; None with `gallery`.

    Returns:
        0 to 1; 0 where there is no query, or no neighbour to find.
    """
    labels = query_labels if gallery_labels is None else gallery_labels
    if len(queries) == 0 or len(labels) < (2 if gallery is None else 1):
        return 0.0
    return float(np.mean(labels[nearest_neighbors(queries, gallery)] == query_labels))


def percentiles_of_distances(
    embeddings: NDArray[np.float32], distance: str, max_pairs: int = 200_000
) -> NDArray[np.float32]:
    """Return percentiles of the distances between different examples.

    Args:
        embeddings: float32 [N, D].
        distance: see `src.mining.mine`.
        max_pairs: where there are more pairs, this many are drawn, always the same ones.

    Returns:
        float32, one for each of `PERCENTILES`; zeros where there is no pair.
    """
    size, num_dimensions = embeddings.shape
    if size < 2:
        return np.zeros(len(PERCENTILES), np.float32)
    if size * (size - 1) // 2 <= max_pairs:
        first, second = np.triu_indices(size, k=1)
    else:
        rng = np.random.default_rng(0)
        first = rng.integers(size, size=max_pairs)
        second = (first + rng.integers(1, size, size=max_pairs)) % size
    if distance == "cosine":
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        embeddings = embeddings / np.maximum(norms, np.finfo(np.float32).tiny)
    square_distances = np.empty(len(first), np.float32)
    for start in range(0, len(first), BLOCK_SIZE):
        block = slice(start, start + BLOCK_SIZE)
        differences = embeddings[first[block]] - embeddings[second[block]]  # [<= BLOCK_SIZE, D]
        square_distances[block] = np.einsum("pd,pd->p", differences, differences)
    if distance == "euclidean":
        square_distances = np.sqrt(square_distances)
    scale = {"mean_squared": num_dimensions, "cosine": 2}.get(distance, 1)
    percentiles: NDArray[np.float64] = np.percentile(square_distances, PERCENTILES) / scale
    return percentiles.astype(np.float32)
