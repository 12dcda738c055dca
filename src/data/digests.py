"""Computes 64-bit hashes, which identify equal pictures and equal files."""

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
    """Return the 64-bit BLAKE2b hash of some bytes; 0 is replaced by 1."""
    return _number(blake2b(content, digest_size=8).digest())


def file_digest(file: BinaryIO) -> int:
    """Return the `digest` of a file's content, from its current position to its end."""
    found = blake2b(digest_size=8)
    while chunk := file.read(_CHUNK_BYTES):
        found.update(chunk)
    return _number(found.digest())


def digests_of(images: Images) -> NDArray[np.uint64]:
    """Return the `digest` of each image's pixels, uint64 [N]; images are uint8 [N, H, W, C]."""
    size = math.prod(images.shape[1:])
    found = []
    for piece in in_pieces(images):
        pixels = np.ascontiguousarray(piece).reshape(-1).data
        for start in range(0, len(pixels), size):
            found.append(digest(pixels[start : start + size]))
    return np.array(found, np.uint64)


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashed, "little") or 1
