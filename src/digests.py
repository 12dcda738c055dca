"""Hashes of 64 bits, by which equal pictures and equal files are found."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from src.mapped_images import Images, in_pieces

if TYPE_CHECKING:
    from typing_extensions import Buffer


def digest(content: "Buffer") -> int:
    """Return a hash of some bytes: the first 64 bits of their BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def digests_of(images: Images) -> NDArray[np.uint64]:
    """Return the hash of each image's pixels, uint64 [N], of uint8 [N, H, W, C]."""
    found = np.empty(len(images), np.uint64)
    position = 0
    for piece in in_pieces(images):
        for image in np.ascontiguousarray(piece):
            found[position] = digest(image)
            position += 1
    return found
