"""Escapes text from outside, so that it stays on one line and looks like what it is."""

import unicodedata

# Characters that join letters or keep them apart, in scripts and emoji.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Return `text` with every unprintable character escaped.

    Line ends, terminal controls (ESC), marks of the reading direction, and lone surrogates become
    escapes such as `\x1b`. Letters and spaces of any script stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if _prints(character) else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _prints(character: str) -> bool:
    is_space = unicodedata.category(character) == "Zs"
    return character.isprintable() or is_space or character in _JOINERS


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 class`, `2 classes`, `1,000 pictures`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"
