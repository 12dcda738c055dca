"""The projector's metadata file: what is known about each point, a row a point."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.printable import printable
from src.system.atomic import atomic_write

# Everything that some reader takes for the end of a line or of a field: the format has no quoting.
_SEPARATORS = re.compile("[\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]+")

EMPTY = "(empty)"
"""Stands for an empty value. The projector drops a blank row and so shifts all that follow."""

CHUNK_SIZE = 1_000_000
"""Bytes that the browser decodes at a time, and garbles a character that stands across an end."""


def write_metadata(path: Path, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> None:
    """Write a TSV file as TensorBoard's projector reads it, in UTF-8.

    Several columns have a header line and a single one has none: the projector tells by the tab.

    Args:
        path: the file to create or replace.
        columns: the name of each column and its N values, in the order of the points. Values are
            written as `str` gives them, floating-point numbers with four significant digits, and as
            nothing where they are not finite; None as "-"; tabs and line ends become a space, other
            characters that do not print as themselves are escaped, and text of nothing but white
            space becomes "(empty)". In a column `index` spaces before a number,
            which the browser passes over, keep the next row's characters off the end of a chunk.
    """
    names = [as_written(name) for name in columns]
    padded = list(columns).index("index") if "index" in columns else None
    with atomic_write(path) as file:
        position = file.write(_line(names)) if len(names) > 1 else 0
        before: list[str] | None = None  # the row that is yet to be written, and can be padded
        for row in zip(*columns.values(), strict=True):
            fields = [as_written(value) for value in row]
            if not any(fields):  # of missing numbers alone
                fields[0] = EMPTY
            if before is not None:
                if padded is not None:
                    end = position + len(_line(before))
                    before[padded] = " " * _padding(_line(fields), end) + before[padded]
                position += file.write(_line(before))
            before = fields
        if before is not None:
            file.write(_line(before))


def _padding(line: bytes, start: int) -> int:
    """Return how many bytes (0 to 3) later a line must start than at `start`.

    Then none of its characters stands across a multiple of CHUNK_SIZE.
    """
    cut = -start % CHUNK_SIZE  # of the line's bytes, how many stand before the multiple
    padding = 0
    while 0 < cut - padding < len(line) and line[cut - padding] & 0xC0 == 0x80:
        padding += 1  # 10xxxxxx goes on with a character
    return padding


def as_written(value: object) -> str:
    """Return the text of one value in the file: on one line, without tabs, never blank."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if np.isfinite(value) else ""  # a missing number to the browser
    if value is None:
        return "-"
    # The browser counts the byte order mark as white space, Python does not.
    text = _SEPARATORS.sub(" ", str(value)).strip().strip("\ufeff").strip()
    return printable(text) or EMPTY


def _line(fields: list[str]) -> bytes:
    return ("\t".join(fields) + "\n").encode()
