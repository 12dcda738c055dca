"""Makes texts from outside harmless on a page."""

import html

from src.printable import printable


def escape(text: str) -> str:
    """Return text for the page: unprintable characters are escaped, then HTML's special ones."""
    return html.escape(printable(text))
