"""Loads the user's own pictures: one folder per class, or a CSV file of paths and labels."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from src.data.image_csv import read_csv
from src.data.listed_pictures import CACHE_FOLDER, cache_folders, listed_dataset
from src.data.listing import walk
from src.data.split import Dataset
from src.errors import UserError
from src.printable import printable

if TYPE_CHECKING:
    from src.params.schema import Params


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load the pictures in `data_dir`/`image_dir`.

    Either each folder is a class, with pictures at any depth, or `image_csv` lists the pictures.
    They are decoded as `src.data.listed_pictures.listed_dataset` says.

    The splits are defined by folders such as `train/`, `validation/` and `test/`, each with one
    folder per class (see `src.data.listing.split_of`). With a CSV file, its column `split`
    defines them.

    Args:
        data_dir: the folder of all datasets.
        params: uses `image_dir`, `image_csv`, `image_size`, `image_mode`, `image_resize`,
            `on_bad_image` and `image_cache`.

    Returns:
        `train` and the other splits that are defined: images uint8 [N, S, S, C] on disk, labels
        int32 [N]. The class names are sorted, numbers by value.

    Raises:
        UserError: there are no pictures, only one class or no train split; a split has no usable
            picture; the CSV file is invalid; `image_cache` is where pictures are looked for; or a
            picture is bad and `on_bad_image` is "error".
    """
    folder = data_dir / params.image_dir
    source = folder / params.image_csv if params.image_csv else folder
    if not params.image_csv:
        for directory in cache_folders(data_dir, folder, params):
            _check_no_pictures(directory, folder)
    listing = read_csv(folder, source) if params.image_csv else walk(folder)
    return listed_dataset(
        data_dir, folder, source, listing, params, hint=_hint(listing.paths, params)
    )


def _check_no_pictures(directory: Path, folder: Path) -> None:
    """Refuse a cache's folder in which pictures are looked for: its files would be found as such.

    Raises:
        UserError: it is `folder`, or in it and not hidden.
    """
    pictures, cache = folder.resolve(), directory.resolve()
    inner = cache.relative_to(pictures).parts if cache.is_relative_to(pictures) else None
    if inner is not None and not any(part.startswith(".") for part in inner):
        raise UserError(
            f"image_cache: found {printable(str(directory))}, where pictures are looked for; "
            f"accepted: a folder outside {printable(str(folder))}, or a hidden one, such as "
            f"{CACHE_FOLDER}"
        )


def _hint(paths: Sequence[str], params: "Params") -> str:
    """Return a hint to the right `image_dir` if all class folders are one level deeper."""
    parts = [path.split(os.sep) for path in paths]
    tops = {part[0] for part in parts}
    inner = {part[1] for part in parts if len(part) > 2}
    if params.image_csv or len(tops) != 1 or len(inner) < 2:
        return ""
    return f"; did you mean '{printable(os.path.join(params.image_dir, *tops))}' as image_dir?"
