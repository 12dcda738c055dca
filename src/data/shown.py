"""Chooses the examples to show of a split that is too large to show completely."""

import numpy as np
from numpy.typing import NDArray

from src.data.split import stratified_indices
from src.seeds import stream

# The least number of images of a class that is shown, or all images if the class has fewer.
_MIN_SHOWN = 8


def shown_indices(labels: NDArray[np.int32], limit: int, seed: int) -> NDArray[np.intp]:
    """Return the examples of a split to show.

    If the split is larger than `limit`, the sample is stratified by class. If most classes would
    then have fewer than two images, fewer classes are shown, with more images each. So images of
    one class are still seen together.

    Args:
        labels: int32 [N].
        limit: the largest number of examples.
        seed: fixes the choice.

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
    least = max(2, min(_MIN_SHOWN, limit // 2))  # so that few images are of two classes, too
    numbers = np.minimum(sizes, np.maximum(least, np.floor(shares))).astype(int)
    drawn = rng.permutation(len(sizes))
    numbers[drawn[np.cumsum(numbers[drawn]) > limit]] = 0
    # Rank the examples of each class in random order. Those with a rank below the class's number
    # are shown.
    order = np.lexsort([rng.permutation(len(labels)), places])
    ranks = np.empty(len(labels), np.intp)
    ranks[order] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.flatnonzero(ranks < numbers[places])
