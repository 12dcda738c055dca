"""Names from outside, on one line that says what it seems to say."""

import unicodedata

# What scripts and emoji join letters with, and keep them apart.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""Return `text` with every character escaped that is not printed as itself.

    Line ends, terminal controls (ESC), marks that turn the reading direction, and lone surrogates
    become escapes such as `\x1b`; letters and spaces of any script stay.
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
