"""The raw-pixel baseline: a trained embedding should have better metrics than the pixels."""

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

# Maximum length of a raw-pixel embedding. It bounds the cost of large images.
MAX_NUMBERS = 1024

# Version of the cache file. Increase it if the metrics or `raw_pixels` change.
_VERSION = 5

Metrics = dict[str, dict[str, float | int | None]]
"""Split name -> metric name -> value."""


def raw_pixels(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels of each image as its embedding.

    An image with more than 1024 values is shrunk by the smallest integer factor that brings it to
    1024 or fewer. Each value is then the mean of a square with that side. Pixels left over at the
    right and bottom edges are dropped.

    Args:
        images: uint8 [N, H, W, C]; or vectors, float32 [N, 1, F, 1], which are returned as they
            are: a mean of neighbouring numbers would mean nothing.

    Returns:
        float32 [N, H' * W' * C].
    """
    if images.dtype == np.float32:
        return np.asarray(images[:], np.float32).reshape(len(images), -1)
    size, height, width, channels = images.shape
    factor, rows, columns = 1, height, width
    while rows * columns * channels > MAX_NUMBERS:
        factor += 1
        rows, columns = max(1, height // factor), max(1, width // factor)
    side = min(factor, height), min(factor, width)
    embeddings = np.empty((size, rows * columns * channels), np.float32)
    for start in range(0, size, 256):  # in pieces: the images may exceed memory
        block = images[start : start + 256, : rows * side[0], : columns * side[1]]
        squares = block.reshape(len(block), rows, side[0], columns, side[1], channels)
        means = squares.mean(axis=(2, 4), dtype=np.float32)
        embeddings[start : start + len(block)] = means.reshape(len(block), -1)
    return embeddings


def remembered(
    splits: Mapping[str, Split],
    compute: Callable[[], Metrics],
    *,
    excludes_groups: bool = False,
) -> Metrics:
    """Return the metrics from `compute`, cached on disk for these splits.

    A neighbour search in 784 dimensions takes longer than evaluating a network. Its result is the
    same for every experiment on the same images. Each set of splits therefore has a small file in
    `$XDG_CACHE_HOME/tripletboard` (default `~/.cache/tripletboard`). If the file cannot be written,
    the metrics are not cached.

    Args:
        splits: by name. A digest of all their images, labels and roles identifies the file.
        compute: returns the metrics of `raw_pixels` on these splits.
        excludes_groups: whether their groups matter.
    """
    of_splits = digest(_parts(splits, excludes_groups=excludes_groups))
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # the user has no home directory
        return compute()
    path = Path(home, "tripletboard", f"raw_pixels-{of_splits[:16]}.npz")
    key = {"splits": of_splits, "version": _VERSION}
    found: list[Metrics] = []

    def compute_text() -> NDArray[np.str_]:
        found.append(compute())
        return np.array(json.dumps(found[0]))

    try:
        text = cached(path, key, compute_text)
    except UserError:  # the file cannot be written
        return found[0]
    try:
        return TypeAdapter(Metrics).validate_json(str(text), strict=True)
    except ValidationError:  # another program wrote the file
        with contextlib.suppress(OSError):
            path.unlink()
        return compute()


def _parts(
    splits: Mapping[str, Split], *, excludes_groups: bool
) -> Iterator[NDArray[np.generic] | bytes]:
    for name, split in splits.items():
        yield f"{name} {split.images.shape}".encode()
        yield split.labels
        groups = split.groups if excludes_groups else None
        for role, values in (
            ("groups", groups),
            ("is_query", split.is_query),
            ("is_gallery", split.is_gallery),
        ):
            if values is not None:
                yield role.encode()
                yield values
        yield from in_pieces(split.images)
