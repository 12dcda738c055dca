"""Reads a CSV file that lists pictures.

Columns: path, label and, optionally, split, group, is_query and is_gallery. The last two are those
of open-metric-learning.
"""

import csv
import io
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from src.data.class_names import as_read, listed
from src.data.listing import SPLIT_WORDS, Listing, warn_of_names
from src.errors import UserError
from src.printable import printable
from src.system.regular_file import read_regular

MAX_BYTES = 1 << 28
"""The largest CSV file: about three million lines."""

_ROLES = ("is_query", "is_gallery")
_KEYS = ("path", "label", "split", "group", *_ROLES)

# What a role's cell may say; pandas writes True, 1.0 and nothing or nan.
_FLAGS = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "no", "", "nan", "none", "null"), False),
}


def read_csv(folder: Path, path: Path, *, has_labels: bool = True) -> Listing:
    """Read a list of pictures.

    Column names ignore case and surrounding space. Other columns than those of the module are
    ignored. Labels and groups are normalised by `as_read`.

    Args:
        folder: the folder of the pictures. Paths are relative to it, or absolute and lead into it.
        path: the CSV file, UTF-8.
        has_labels: whether the column label is read; without, every class name is empty.

    Raises:
        UserError: the file is missing or invalid; the message names the line.
    """
    listing = Listing()
    reader = csv.reader(io.StringIO(_text(folder, path), newline=""), strict=True)
    lines = listing.lines  # the line on which each path was first found
    given = []
    line = 1  # the first line of the current record, which may span several lines
    tops = [os.path.join(top, "") for top in (os.path.abspath(folder), os.path.realpath(folder))]
    try:
        columns = _columns(next(reader, []), path, listing, has_labels=has_labels)
        line = reader.line_num + 1
        for row in reader:
            where, next_line = f"{path}: line {line}", reader.line_num + 1
            if not row:
                line = next_line
                continue
            if len(row) != columns["count"]:
                raise UserError(f"{where}: found {len(row)} fields; accepted: {columns['count']}")
            fields = {key: row[columns[key]] for key in _KEYS if key in columns}
            name = _path_within(tops, _filled(fields["path"], "path", where))
            label = _label(fields["label"], where) if has_labels else ""
            first = lines.setdefault(name, line)
            if first != line:
                raise UserError(
                    f"{where}: found path {_shown(fields['path'])}, which is also on line {first}; "
                    "accepted: each file once"
                )
            listing.add(name, label, _split(fields.get("split", "train"), where))
            _add_group_and_roles(listing, fields, where)
            given.append(fields["label"] if has_labels else "")
            line = next_line
    except csv.Error as error:
        raise UserError(f"{path}: line {line}: {error}; accepted: CSV") from None
    listing.origins = dict.fromkeys(listing.splits, printable(path.name))
    if has_labels:
        warn_of_names(listing, path, given)
    _check_roles(listing, path)
    return listing


def _add_group_and_roles(listing: Listing, fields: Mapping[str, str], where: str) -> None:
    """Add those of the picture that was added last; raise UserError if a role is wrong."""
    listing.groups.append(as_read(fields.get("group", "")))
    for role in _ROLES:
        value = fields.get(role, "")
        flag = _FLAGS.get(value.strip().casefold())
        if flag is None:
            raise UserError(f"{where}: found {role} {_shown(value)}; accepted: true or false")
        if flag and listing.splits[-1] == "train":
            raise UserError(
                f"{where}: found {role} {_shown(value)} in the train split; accepted: queries and "
                "gallery of the test or validation split, which the column split names"
            )
        getattr(listing, role).append(flag)


def _check_roles(listing: Listing, path: Path) -> None:
    """Forget groups and roles that nothing has; raise UserError if a split's are incomplete."""
    if not any(listing.groups):
        listing.groups = []
    if not any(listing.is_query + listing.is_gallery):
        listing.is_query, listing.is_gallery = [], []
        return
    roles = list(zip(listing.splits, listing.is_query, listing.is_gallery, strict=True))
    for split in dict.fromkeys(listing.splits):
        own = [(is_query, is_gallery) for name, is_query, is_gallery in roles if name == split]
        if not any(map(any, own)):
            continue
        for role, flags in zip(_ROLES, zip(*own, strict=True), strict=True):
            if not any(flags):
                raise UserError(
                    f"{path}: found no picture of the {split} split with {role} true; accepted: "
                    "queries and a gallery, or neither"
                )
        for row, (name, *both) in enumerate(roles):
            if name == split and not any(both):
                raise UserError(
                    f"{path}: line {listing.lines[listing.paths[row]]}: found neither is_query nor "
                    f"is_gallery true, but other pictures of the {split} split have roles; "
                    "accepted: one of them, or both"
                )


def _text(folder: Path, path: Path) -> str:
    """Return the content of the CSV file `path`; `folder` is for messages."""
    try:
        content = read_regular(path, MAX_BYTES)
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UserError(
            f"{printable(str(path))}: {error.strerror}; accepted: a CSV file in image_dir "
            f"({folder})"
        ) from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}: line {line}, byte {error.start} of the file: not UTF-8; accepted: CSV in "
            "UTF-8"
        ) from None


def _columns(
    header: list[str], path: Path, listing: Listing, *, has_labels: bool
) -> dict[str, int]:
    """Return the position of each column that is read and, as "count", the number of columns."""
    names = [" ".join(name.split()).casefold() for name in header]
    for key in _KEYS:
        if names.count(key) > 1:
            raise UserError(f"{path}: line 1: found column {key} twice; accepted: each column once")
    needed, accepted = {"path", "label"}, "path,label or path,label,split, separated by commas"
    if not has_labels:
        needed, accepted = {"path"}, "a column path, and others, separated by commas"
    if not needed <= set(names):
        found = ",".join(header)
        raise UserError(f"{path}: line 1: found columns {_shown(found)}; accepted: {accepted}")
    if unknown := [
        _shown(name) for name in header if " ".join(name.split()).casefold() not in _KEYS
    ]:
        listing.warnings.append(f"{path}: line 1: ignored columns: {listed(unknown)}")
    return {**{key: names.index(key) for key in _KEYS if key in names}, "count": len(names)}


def _label(value: str, where: str) -> str:
    """Return the class that a value names; raise UserError if it names none."""
    label = as_read(_filled(value, "label", where))
    return _filled(label, "label", where)


def _filled(value: str, key: str, where: str) -> str:
    """Return the value; raise UserError if it is blank or contains a NUL."""
    if not value.strip() or "\0" in value:
        raise UserError(f"{where}: found {key} {_shown(value)}; accepted: a {key}")
    return value


def _split(value: str, where: str) -> str:
    """Return the split that a value names; raise UserError if it names none."""
    split = SPLIT_WORDS.get(value.strip().casefold())
    if split is None:
        raise UserError(
            f"{where}: found split {_shown(value)}; accepted: train, validation or test"
        )
    return split


def _path_within(tops: Sequence[str], text: str) -> str:
    """Return a path in normal form: relative to the folder, without `./`, `//` and `a/../`.

    If no such file exists, other spellings are tried: without outer space or quotes, in another
    Unicode form, with slashes for backslashes. A path that leads out of the folder is kept; it is
    reported when it is opened.

    Args:
        tops: the folder's absolute path, as given and with links resolved; both end in a slash.
        text: the path.
    """
    name = _relative(tops, text)
    if os.path.lexists(tops[0] + name):
        return name
    stripped = text.strip()
    is_quoted = len(stripped) > 2 and stripped[0] == stripped[-1] in ("'", '"')
    bare = stripped[1:-1] if is_quoted else stripped
    for form in (stripped, bare, bare.replace("\\", "/")):
        for unicode_form in (form, *(unicodedata.normalize(f, form) for f in ("NFC", "NFD"))):
            other = _relative(tops, unicode_form)
            if os.path.lexists(tops[0] + other):
                return other
    return _relative(tops, stripped)


def _relative(tops: Sequence[str], name: str) -> str:
    """Return the normalised path; if it leads into the folder, relative to the folder."""
    name = os.path.normpath(name)
    if not os.path.isabs(name):
        return name
    name = "/" + name.lstrip("/") if os.sep == "/" else name  # normpath keeps two leading slashes
    for top in tops:
        if name.startswith(top):
            return name[len(top) :]
    directory, base = os.path.split(name)  # it may lead into the folder by another link
    real = os.path.join(os.path.realpath(directory), base)
    return real[len(tops[1]) :] if real.startswith(tops[1]) else name


def _shown(value: str) -> str:
    text = printable(value)
    return f"'{text}'" if len(text) <= 80 else f"'{text[:77]}...'"
