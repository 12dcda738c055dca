"""What an embedding has to be better than: the pixels themselves."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from src.data.images import in_pieces
from src.data.split import Split
from src.errors import UserError
from src.system.cache import cached, digest

# Numbers of an image's embedding at most, by which a large image costs no more than a small one.
MAX_NUMBERS = 1024

# Of the file that remembers metrics; to be raised where metrics or `raw_pixels` change.
_VERSION = 3

Metrics = dict[str, dict[str, float | int | None]]
"""Metrics by name, of each split."""


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


def remembered(splits: Mapping[str, Split], compute: Callable[[], Metrics]) -> Metrics:
    """Return what `compute` says of these splits, at once where it has been asked before.

    Among 784 dimensions neighbours take longer to find than the evaluation of a network, and of the
    same images they are the same for every experiment. So they are kept, a small file for each
    choice of splits, in `$XDG_CACHE_HOME/tripletboard` (`~/.cache/tripletboard`); where nothing can
    be written, nothing is remembered.

    Args:
        splits: by name; the file is found by all their images and labels.
        compute: returns their metrics by `raw_pixels`.
    """
    of_splits = digest(_parts(splits))
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return compute()
    path = Path(home, "tripletboard", f"raw_pixels-{of_splits[:16]}.npz")
    key = {"splits": of_splits, "version": _VERSION}
    found: list[Metrics] = []

    def compute_text() -> NDArray[np.str_]:
        found.append(compute())
        return np.array(json.dumps(found[0]))

    try:
        text = cached(path, key, compute_text)
    except UserError:  # it cannot be written
        return found[0]
    try:
        return TypeAdapter(Metrics).validate_json(str(text), strict=True)
    except ValidationError:  # another program has made the file
        with contextlib.suppress(OSError):
            path.unlink()
        return compute()


def _parts(splits: Mapping[str, Split]) -> Iterator[NDArray[np.generic] | bytes]:
    for name, split in splits.items():
        yield f"{name} {split.images.shape}".encode()
        yield split.labels
        yield from in_pieces(split.images)
