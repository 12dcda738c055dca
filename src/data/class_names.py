"""Class names: normalising them, sorting them, and finding those that the params name."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from src.errors import UserError
from src.printable import printable
from src.registry import did_you_mean

# Invisible characters: zero-width space, word joiner, byte order mark, soft hyphen, and marks of
# writing direction, which do not change how the name is displayed.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u200e\u200f\u061c]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_MAX_SHOWN = 60  # characters of a name in a message
_QUOTES = {"'": "'", '"': '"', "`": "`", "‘": "’", "“": "”", "„": "“", "«": "»", "»": "«", "‹": "›"}
_MAX_NESTED = 20  # pairs of quotes; a name with more keeps them


def as_read(name: str) -> str:
    """Return a class name in normal form, so that names which look alike are the same class.

    Removes outer space, repeated spaces, invisible characters and quotes around the name.
    Converts accents to one Unicode form (NFC). The result is one line, see `printable`.
    """
    name = " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", name)).split())
    while len(name) > 2 and _is_quoted(name):
        name = name[1:-1].strip()
    # Again NFC: an escape ends with a letter, with which an accent after it is one character.
    return unicodedata.normalize("NFC", printable(name))


def _is_quoted(name: str) -> bool:
    """Return whether one pair of quotes encloses the whole name; False for `'a' and 'b'`."""
    for _ in range(_MAX_NESTED):
        if len(name) < 2 or _QUOTES.get(name[0]) != name[-1]:
            return False
        quotes, name = {name[0], name[-1]}, name[1:-1].strip()
        if not quotes & set(name):
            return True
    return False


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct names, sorted: numbers first, by value, then the other names."""
    return tuple(sorted(set(names), key=_order))


def _order(name: str) -> tuple[bool, Decimal, str]:
    number = _number(name)
    return number is None, number or Decimal(0), name


def _number(name: str) -> Decimal | None:
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def nearly_equal(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return groups of names that differ only in case, or are one number, as 1, 01 and 1.0."""
    groups: dict[Decimal | str, list[str]] = {}
    for name in dict.fromkeys(names):
        number = _number(name)
        groups.setdefault(name.casefold() if number is None else number, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return the first `limit` names, shortened; if there are more, also the total number."""
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(map(shortened, names[:limit])) + more


def shortened(name: str) -> str:
    """Return the name, cut to the length that fits on a line with others."""
    return name if len(name) <= _MAX_SHOWN else f"{name[: _MAX_SHOWN - 3]}..."


def find_classes(given: Sequence[int | str], class_names: Sequence[str], path: Path) -> list[int]:
    """Return the labels of the classes named in `holdout_classes`.

    Args:
        given: class names. An integer means the class whose name is that number, not a label.
        class_names: the dataset's classes, in the order of their labels.
        path: the params file, for messages.

    Raises:
        UserError: a class does not exist, or is given twice.
    """
    labels = {name: label for label, name in enumerate(class_names)}
    found = []
    for wanted in given:
        name = as_read(str(wanted))
        if name not in labels:
            raise _no_such_class(wanted, class_names, path)
        found.append(labels[name])
    if len(set(found)) < len(found):
        twice = next(shortened(class_names[label]) for label in found if found.count(label) > 1)
        raise UserError(
            f"{path}: holdout_classes: found the class '{twice}' twice; accepted: each class once"
        )
    return found


def _no_such_class(wanted: int | str, class_names: Sequence[str], path: Path) -> UserError:
    name = as_read(str(wanted))
    found = f'"{shortened(printable(wanted))}"' if isinstance(wanted, str) else str(wanted)
    found = f"found {found}, which is not a class name"
    if isinstance(wanted, int) and wanted < len(class_names):
        found += f" (position {wanted} is the class '{shortened(class_names[wanted])}')"
    alike = [group for group in nearly_equal([name, *class_names]) if name in group]
    hint = f"; did you mean '{alike[0][1]}'?" if alike else did_you_mean(name, class_names)
    accepted = f"accepted: class names: {listed(class_names, 20)}"
    return UserError(f"{path}: holdout_classes: {found}; {accepted}{hint}")
