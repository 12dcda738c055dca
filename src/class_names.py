"""Names of classes: what is read of one, their order, and which of them params name."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from src.errors import UserError
from src.printable import printable
from src.registry import did_you_mean

# Characters that leave no mark: zero-width space and joiner of words, byte order mark, soft hyphen.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
_QUOTES = {"'": "'", '"': '"', "`": "`", "‘": "’", "“": "”", "„": "“", "«": "»", "»": "«", "‹": "›"}


def as_read(name: str) -> str:
    """Return a class's name as a person reads it.

    Space around it, and more than one space within, invisible characters, the Unicode form in which
    accents are written, and quotes around it make no other class. On one line, see `printable`.
    """
    name = " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", name)).split())
    while len(name) > 2 and _QUOTES.get(name[0]) == name[-1]:
        name = name[1:-1].strip()
    return printable(name)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the different names, sorted: those that are numbers as numbers, before the others."""
    return tuple(sorted(set(names), key=_order))


def _order(name: str) -> tuple[bool, int, str]:
    is_number = name.isdecimal() and name.isascii() and len(name) <= 4000  # of Python's own limit
    return not is_number, int(name) if is_number else 0, name


def that_differ_in_case(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of names that are the same but for capital letters."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.casefold(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Return the first names, and how many more there are."""
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


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
        twice = next(class_names[label] for label in found if found.count(label) > 1)
        raise UserError(
            f"{path}: holdout_classes: found the class '{twice}' twice; accepted: each class once"
        )
    return found


def _no_such_class(wanted: int | str, class_names: Sequence[str], path: Path) -> UserError:
    accepted = f"accepted: names of classes: {', '.join(class_names[:20])}"
    accepted += ", ..." if len(class_names) > 20 else ""
    if isinstance(wanted, int):
        found = f"found {wanted}, which is the name of no class"
        if wanted < len(class_names):
            found += f" (at position {wanted} stands '{class_names[wanted]}')"
        return UserError(f"{path}: holdout_classes: {found}; {accepted}")
    hint = did_you_mean(wanted, class_names)
    return UserError(f'{path}: holdout_classes: found "{printable(wanted)}"; {accepted}{hint}')
