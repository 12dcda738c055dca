"""Turns a listing of pictures into a dataset: decoded once into a cache, bad pictures named."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import in_order, shortened
from src.data.image_cache import ImageCache, cache_of
from src.data.images import MappedImages
from src.data.listing import Listing
from src.data.picture_files import PictureFiles, Pictures
from src.data.split import SPLITS, Dataset, Split
from src.errors import UserError
from src.printable import printable

if TYPE_CHECKING:
    from src.params.schema import Params

CACHE_FOLDER = ".tripletboard"  # hidden, so that it is not searched for pictures

# The largest number of bad pictures named on the console.
_MAX_NAMED = 20


def listed_dataset(
    data_dir: Path, folder: Path, source: Path, listing: Listing, params: "Params", hint: str = ""
) -> Dataset:
    """Decode and resize the listed pictures once, into a cache by default beside them.

    A split reads from the cache only the images it needs, so the dataset may be larger than memory.

    Args:
        data_dir: the folder of all datasets.
        folder: the folder that the listed paths are relative to.
        source: the folder or file that lists the pictures, for messages.
        listing: the pictures.
        params: uses `image_size`, `image_mode`, `image_resize`, `on_bad_image` and `image_cache`.
        hint: ends the message if there are fewer than two classes.

    Returns:
        `train` and the other splits that are defined: images uint8 [N, S, S, C] on disk, labels
        int32 [N]. The class names are sorted, numbers by value.

    Raises:
        UserError: there are no pictures, only one class or no train split; a split has no usable
            picture; or a picture is bad and `on_bad_image` is "error".
    """
    if len(set(listing.paths)) < len(listing.paths):
        path, _ = Counter(listing.paths).most_common(1)[0]
        raise UserError(f"{source}: found {printable(path)} twice; accepted: each picture once")
    if params.image_cache is None:
        identity = params.image_csv or ""
    else:  # several datasets may share these folders
        identity = f"{folder.resolve()} {params.image_csv}"
    return decoded_dataset(
        PictureFiles(folder, listing.paths, decoding(params)),
        source,
        listing,
        params,
        cache_paths=cache_paths(cache_folders(data_dir, folder, params), identity, params),
        classes_are=f"a folder of pictures or a label of the CSV file{hint}",
    )


def decoding(params: "Params") -> dict[str, Any]:
    """Return the keyword arguments of `src.data.decode.decode` that the params state."""
    assert params.image_size  # Params requires it
    return {
        "size": params.image_size,
        "mode": params.image_mode,
        "resize": params.image_resize,
    }


def decoded_dataset(
    pictures: Pictures,
    source: Path,
    listing: Listing,
    params: "Params",
    *,
    cache_paths: Sequence[Path],
    classes_are: str,
) -> Dataset:
    """Decode the listed pictures once, into a cache, and return them as `listed_dataset` does.

    Args:
        pictures: the pictures, in the order of `listing`.
        source: the folder, file or table that lists the pictures, for messages.
        listing: their classes and splits.
        params: `on_bad_image`.
        cache_paths: the files of the cache; see `src.data.image_cache.cache_of`.
        classes_are: what names a class in such data, for the message if there are fewer than two.

    Raises:
        UserError: see `listed_dataset`.
    """
    cache = cache_of(pictures, cache_paths)
    bad = _bad_pictures(pictures.folder, listing, cache, params.on_bad_image)
    splits = _splits(source, listing, cache, classes_are)
    return Dataset(source, splits, listing.origins, (*listing.warnings, *bad))


def _splits(
    source: Path, listing: Listing, cache: ImageCache, classes_are: str
) -> dict[str, Split]:
    """Return the splits that the listing defines, without bad pictures; see `listed_dataset`."""
    good = np.setdiff1d(np.arange(len(listing.paths)), list(cache.bad))
    classes = [listing.classes[row] for row in good]
    class_names = in_order(classes)
    if len(class_names) < 2:
        number = f"{len(good)} picture{'s' * (len(good) != 1)}"
        bad = f" (and {len(cache.bad)} bad)" if cache.bad else ""
        found = f" in 1 class ({shortened(class_names[0])})" if class_names else ""
        error = (
            f"{source}: found {number}{bad}{found}; accepted: at least 2 classes, each "
            f"{classes_are}"
        )
        raise UserError("\n".join([*listing.warnings, error]))  # a warning may name the cause
    if "train" not in listing.origins:
        raise UserError(
            f"{source}: found no picture of the train split; accepted: a column split that says "
            '"train" for pictures of at least 2 classes'
        )
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.array([label_of[name] for name in classes], np.int32)
    paths = np.array(listing.paths, object)
    split_of = np.array(listing.splits)[good]
    groups, group_names = _groups(listing)
    splits = {}
    for name in (name for name in SPLITS if name in listing.origins):
        chosen = split_of == name
        if not chosen.any():
            raise UserError(
                f"{source}: found a {name} split ({listing.origins[name]}) without a usable "
                "picture; accepted: at least one usable picture, or no such split"
            )
        rows = good[chosen]
        splits[name] = Split(
            MappedImages(cache.images, rows),
            labels[chosen],
            class_names,
            paths[rows],
            cache.digests[rows],
            cache.file_digests[rows],
            groups=None if groups is None else groups[rows],
            is_query=np.array(listing.is_query)[rows] if listing.is_query else None,
            is_gallery=np.array(listing.is_gallery)[rows] if listing.is_gallery else None,
            group_names=group_names,
        )
    return splits


def _groups(listing: Listing) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """Return the group of each picture, int32 [N], and the groups' names; None without groups.

    A picture without a group is a group by itself, named by its path.
    """
    if not listing.groups:
        return None, ()
    keys = [
        (group, "") if group else ("", path)
        for group, path in zip(listing.groups, listing.paths, strict=True)
    ]
    number_of = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    names = tuple(group or printable(path) for group, path in number_of)
    return np.array([number_of[key] for key in keys], np.int32), names


def cache_folders(data_dir: Path, folder: Path, params: "Params") -> list[Path]:
    """Return the folders of the decoded pictures; `folder` holds the pictures themselves."""
    folders = params.image_cache
    if folders is None:
        return [folder / CACHE_FOLDER]
    return [data_dir / f for f in ([folders] if isinstance(folders, str) else folders)]


def cache_paths(directories: Sequence[Path], identity: str, params: "Params") -> list[Path]:
    """Return the cache's files; each image mode, size and resize method has its own.

    Args:
        directories: the folders, among which the images are divided.
        identity: tells datasets apart that share these folders; "" if none do.
        params: `image_mode`, `image_size` and `image_resize`.
    """
    name = f"{params.image_mode}-{params.image_size}-{params.image_resize}"
    key = f"-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:8]}" if identity else ""
    if len(directories) == 1:
        return [directories[0] / f"{name}{key}.npy"]
    # The number of shards is part of the name, because it decides which rows a shard has.
    return [
        directory / f"{name}{key}-{number}-of-{len(directories)}.npy"
        for number, directory in enumerate(directories, start=1)
    ]


def _bad_pictures(
    folder: Path, listing: Listing, cache: ImageCache, on_bad_image: str
) -> list[str]:
    """Return warnings that name the bad pictures; raise an error if `on_bad_image` is "error"."""
    if not cache.bad:
        return []
    lines = []
    for row, reason in sorted(cache.bad.items())[:_MAX_NAMED]:
        path = listing.paths[row]
        line = f" (line {listing.lines[path]} of the CSV file)" if listing.lines else ""
        lines.append(f"{folder / printable(path)}{line}: {reason}")
    if len(cache.bad) > _MAX_NAMED:
        lines.append(f"... and {len(cache.bad) - _MAX_NAMED} more, see {cache.manifest_path}")
    count = f"{len(cache.bad)} of {len(listing.paths)} pictures"
    if on_bad_image == "error":
        lines.append(
            f"{folder}: {count} are bad; accepted: no bad pictures; fix or remove them, or set "
            '"on_bad_image": "skip" to leave them out'
        )
        raise UserError("\n".join(lines))
    return [f"{folder}: {count} skipped", *lines]
