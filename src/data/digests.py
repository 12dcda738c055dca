"""Hashes of 64 bits, by which equal pictures and equal files are found."""

import math
from hashlib import blake2b
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from src.data.images import Images, in_pieces

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHUNK_BYTES = 1 << 20


def digest(content: "Buffer") -> int:
    """Return a hash of some bytes: the first 64 bits of their BLAKE2b, never 0."""
    return _number(blake2b(content, digest_size=8).digest())


def file_digest(file: BinaryIO) -> int:
    """Return the `digest` of what is left to read of a file."""
    found = blake2b(digest_size=8)
    while chunk := file.read(_CHUNK_BYTES):
        found.update(chunk)
    return _number(found.digest())


def digests_of(images: Images) -> NDArray[np.uint64]:
    """Return the `digest` of each image's pixels, uint64 [N], of uint8 [N, H, W, C]."""
    size = math.prod(images.shape[1:])
    found = []
    for piece in in_pieces(images):
        pixels = np.ascontiguousarray(piece).reshape(-1).data
        for start in range(0, len(pixels), size):
            found.append(digest(pixels[start : start + size]))
    return np.array(found, np.uint64)


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashed, "little") or 1
