"""Reproduces the colours that the projector assigns to the values of a metadata column."""

import re
from collections.abc import Iterable

# d3's schemeCategory10. The projector uses every third colour, starting with the first.
_CATEGORY10 = (
    (0x1F, 0x77, 0xB4),
    (0xFF, 0x7F, 0x0E),
    (0x2C, 0xA0, 0x2C),
    (0xD6, 0x27, 0x28),
    (0x94, 0x67, 0xBD),
    (0x8C, 0x56, 0x4B),
    (0xE3, 0x77, 0xC2),
    (0x7F, 0x7F, 0x7F),
    (0xBC, 0xBD, 0x22),
    (0x17, 0xBE, 0xCF),
)
PALETTE = tuple(_CATEGORY10[3 * index % 10] for index in range(10))
"""RGB colours of a legend's first ten values; after ten, the colours repeat."""

MAX_VALUES = 50
"""With more distinct values, the projector has no colour per value.

A column of numbers then gets a gradient. Any other column cannot be used for colour."""

# JavaScript keeps an object's keys in insertion order, but puts integer keys first.
_INTEGER_KEY = re.compile(r"0|[1-9]\d{0,9}")
_MAX_INTEGER_KEY = 2**32 - 2


def legend(values: Iterable[str]) -> dict[str, int]:
    """Return the colour of each distinct value of a column, in the legend's order.

    Args:
        values: the column, as written in the metadata.

    Returns:
        Value -> position in PALETTE.
    """
    different = dict.fromkeys(values)
    integers = sorted(filter(_is_integer_key, different), key=int)
    others = [value for value in different if not _is_integer_key(value)]
    return {value: index % len(PALETTE) for index, value in enumerate([*integers, *others])}


def _is_integer_key(value: str) -> bool:
    return bool(_INTEGER_KEY.fullmatch(value)) and int(value) <= _MAX_INTEGER_KEY
