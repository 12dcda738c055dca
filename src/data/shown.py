"""Which examples stand for a split that is too large to be shown whole."""

import numpy as np
from numpy.typing import NDArray

from src.data.split import stratified_indices
from src.seeds import stream

# Of a class that is shown, at least so many images, or all that it has.
_MIN_SHOWN = 8


def shown_indices(labels: NDArray[np.int32], limit: int, seed: int) -> NDArray[np.intp]:
    """Return the examples that are shown of a split.

    Of a split larger than `limit` every class gives its share. If that were less than two of most
    classes, which would part the images of one class from each other, fewer classes are shown,
    with more of each.

    Args:
        labels: int32 [N].
        limit: how many, at the most.
        seed: fixes which.

    Returns:
        int [<= limit], ascending.
    """
    if len(labels) <= limit:
        return np.arange(len(labels))
    _, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    shares = sizes * (limit / len(labels))
    if np.median(shares) >= 2:
        return stratified_indices(labels, limit, seed)
    rng = stream("sample", seed)
    numbers = np.minimum(sizes, np.maximum(_MIN_SHOWN, np.floor(shares))).astype(int)
    drawn = rng.permutation(len(sizes))
    numbers[drawn[np.cumsum(numbers[drawn]) > limit]] = 0
    # Each example's rank in a random order of its class: those before the class's number are shown.
    order = np.lexsort([rng.permutation(len(labels)), places])
    ranks = np.empty(len(labels), np.intp)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.flatnonzero(ranks < numbers[places])
