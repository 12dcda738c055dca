"""Which triplets of a small batch a strategy chooses: for lessons, figures and new strategies.

Written from the definitions and checked against the strategies, whose own ways never list triplets.
A batch of B examples has up to B^3 / 4 triplets, so the batch must be small.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from src.mining.distances import comparable, from_squared

MAX_BATCH_SIZE = 256
"""The largest batch: 256 examples of two classes have 4 million triplets."""


def distance_matrix(embeddings: NDArray[np.float32], distance: str) -> NDArray[np.float64]:
    """Return the distances between all examples of a small batch.

    Args:
        embeddings: float [B, D], B at most MAX_BATCH_SIZE.
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        float64 [B, B], symmetric, with zeros on the diagonal.

    Raises:
        ValueError: the batch is too large.
    """
    _check_size(len(embeddings))
    vectors = comparable(embeddings.astype(np.float64), distance)
    squared = np.stack([((vectors - vector) ** 2).sum(axis=1) for vector in vectors])
    return from_squared(squared, distance, embeddings.shape[1])


def valid_triplets(labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return every valid triplet: anchor and positive of one class, the negative of another.

    Args:
        labels: integer [B], B at most MAX_BATCH_SIZE.

    Returns:
        int [N, 3]: anchor, positive, negative, as positions in the batch, in ascending order.

    Raises:
        ValueError: the batch is too large.
    """
    _check_size(len(labels))
    same = labels[:, None] == labels
    is_positive = same & ~np.eye(len(labels), dtype=bool)
    return np.argwhere(is_positive[:, :, None] & ~same[:, None, :])  # axes a p n


def chosen_triplets(
    strategy: str,
    labels: NDArray[np.integer],
    distances: NDArray[np.floating],
    *,
    margin: float,
) -> NDArray[np.intp]:
    """Return the triplets over which the loss of a strategy is a mean.

    Args:
        strategy: a key of `CHOICES`.
        labels: integer [B], B at most MAX_BATCH_SIZE.
        distances: float [B, B], from the anchor (row) to the candidate (column).
        margin: > 0, in units of the distance. Only batch-all's choice depends on it.

    Returns:
        int [N, 3]: anchor, positive, negative, as positions in the batch. Without a valid triplet,
        [0, 3].

    Raises:
        ValueError: the strategy is none of `CHOICES`, or the batch is too large.
    """
    if strategy not in CHOICES:
        raise ValueError(f"strategy: found {strategy!r}; accepted: {', '.join(CHOICES)}")
    triplets = valid_triplets(labels)
    a, p, n = triplets.T
    return triplets[CHOICES[strategy](triplets, distances[a, p], distances[a, n], margin)]


_Choice = Callable[
    [NDArray[np.intp], NDArray[np.floating], NDArray[np.floating], float],
    NDArray[np.bool_] | NDArray[np.intp],
]


def _batch_all(
    triplets: NDArray[np.intp],
    to_positive: NDArray[np.floating],
    to_negative: NDArray[np.floating],
    margin: float,
) -> NDArray[np.bool_]:
    """Choose all whose loss is positive."""
    chosen: NDArray[np.bool_] = to_positive - to_negative + margin > 0
    return chosen


def _batch_hard(
    triplets: NDArray[np.intp],
    to_positive: NDArray[np.floating],
    to_negative: NDArray[np.floating],
    margin: float,
) -> NDArray[np.intp]:
    """Choose for each anchor the farthest positive and the nearest negative."""
    order = np.lexsort((to_negative, -to_positive, triplets[:, 0]))
    return _first_of_each(order, triplets[order, :1])


def _batch_semihard(
    triplets: NDArray[np.intp],
    to_positive: NDArray[np.floating],
    to_negative: NDArray[np.floating],
    margin: float,
) -> NDArray[np.intp]:
    """Choose for each pair the nearest negative farther than the positive; else the farthest."""
    is_farther = to_negative > to_positive
    preferred = np.where(is_farther, to_negative, -to_negative)
    order = np.lexsort((preferred, ~is_farther, triplets[:, 1], triplets[:, 0]))
    return _first_of_each(order, triplets[order, :2])


CHOICES: dict[str, _Choice] = {
    "batch_all": _batch_all,
    "batch_hard": _batch_hard,
    "batch_semihard": _batch_semihard,
}
"""How each strategy chooses among the valid triplets, by its name in `params.json`."""


def _first_of_each(order: NDArray[np.intp], keys: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the first of `order`, [N], for each different row of `keys`, [N, K], in a row."""
    is_first = np.ones(len(order), bool)
    is_first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    return order[is_first]


def _check_size(size: int) -> None:
    if size > MAX_BATCH_SIZE:
        raise ValueError(f"found a batch of {size}; accepted: at most {MAX_BATCH_SIZE} examples")
