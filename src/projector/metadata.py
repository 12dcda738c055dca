"""Writes the projector's metadata file: one row per point, one column per property."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.printable import printable
from src.system.atomic import atomic_write

# Characters that any reader treats as the end of a line or field. The format has no quoting.
_SEPARATORS = re.compile("[\t\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029]+")

# Text that JavaScript reads as a number, but writes otherwise: the projector would show and colour
# "01" as 1. A character that is not seen makes it text.
_NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|0[xXoObB][0-9a-fA-F]+|[-+]?Infinity", re.ASCII
)
_WHOLE = re.compile(r"0|-?[1-9]\d{0,14}", re.ASCII)
_WORD_JOINER = "\u2060"

EMPTY = "(empty)"
"""Replaces an empty value. The projector drops a blank row, which would shift all later rows."""

CHUNK_SIZE = 1_000_000
"""The browser decodes this many bytes at a time and garbles a character that crosses a boundary."""


def write_metadata(path: Path, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> None:
    """Write a TSV file in UTF-8, in the format of TensorBoard's projector.

    A file with several columns has a header line. A file with one column has none, because the
    projector detects a header by its tab.

    How values are written:

    - Floating-point numbers have four significant digits; non-finite ones become an empty field.
    - None becomes "-". Text that is blank becomes "(empty)".
    - Tabs and line ends become a space. Other unprintable characters are escaped.
    - All other values are written by `str`.
    - In a column `index`, spaces are added before a number if needed, and the browser ignores
      them. They keep characters of the next row from crossing a chunk boundary.

    Args:
        path: the file to create or replace.
        columns: name -> N values, in the order of the points.
    """
    names = [as_written(name) for name in columns]
    padded = list(columns).index("index") if "index" in columns else None
    with atomic_write(path) as file:
        position = file.write(_line(names)) if len(names) > 1 else 0
        before: list[str] | None = None  # the previous row, not yet written, so it can be padded
        for row in zip(*columns.values(), strict=True):
            fields = [as_written(value) for value in row]
            if not any(fields):  # the row has only missing numbers
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
    """Return how many bytes (0 to 3) after `start` a line must start.

    With that padding, none of its characters crosses a multiple of CHUNK_SIZE.
    """
    cut = -start % CHUNK_SIZE  # number of the line's bytes before the multiple
    padding = 0
    while 0 < cut - padding < len(line) and line[cut - padding] & 0xC0 == 0x80:
        padding += 1  # 10xxxxxx continues a character
    return padding


def as_written(value: object) -> str:
    """Return the text of one value: one line, no tabs; empty only for a non-finite number."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}" if np.isfinite(value) else ""  # to the browser, a missing number
    if value is None:
        return "-"
    # The browser treats the byte order mark as white space; Python does not.
    text = _SEPARATORS.sub(" ", str(value)).strip().strip("\ufeff").strip()
    if isinstance(value, str) and _NUMBER.fullmatch(text) and not _WHOLE.fullmatch(text):
        return text + _WORD_JOINER
    return printable(text) or EMPTY


def _line(fields: list[str]) -> bytes:
    return ("\t".join(fields) + "\n").encode()
