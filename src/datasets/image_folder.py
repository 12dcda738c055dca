"""One's own pictures: a folder for each class, or a CSV file of paths and labels."""

import csv
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from src.errors import UserError
from src.image_cache import ImageCache, cached_images
from src.mapped_images import MappedImages
from src.printable import printable
from src.split import SPLITS, Split, hold_out_validation, validation_indices

if TYPE_CHECKING:
    from src.params import Params

# Folders that stand for splits, where there is `train` and another one of them.
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}

CACHE_FOLDER = ".tripletboard"  # hidden, as all that is not looked at for pictures

# The test split stays the same whatever the experiment's `seed`.
_TEST_SEED = 0

# Of the bad pictures, those that are named on the console.
_MAX_NAMED = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Listing:
    """The files that a data set says are pictures.

    Attributes:
        names: N paths within the folder.
        classes: the class of each.
        splits: the split of each, of SPLITS; what is in none of its own is in `train`.
    """

    names: list[str]
    classes: list[str]
    splits: list[str]

    def add(self, name: str, class_name: str, split: str) -> None:
        self.names.append(name)
        self.classes.append(class_name)
        self.splits.append(split)


def load(data_dir: Path, split: str, params: "Params") -> Split:
    """Load a split of the pictures in `data_dir`/`image_dir`.

    Either each folder in there is a class, at any depth, or `image_csv` lists the pictures. They
    are decoded and resized once, into a cache beside them, of which a split reads what it is asked
    for: a data set may be larger than memory.

    `train/`, `validation/` (or `val/`) and `test/`, each with a folder for each class, or the
    column `split` of the CSV file, say what is trained and tested on. Without a test split,
    `test_fraction` of the others are held out for it; without a validation split,
    `validation_fraction` of the rest. Both are stratified.

    Args:
        data_dir: the folder of all datasets.
        split: "train", "validation" or "test".
        params: `image_dir`, `image_csv`, `image_size`, `image_mode`, `image_resize`,
            `on_bad_image`, `image_cache`, `test_fraction`, `validation_fraction`, `seed`.

    Returns:
        images uint8 [N, S, S, C] on disk, labels int32 [N]; the class names are sorted.

    Raises:
        UserError: there are no pictures or only one class, the CSV file is wrong, a picture is bad
            and `on_bad_image` says "error", or the split would be empty.
    """
    if split not in SPLITS:
        raise UserError(f"split: {split!r}; one of {', '.join(SPLITS)} is accepted")
    folder = data_dir / params.image_dir
    source = folder / params.image_csv if params.image_csv else folder
    listing = _read_csv(folder, source) if params.image_csv else _walk(folder)
    assert params.image_size  # which Params asks for
    cache = cached_images(
        folder,
        listing.names,
        cache_path=_cache_path(data_dir, folder, params),
        size=params.image_size,
        mode=params.image_mode,
        resize=params.image_resize,
    )
    _report_bad(folder, listing, cache, params.on_bad_image, warns=split == "train")

    good = np.setdiff1d(np.arange(len(listing.names)), list(cache.bad))
    class_names, labels = np.unique([listing.classes[row] for row in good], return_inverse=True)
    if len(class_names) < 2:
        found = ", ".join(map(printable, class_names)) or "none"
        raise UserError(
            f"{source}: {len(good)} pictures of {len(class_names)} classes ({found}); accepted: at "
            "least 2 classes, each a folder of pictures or a label of the CSV file"
        )
    examples = Split(
        MappedImages(cache.images, good),
        labels.astype(np.int32),
        tuple(printable(name) for name in class_names),
    )
    return _take_split(examples, [listing.splits[row] for row in good], split, params, source)


def _take_split(
    examples: Split, splits: list[str], split: str, params: "Params", source: Path
) -> Split:
    """Return the examples of one split; those that the data set does not have are held out."""
    members = {name: np.flatnonzero(np.array(splits) == name) for name in SPLITS}
    if len(members["test"]) == 0:
        training = members["train"]
        kept, held_out = validation_indices(
            examples.labels[training], params.test_fraction, _TEST_SEED
        )
        members["train"], members["test"] = training[kept], training[held_out]
    if split == "test" or len(members["validation"]):
        if len(members[split]) == 0:
            raise UserError(
                f"{source}: split {split}: 0 of {len(examples)} pictures; at least 1 is needed"
            )
        return examples.take(members[split])
    return hold_out_validation(examples.take(members["train"]), split, params, source)


def _cache_path(data_dir: Path, folder: Path, params: "Params") -> Path:
    """Return the cache of these params: another size or CSV file has another cache."""
    name = f"{params.image_mode}-{params.image_size}-{params.image_resize}"
    if params.image_cache is None:
        directory, source = folder / CACHE_FOLDER, params.image_csv or ""
    else:  # which data sets may share
        directory, source = data_dir / params.image_cache, f"{folder.resolve()} {params.image_csv}"
    key = f"-{hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}" if source else ""
    return directory / f"{name}{key}.npy"


def _report_bad(
    folder: Path, listing: _Listing, cache: ImageCache, on_bad_image: str, *, warns: bool
) -> None:
    """Name the bad pictures: as an error, as a warning, or not at all."""
    if not cache.bad:
        return
    lines = [
        f"{folder / printable(listing.names[row])}: {reason}"
        for row, reason in sorted(cache.bad.items())[:_MAX_NAMED]
    ]
    if len(cache.bad) > _MAX_NAMED:
        lines.append(f"... and {len(cache.bad) - _MAX_NAMED} more, see {cache.manifest_path}")
    count = f"{len(cache.bad)} of {len(listing.names)} pictures"
    if on_bad_image == "error":
        lines.append(
            f'{folder}: {count} are bad; accepted: good ones, or "on_bad_image": "skip" to leave '
            "the bad ones out"
        )
        raise UserError("\n".join(lines))
    if warns:
        logger.warning("warning: %s: %s skipped:\n  %s", folder, count, "\n  ".join(lines))


def _walk(folder: Path) -> _Listing:
    """List what is in the class folders of `folder`, sorted; hidden names are passed over."""
    listing = _Listing([], [], [])
    try:
        subfolders = _visible_folders(folder)
        if "train" in subfolders and any(
            name in subfolders for name in SPLIT_FOLDERS if name != "train"
        ):
            if unknown := [name for name in subfolders if name not in SPLIT_FOLDERS]:
                raise UserError(
                    f"{folder / printable(unknown[0])}: found beside train/; accepted: "
                    f"{', '.join(f'{name}/' for name in SPLIT_FOLDERS)}, or class folders alone"
                )
            for name in subfolders:
                for class_name in _visible_folders(folder / name):
                    for path in _files(folder, os.path.join(name, class_name)):
                        listing.add(path, class_name, SPLIT_FOLDERS[name])
        else:
            for class_name in subfolders:
                for path in _files(folder, class_name):
                    listing.add(path, class_name, "train")
    except OSError as error:
        raise UserError(
            f"{printable(str(error.filename))}: {error.strerror}; accepted: a folder of pictures "
            'in data_dir, named by "image_dir", with a folder for each class'
        ) from None
    return listing


def _visible_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, links to folders among them, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def _files(folder: Path, class_folder: str) -> Iterator[str]:
    """Yield the path, within `folder`, of each file below `class_folder`, in a fixed order.

    A link to a folder is not followed, lest it lead around in a circle or out, but given as if it
    were a file: it is then named among the bad pictures.
    """
    if os.path.islink(folder / class_folder):
        yield class_folder
        return

    def fail(error: OSError) -> None:
        raise error

    for directory, subfolders, files in os.walk(folder / class_folder, onerror=fail):
        links = [name for name in subfolders if os.path.islink(os.path.join(directory, name))]
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted([*files, *links]):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(directory, name), folder)


def _read_csv(folder: Path, path: Path) -> _Listing:
    """Read a CSV file with the columns path, label and perhaps split; paths are within `folder`."""
    listing = _Listing([], [], [])
    lines: dict[str, int] = {}  # where a path was first found
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if set(header) not in ({"path", "label"}, {"path", "label", "split"}):
                raise UserError(
                    f"{path}: line 1: columns {','.join(header)!r}; accepted: path,label or "
                    "path,label,split"
                )
            for row in reader:
                where = f"{path}: line {reader.line_num}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise UserError(f"{where}: {len(row)} fields; accepted: {len(header)}")
                fields = {"split": "train", **dict(zip(header, row, strict=True))}
                for key in ("path", "label"):
                    if not fields[key].strip() or "\0" in fields[key]:
                        raise UserError(f"{where}: {key} {fields[key]!r}; accepted: a {key}")
                if fields["split"] not in SPLITS:
                    accepted = " or ".join(SPLITS)
                    raise UserError(f"{where}: split {fields['split']!r}; accepted: {accepted}")
                first = lines.setdefault(fields["path"], reader.line_num)
                if first != reader.line_num:
                    raise UserError(
                        f"{where}: path {fields['path']!r} is on line {first} too; accepted: each "
                        "path once"
                    )
                listing.add(fields["path"], fields["label"], fields["split"])
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; accepted: a CSV file in image_dir ({folder})"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; accepted: CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{path}: line {reader.line_num}: {error}; accepted: CSV") from None
    return listing
