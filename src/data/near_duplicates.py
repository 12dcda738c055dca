"""Finds images in two splits that look alike, by comparing difference hashes.

The hash says for 8 x 8 places whether brightness rises to the right there. It hardly changes if an
image is scaled, compressed, made brighter or noisy. It does change if an image is cropped, turned
or mirrored. Different images may have similar hashes, so what is found is to be looked at.

Source: the difference hash of N. Krawetz, "Kind of Like That", hackerfactor.com, 2013. There, any
rise counts. Here it must exceed a few grey levels: on flat ground, noise would decide otherwise.
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.split import Split
from src.errors import UserError
from src.printable import printable
from src.system.progress import phase

NUM_BITS = 64

_SIDE = 8
_MAX_NAMED = 3
_LEAST_RISE = 4  # grey levels of 255
_PIECE = 256  # images read at once
_BLOCK = 1024  # hashes compared at once with all of another split
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


_TRAINED = {"train", "extra_data"}


def near_duplicate_warnings(
    splits: Mapping[str, Split], max_bits: int, on_duplicates: str, source: Path
) -> list[str]:
    """Return a warning for each two splits that have images which look alike.

    Images with equal pixels are left out: `src.data.duplicates` names them.

    Args:
        splits: by name; these must have `digests`. `train` and `extra_data` may look alike.
        max_bits: two images look alike if at most this many bits of their hashes differ.
        on_duplicates: as in `Params`; "error" refuses them. Nothing is dropped, because images that
            look alike may be different ones.
        source: the dataset's file or folder, for messages.

    Raises:
        UserError: there are some, and `on_duplicates` is "error".
    """
    if any(split.holds_vectors for split in splits.values()):
        raise UserError(
            f"{source}: near_duplicates: found {max_bits}; accepted: null, because these are "
            "vectors, and only images look alike"
        )
    with phase("difference hashes"):
        signs = {name: _signs(difference_hashes(split)) for name, split in splits.items()}
        lines = [
            line
            for one, other in combinations(splits, 2)
            if not {one, other} <= _TRAINED
            and (line := _line(splits, signs, (other, one), max_bits))
        ]
    lines = [f"{source}: {line}" for line in lines]
    if lines and on_duplicates == "error":
        raise UserError(
            "\n".join(f'{line}; accepted: none, or "on_duplicates": "warn"' for line in lines)
        )
    return lines


def difference_hashes(split: Split) -> NDArray[np.bool_]:
    """Return the difference hash of each image, bool [N, 64].

    An image becomes grey and is reduced to 8 x 9 means over equal areas, rounded to whole numbers.
    A bit is 1 if the next mean to the right is larger by more than 4.

    Args:
        split: images uint8 [N, H, W, C].
    """
    height, width, channels = split.images.shape[1:]
    rows, columns = _areas(_SIDE, height), _areas(_SIDE + 1, width)
    hashes = np.empty((len(split), NUM_BITS), np.bool_)
    for start in range(0, len(split), _PIECE):  # the images may exceed memory
        images = split.images[start : start + _PIECE].astype(np.float32)
        grey = images @ _GREY if channels == 3 else images[..., 0]
        means = np.rint(rows @ grey @ columns.T)  # [<= _PIECE, 8, 9]
        rises = means[:, :, 1:] > means[:, :, :-1] + _LEAST_RISE
        hashes[start : start + len(images)] = rises.reshape(len(images), -1)
    return hashes


def _areas(count: int, size: int) -> NDArray[np.float32]:
    """Return the weights of `size` pixels in `count` means over equal lengths, [count, size]."""
    edges = np.arange(count + 1) * size / count
    pixels = np.arange(size)
    ends = np.minimum(edges[1:, None], pixels + 1)
    overlaps = np.maximum(ends - np.maximum(edges[:-1, None], pixels), 0)
    weights: NDArray[np.float32] = (overlaps * count / size).astype(np.float32)
    return weights


def _signs(hashes: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return 1 and -1 for each bit: the product of two hashes is 64 - 2 * (bits that differ)."""
    return np.where(hashes, np.float32(1), np.float32(-1))


def _line(
    splits: Mapping[str, Split],
    signs: Mapping[str, NDArray[np.float32]],
    names: tuple[str, str],
    max_bits: int,
) -> str:
    """Return a line that counts the images of a split that look like one of another split."""
    one, other = (splits[name] for name in names)
    assert one.digests is not None and other.digests is not None
    found = []
    for start in range(0, len(one), _BLOCK):
        products = signs[names[0]][start : start + _BLOCK] @ signs[names[1]].T
        nearest = products.argmax(axis=1)
        bits = (NUM_BITS - products[np.arange(len(nearest)), nearest]) / 2
        is_equal = np.isin(one.digests[start : start + _BLOCK], other.digests)
        for row in np.flatnonzero((bits <= max_bits) & ~is_equal).tolist():
            found.append((int(bits[row]), start + row, int(nearest[row])))
    if not found:
        return ""
    shown = [
        f"{_name(one, names[0], row)} ~ {_name(other, names[1], match)} ({bits} bits)"
        for bits, row, match in sorted(found)[:_MAX_NAMED]
    ]
    return (
        f"{len(found)} of {len(one)} {names[0]} images look like a {names[1]} image (at most "
        f"{max_bits} of {NUM_BITS} bits differ), which may inflate the metrics: "
        + ", ".join([*shown, *["..."] * (len(found) > _MAX_NAMED)])
    )


def _name(split: Split, name: str, row: int) -> str:
    return printable(str(split.paths[row])) if split.paths is not None else f"{name} no. {row}"
