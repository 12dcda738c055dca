"""What an embedding has to be better than: the pixels themselves."""

import numpy as np
from numpy.typing import NDArray

# Numbers of an image's embedding at most, by which a large image costs no more than a small one.
MAX_NUMBERS = 1024


def raw_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the images as embeddings.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        float32 [N, H' * W' * C]: the pixels. An image of more than 1024 numbers is shrunk by the
        smallest whole factor that makes them fewer, as means over squares of that side, less what
        is left over at the right and below.
    """
    size, height, width, channels = images.shape
    factor, rows, columns = 1, height, width
    while rows * columns * channels > MAX_NUMBERS:
        factor += 1
        rows, columns = max(1, height // factor), max(1, width // factor)
    side = min(factor, height), min(factor, width)
    embeddings = np.empty((size, rows * columns * channels), np.float32)
    for start in range(0, size, 256):  # a set larger than memory is read in pieces
        block = images[start : start + 256, : rows * side[0], : columns * side[1]]
        squares = block.reshape(len(block), rows, side[0], columns, side[1], channels)
        means = squares.mean(axis=(2, 4), dtype=np.float32)
        embeddings[start : start + len(block)] = means.reshape(len(block), -1)
    return embeddings
