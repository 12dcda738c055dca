"""The projector's metadata file: what is known about each point, a row a point."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from src.atomic import atomic_write

# Everything that some reader takes for the end of a line or of a field: the format has no quoting.
_SEPARATORS = re.compile("[\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]+")

EMPTY = "(empty)"
"""Stands for an empty value. The projector drops a blank row and so shifts all that follow."""


def write_metadata(path: Path, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> None:
    """Write a TSV file as TensorBoard's projector reads it, in UTF-8.

    Several columns have a header line and a single one has none: the projector tells by the tab.

    Args:
        path: the file to create or replace.
        columns: the name of each column and its N values, in the order of the points. Values are
            written as `str` gives them; tabs and line ends in them become a space, and a value of
            nothing but white space becomes "(empty)".
    """
    names = [_field(name) for name in columns]
    rows = zip(*columns.values(), strict=True)
    with atomic_write(path) as file:
        if len(names) > 1:
            file.write(_line(names))
        for row in rows:
            file.write(_line([_field(value) for value in row]))


def _field(value: object) -> str:
    """Return the text of one value, on one line, without tabs, never blank."""
    # The browser counts the byte order mark as white space, Python does not.
    return _SEPARATORS.sub(" ", str(value)).strip().strip("\ufeff") or EMPTY


def _line(fields: list[str]) -> bytes:
    """Return a line of the file; what UTF-8 cannot hold (lone surrogates) is escaped."""
    return ("\t".join(fields) + "\n").encode(errors="backslashreplace")
