"""Names of classes: what is read of one, their order, and which of them params name."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from src.errors import UserError
from src.printable import printable
from src.registry import did_you_mean

# Characters that leave no mark: zero-width space and joiner of words, byte order mark, soft hyphen,
# and marks of the direction in which the others are read anyway.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u200e\u200f\u061c]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_MAX_SHOWN = 60  # characters of a name
_QUOTES = {"'": "'", '"': '"', "`": "`", "‘": "’", "“": "”", "„": "“", "«": "»", "»": "«", "‹": "›"}


def as_read(name: str) -> str:
    """Return a class's name as a person reads it.

    Space around it, and more than one space within, invisible characters, the Unicode form in which
    accents are written, and quotes around it make no other class. On one line, see `printable`.
    """
    name = " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", name)).split())
    while len(name) > 2 and _is_quoted(name):
        name = name[1:-1].strip()
    return printable(name)


def _is_quoted(name: str) -> bool:
    """Return whether quotes are around the whole name: not so in `'a' and 'b'`."""
    if len(name) < 2 or _QUOTES.get(name[0]) != name[-1]:
        return False
    inner = name[1:-1].strip()
    return not {name[0], name[-1]} & set(inner) or _is_quoted(inner)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names, sorted: those that are numbers as numbers, before the others."""
    return tuple(sorted(set(names), key=_order))


def _order(name: str) -> tuple[bool, Decimal, str]:
    number = _number(name)
    return number is None, number or Decimal(0), name


def _number(name: str) -> Decimal | None:
    return Decimal(name) if _NUMBER.fullmatch(name) else None


def nearly_equal(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of names that differ in capital letters alone, or as 1, 01 and 1.0 do."""
    groups: dict[Decimal | str, list[str]] = {}
    for name in dict.fromkeys(names):
        number = _number(name)
        groups.setdefault(name.casefold() if number is None else number, []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, shortened, and how many there are in all if there are more."""
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(map(shortened, names[:limit])) + more


def shortened(name: str) -> str:
    """Return what of a name fits on a line with others."""
    return name if len(name) <= _MAX_SHOWN else f"{name[: _MAX_SHOWN - 3]}..."


def find_classes(given: Sequence[int | str], class_names: Sequence[str], path: Path) -> list[int]:
    """Return the labels of the classes that `holdout_classes` gives.

    Args:
        given: names; an integer stands for the name that it is written as.
        class_names: of the dataset, by label.
        path: the file of the params, for the messages.

    Raises:
        UserError: there is no such class, or one is given twice.
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
    found = f"found {found}, which is the name of no class"
    if isinstance(wanted, int) and wanted < len(class_names):
        found += f" (at position {wanted} stands '{shortened(class_names[wanted])}')"
    alike = [group for group in nearly_equal([name, *class_names]) if name in group]
    hint = f"; did you mean '{alike[0][1]}'?" if alike else did_you_mean(name, class_names)
    accepted = f"accepted: names of classes: {listed(class_names, 20)}"
    return UserError(f"{path}: holdout_classes: {found}; {accepted}{hint}")
