"""Names from outside, on one line that says what it seems to say."""


def printable(text: str) -> str:
    r"""Return `text` with every character escaped that is not printed as itself.

    Line ends, terminal controls (ESC), marks that turn the reading direction, and lone surrogates
    become escapes such as `\x1b`; letters of any script stay.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
