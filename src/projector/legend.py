"""The colours that the projector gives to the values of a column, for others to use the same."""

import re
from collections.abc import Iterable

# d3's schemeCategory10 in the order in which the projector takes it: every third, from the first.
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
"""The colours of a legend's first ten values, red, green and blue; then they come again."""

MAX_VALUES = 50
"""More different values than this the projector does not tell apart by colour: numbers get a
gradient, and a column of anything else cannot be coloured by."""

# JavaScript keeps the keys of an object in the order in which they came, but integers before all.
_INTEGER_KEY = re.compile(r"0|[1-9]\d{0,8}")


def legend(values: Iterable[str]) -> dict[str, int]:
    """Return the different values of a column in the legend's order, and each one's colour.

    Args:
        values: the column, as it stands in the metadata.

    Returns:
        From value to position in PALETTE.
    """
    different = dict.fromkeys(values)
    integers = sorted((value for value in different if _INTEGER_KEY.fullmatch(value)), key=int)
    others = [value for value in different if not _INTEGER_KEY.fullmatch(value)]
    return {value: index % len(PALETTE) for index, value in enumerate([*integers, *others])}
