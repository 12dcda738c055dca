"""Datasets that are tables with a column of pictures and one of labels: their splits and classes.

They are decoded into the same cache as files of pictures, so all else is as for these.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.data.class_names import as_read, listed
from src.data.decode import PASSING_ERRORS, BadImage
from src.data.listed_pictures import cache_folders, cache_paths, decoded_dataset, decoding
from src.data.listing import SPLIT_WORDS, Listing, warn_of_names
from src.data.picture_files import RowPictures
from src.data.split import SPLITS, Dataset
from src.errors import UserError
from src.printable import counted, printable
from src.system.regular_file import open_regular

if TYPE_CHECKING:
    from src.params.schema import Params

_VALUES = "whole numbers, text, or names of classes"  # labels and groups


@dataclass(frozen=True)
class TableSplit:
    """A split of a table.

    Attributes:
        labels: of N rows: numbers or text; None if a row has none.
        groups: likewise; None if no column of groups is read.
        states: N texts; one changes if the picture of this row may have changed.
        content: given a row's number, returns the bytes of a picture file; see `RowPictures`.
    """

    labels: Sequence[Any]
    groups: Sequence[Any] | None
    states: Sequence[str]
    content: Callable[[int], bytes]


UNUSED = TableSplit((), None, (), lambda row: b"")
"""A split that is not read."""


def file_state(path: Path) -> str:
    """Return a text that changes if a file does."""
    try:
        s = os.stat(path)
        return f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}"
    except (OSError, ValueError):
        return "missing"


def picture_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a picture's own file, at most a byte more than `max_bytes`.

    Raises:
        BadImage: there is none, or nobody may read it.
        UserError: the system cannot read it now.
    """
    try:
        with open_regular(path) as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError:
        raise BadImage("missing") from None
    except (UserError, OSError) as error:
        # `open_regular` words the system's error as that of a user.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise BadImage(str(error)) from None
        if cause.errno not in PASSING_ERRORS:
            raise BadImage(cause.strerror or str(error)) from None
        said = f"{cause.strerror}; accepted: a picture that can be read now"
        raise UserError(f"{printable(str(path))}: {said}") from None


@dataclass(frozen=True)
class PictureTable:
    """A dataset as its library has it.

    Attributes:
        source: the file, folder or name of the dataset, for messages.
        columns: the columns of pictures and labels, and who chose them, for people.
        splits: by the names that the dataset gives them.
        class_names: the names of labels 0, 1, ...; None if labels name their classes themselves.
        group_names: likewise of groups; None as well if no column of groups is read.
        data_dir_folder: the folder of the decoded pictures, if `image_cache` names none.
    """

    source: Path
    columns: str
    splits: Mapping[str, TableSplit]
    class_names: Sequence[str] | None
    group_names: Sequence[str] | None
    data_dir_folder: Path


def table_dataset(data_dir: Path, table: PictureTable, params: "Params") -> Dataset:
    """Decode a table's pictures once, and return its splits; see `listed_dataset`.

    A picture's path is `train/12`: the split's own name and the row. Splits that are named
    otherwise than train, validation and test are left out, and named in a warning. An only split is
    `train`, whatever its name. A row without a group is a group by itself.

    Args:
        data_dir: the folder of all datasets.
        table: the dataset.
        params: uses `group_column`, and see `src.data.listed_pictures.listed_dataset`.

    Raises:
        UserError: see `listed_dataset`. Or there is no train split, or a label is missing and
            `on_bad_image` is "error", or it is no label; or a group is none, or no row has one.
    """
    listing = Listing()
    given: list[str] = []
    rows: list[tuple[TableSplit, int]] = []
    for name, own in _own_splits(table, listing).items():
        split = table.splits[own]
        for row, class_name in _classes(table, name, own, listing, params.on_bad_image):
            listing.add(f"{printable(own)}/{row}", as_read(class_name), name)
            given.append(class_name)
            rows.append((split, row))
            if split.groups is not None:
                where = f"{table.source}: split '{printable(own)}': row {row}"
                listing.groups.append(_group(split.groups[row], table.group_names, where))
    _check_groups(listing, table.source, params.group_column)
    warn_of_names(listing, table.source, given)
    pictures = RowPictures(
        table.source,
        listing.paths,
        decoding(params),
        states=[split.states[row] for split, row in rows],
        content=partial(_content, rows),
    )
    folders = cache_folders(data_dir, table.data_dir_folder, params)
    # Several tables share these folders.
    identity = f"{os.path.abspath(table.source)} {table.columns}"
    return decoded_dataset(
        pictures,
        table.source,
        listing,
        params,
        cache_paths=cache_paths(folders, identity, params),
        classes_are="named by the label of a picture",
    )


def choose(
    key: str,
    given: str | None,
    fitting: Sequence[str],
    usual: Sequence[str],
    what: str,
    source: Path,
    columns: Sequence[str],
) -> tuple[str, str]:
    """Return a column, and in words how it was chosen.

    Args:
        key: the param that names the column.
        given: its value; None if it is to be guessed.
        fitting: the columns that can be read as `what`.
        usual: the names by which one of several is guessed.
        what: what the column holds.
        source: for messages.
        columns: all columns.

    Raises:
        UserError: no column, or more than one, may be meant, or the one that is given cannot be
            read.
    """
    shown = listed([f"'{printable(name)}'" for name in fitting], 20)
    of_all = listed([printable(name) for name in columns], 20)
    if not fitting:
        raise UserError(
            f"{source}: {key}: found no column of {what}, of the columns {of_all}; accepted: a "
            f"dataset with one, of {'encoded pictures' if what == 'pictures' else _VALUES}"
        )
    if given is not None:
        if given not in fitting:
            where = "which has no " + what if given in columns else "no column"
            raise UserError(
                f'{source}: {key}: found "{printable(given)}", {where}; accepted: a column of '
                f"{what}; these are {shown}, of the columns {of_all}"
            )
        return given, f"{key} {printable(given)}"
    usual_ones = [name for name in usual if name in fitting]
    found = fitting if len(fitting) == 1 else usual_ones[:1]
    if not found:
        raise UserError(
            f"{source}: {key}: found no value, and {counted(len(fitting), 'column')} of {what}: "
            f"{shown}, of the columns {of_all}; accepted: the name of one"
        )
    return found[0], f"{key} {printable(found[0])} (guessed)"


def group_column(
    params: "Params", fitting: Sequence[str], source: Path, columns: Sequence[str]
) -> str | None:
    """Return the column of groups that the params name; none is guessed. See `choose`."""
    if params.group_column is None:
        return None
    return choose("group_column", params.group_column, fitting, (), "groups", source, columns)[0]


def _content(rows: Sequence[tuple[TableSplit, int]], position: int) -> bytes:
    split, row = rows[position]
    return split.content(row)


def own_splits(names: Sequence[str]) -> dict[str, str]:
    """Return which of a table's splits is train, validation and test, if it has them."""
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name not in SPLITS):  # `validation` before `dev`
        if meaning := SPLIT_WORDS.get(name.casefold()):
            found.setdefault(meaning, name)
    return {"train": names[0]} if len(names) == 1 else found


def _own_splits(table: PictureTable, listing: Listing) -> dict[str, str]:
    """Return the table's own name of each split, by ours; set origins and warnings of `listing`."""
    names = list(table.splits)
    found = own_splits(names)
    shown = listed([f"'{printable(name)}'" for name in names], 20) or "none"
    if "train" not in found:
        raise UserError(
            f"{table.source}: found the splits {shown}; accepted: one named train, or a single one"
        )
    found = {name: found[name] for name in SPLITS if name in found}
    listing.origins = {name: f"the split '{printable(own)}'" for name, own in found.items()}
    listing.origins["train"] += f", {table.columns}"
    if others := [printable(name) for name in names if name not in found.values()]:
        listing.warnings.append(f"{table.source}: splits that are not used: {listed(others, 20)}")
    return found


def _classes(
    table: PictureTable, name: str, own: str, listing: Listing, on_bad_image: str
) -> list[tuple[int, str]]:
    """Return row and class of each example of a split that has a label.

    If no example of a split has one, as in tests whose answers are secret, the split is left out.

    Args:
        table: the dataset.
        name: the split's name here.
        own: its name in the table.
        listing: gets the warnings; its origins lose the split if it is left out.
        on_bad_image: what happens if some labels are missing.
    """
    where = f"{table.source}: split '{printable(own)}'"
    labels = table.splits[own].labels
    named = [
        (row, _class_name(label, table.class_names, f"{where}: row {row}"))
        for row, label in enumerate(labels)
    ]
    missing = [row for row, class_name in named if class_name is None]
    if missing and len(missing) == len(labels):
        if name == "train":
            raise UserError(f"{where}: no row has a label; accepted: a label in each row")
        del listing.origins[name]
        listing.warnings.append(f"{where}: left out, because no row has a label (-1 means none)")
    elif missing and on_bad_image == "error":
        found = printable(str(labels[missing[0]]))[:80]
        raise UserError(
            f"{where}: {len(missing)} of {len(labels)} rows have no label, the first is row "
            f"{missing[0]} ('{found}'); accepted: a label in each row (-1 means none); to leave "
            'these out, set "on_bad_image": "skip"'
        )
    elif missing:
        number = counted(len(missing), "row")
        listing.warnings.append(f"{where}: {number} without a label skipped")
    return [(row, class_name) for row, class_name in named if class_name is not None]


def _class_name(label: object, class_names: Sequence[str] | None, where: str) -> str | None:
    """Return the name of a label's class; None if there is no label.

    Raises:
        UserError: it is not the position of a class name.
    """
    if label is None or (isinstance(label, str) and not as_read(label)):
        return None
    if label == -1:  # so both libraries mark a label that is kept secret, also without names
        return None
    if class_names is None:
        return str(label)
    if not isinstance(label, int) or not 0 <= label < len(class_names):
        raise UserError(
            f"{where}: found label {printable(str(label))[:80]}; accepted: 0 to "
            f"{len(class_names) - 1}, the positions of the class names"
        )
    return class_names[label]


def _check_groups(listing: Listing, source: Path, column: str | None) -> None:
    """Name the column of groups among the origins; raise UserError if it has no value."""
    if column is None:
        return
    listing.origins["train"] += f", group_column {printable(column)}"
    if not any(listing.groups):
        raise UserError(
            f'{source}: group_column: found "{printable(column)}", which has no value in any row; '
            "accepted: a column of groups, or no group_column"
        )


def _group(group: object, group_names: Sequence[str] | None, where: str) -> str:
    """Return a group in normal form; "" if a row has none.

    Raises:
        UserError: it is not the position of a group's name.
    """
    if group is None or (group_names is not None and group == -1):
        return ""
    if group_names is None:
        return as_read(str(group))
    if not isinstance(group, int) or not 0 <= group < len(group_names):
        raise UserError(
            f"{where}: found group {printable(str(group))[:80]}; accepted: 0 to "
            f"{len(group_names) - 1}, the positions of the names of group_column"
        )
    return as_read(group_names[group])
