"""Lists the pictures in a folder: their files, classes and splits."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from src.data.class_names import as_read, listed, nearly_equal, shortened
from src.data.decode import is_visible
from src.errors import UserError
from src.printable import printable

# The split that each word means, as a folder name or in the column `split` of a CSV file.
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(
        ("validation", "valid", "val", "development", "dev", "evaluation", "eval"), "validation"
    ),
    **dict.fromkeys(("test", "testing"), "test"),
}

# A split word counts if no letter adjoins it, at a change of case, or if one of the words below
# adjoins it, as in `minitrain`, `trainset` and `trainval`.
_WORDS = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
_BEFORE = "mini|sub|my|full|all"
_BEHIND = (
    "datasets?|data|sets?|splits?|images?|imgs?|pictures?|pics?|photos?|files?|folders?|dirs?|"
    "samples?|examples?"
)
_SPLIT_WORD = re.compile(
    rf"(?<![^\W\d_])(?:{_BEFORE})?({_WORDS})(?:{_WORDS}|{_BEHIND})*(?![^\W\d_])"
)


@dataclass
class Listing:
    """The files that a dataset lists as pictures.

    Attributes:
        paths: N paths within the folder.
        classes: the class of each picture, normalised by `as_read`.
        splits: the split of each picture; `train` if the dataset states none.
        origins: where each split that the dataset defines comes from, in a few words.
        warnings: what the user should know about how the dataset was read, a line each.
        lines: the line that names each path, for a CSV file.
        groups: the group of each picture, "" for a picture in no group; empty if the dataset
            states no groups.
        is_query: whether each picture is a query; empty if no split has its own queries.
        is_gallery: whether each picture is searched by these; empty if `is_query` is.
    """

    paths: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    is_query: list[bool] = field(default_factory=list)
    is_gallery: list[bool] = field(default_factory=list)

    def add(self, path: str, class_name: str, split: str) -> None:
        """Add a picture."""
        self.paths.append(path)
        self.classes.append(class_name)
        self.splits.append(split)


def split_of(name: str) -> str | None:
    """Return the split that a folder's name means (`Train`, `val2017`, `testset`), or None.

    If the name contains words of two splits, as `train_val` does, the first counts.
    """
    name = unicodedata.normalize("NFC", name)
    name = re.sub(
        r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name
    )  # trainImages, XTrain
    found = _SPLIT_WORD.search(name.casefold())
    return SPLIT_WORDS[found[1]] if found else None


def walk(folder: Path) -> Listing:
    """List the files in the class folders of `folder`, or of its split folders, sorted.

    Hidden names, and names that operating systems create, are ignored.

    Raises:
        UserError: the folder cannot be read, its split folders are inconsistent (see
            `_split_folders`), a class folder holds split folders, or its name is unreadable.
    """
    listing = Listing()
    try:
        top_folders = _visible_folders(folder)
        splits = _split_folders(folder, top_folders)
        listing.origins = {split: f"the folder {printable(n)}/" for n, split in splits.items()}
        given = []
        if splits:
            _warn_of_loose_files(listing, folder, "split")
        else:
            listing.origins = {"train": "the class folders"}
            given = _add_classes(listing, folder, "", top_folders, "train")
        for name, split in splits.items():
            given += _add_classes(listing, folder, name, _visible_folders(folder / name), split)
        warn_of_names(listing, folder, given)
    except OSError as error:
        raise UserError(
            f"{printable(str(error.filename))}: {error.strerror}; accepted: a folder of pictures "
            'in data_dir, named by "image_dir", with a folder for each class'
        ) from None
    return listing


def warn_of_names(listing: Listing, source: Path, given: Sequence[str]) -> None:
    """Add warnings about class names that were normalised, and about nearly equal names.

    Args:
        listing: its `classes` are normalised; the warnings are added to it.
        source: the folder or the CSV file, for messages.
        given: the class names as found, in the order of `classes`.
    """
    pairs = sorted(set(zip(given, listing.classes, strict=True)))
    num_spellings = Counter(read for _, read in pairs)
    changed = [
        f"'{printable(found)}' to '{read}'"
        # Another Unicode form looks the same, so it is reported only if both forms occur.
        if found != unicodedata.normalize("NFD", read)
        else f"'{read}' from another Unicode form"
        for found, read in pairs
        if found != read
        and (num_spellings[read] > 1 or printable(unicodedata.normalize("NFC", found)) != read)
    ]
    if changed:
        listing.warnings.append(f"{source}: normalised class names: {listed(changed)}")
    if groups := nearly_equal(listing.classes):
        these = [" and ".join(f"'{shortened(name)}'" for name in group[:4]) for group in groups]
        listing.warnings.append(
            f"{source}: nearly equal class names, kept as separate classes: {listed(these)}"
        )


def _split_folders(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the split of each folder, by folder name; empty if all folders are classes.

    Raises:
        UserError: some folders look like splits, but there is no train split, one split has two
            folders, or class folders stand beside them.
    """
    found = {name: split for name in names if (split := split_of(name))}
    if not found:
        return {}
    first = next(iter(found))
    accepted = (
        "accepted: only class folders, or only split folders (one for train, and optionally one "
        "each for validation and test); if a class has such a name, rename its folder, or list the "
        "pictures in a CSV file (image_csv)"
    )
    for name in names:
        if name not in found:
            raise UserError(
                f"{folder / printable(name)}: found beside {printable(first)}/, which looks like "
                f"the {found[first]} split; {accepted}"
            )
    by_split: dict[str, str] = {}
    for name, split in found.items():
        other = by_split.setdefault(split, name)
        if other != name:
            raise UserError(
                f"{folder / printable(name)}: found beside {printable(other)}/, and both look like "
                f"the {split} split; {accepted}"
            )
    if "train" not in by_split:
        raise UserError(
            f"{folder / printable(first)}: looks like the {found[first]} split, but there is no "
            f"train split; {accepted}"
        )
    return found


def _add_classes(
    listing: Listing, folder: Path, within: str, class_folders: Sequence[str], split: str
) -> list[str]:
    """Add the pictures of the class folders in `within`, which is a split's folder or "".

    Returns:
        The name of the class folder of each picture.
    """
    here = folder / within
    given = []
    empty = []
    for name in class_folders:
        _refuse_splits_of_a_class(here, name)
        if not as_read(name):
            raise UserError(
                f"{here / ascii(name)}: a class folder with an invisible name; accepted: a "
                "name with letters, digits or symbols"
            )
        paths = list(_files(folder, os.path.join(within, name)))
        for path in paths:
            listing.add(path, as_read(name), split)
            given.append(name)
        if not paths:
            empty.append(printable(name))
    if empty:
        listing.warnings.append(f"{here}: empty class folders: {listed(empty)}")
    _warn_of_loose_files(listing, here, "class")
    return given


def _warn_of_loose_files(listing: Listing, here: Path, kind: str) -> None:
    if loose := _visible_files(here):
        listing.warnings.append(
            f"{here}: ignored files outside the {kind} folders: {listed(loose, 3)}"
        )


def _refuse_splits_of_a_class(here: Path, name: str) -> None:
    """Refuse a class folder that holds split folders."""
    if os.path.islink(here / name):
        return
    found = {split_of(inner): inner for inner in _visible_folders(here / name)}
    if len(found.keys() - {None}) > 1:
        inner = " and ".join(f"{printable(n)}/" for split, n in found.items() if split)
        raise UserError(
            f"{here / printable(name)}: found {inner} in a class folder; accepted: split folders "
            f"that contain class folders, or an image_dir that ends in {printable(name)}"
        )


def _visible(folder: Path, *, folders: bool) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if is_visible(entry.name) and _is_folder(entry) == folders
        )


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # circular links, which are reported when they are opened as a picture
        return False


def _visible_folders(folder: Path) -> list[str]:
    """Return the names of the folders in `folder`, including links to folders, sorted."""
    return _visible(folder, folders=True)


def _visible_files(folder: Path) -> list[str]:
    return [printable(name) for name in _visible(folder, folders=False)]


def _files(folder: Path, class_folder: str) -> Iterator[str]:
    """Yield the path, within `folder`, of each file below `class_folder`, in a fixed order.

    A link to a folder is not followed, because it may be circular or lead out of the folder. It is
    yielded like a file, so that it is reported as a bad picture.
    """
    if os.path.islink(folder / class_folder):
        yield class_folder
        return

    def fail(error: OSError) -> None:
        raise error

    for directory, subfolders, files in os.walk(folder / class_folder, onerror=fail):
        links = [name for name in subfolders if os.path.islink(os.path.join(directory, name))]
        subfolders[:] = sorted(filter(is_visible, subfolders))
        for name in sorted([*files, *links]):
            if is_visible(name):
                yield os.path.relpath(os.path.join(directory, name), folder)
