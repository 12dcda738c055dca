"""A page of the documentation that has results between two marks, and their figure."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from src.drawing.style import style
from src.system.atomic import atomic_write

END = "<!-- end of results -->"


def begin_of(target: str) -> str:
    """Return the mark before the results that a target of the Makefile writes."""
    return f"<!-- results: written by make {target} -->"


def with_results(page: str, target: str, paragraphs: Sequence[str]) -> str:
    """Return the page with other results between its marks.

    Raises:
        ValueError: the page lacks a mark.
    """
    before, begin, rest = page.partition(begin_of(target))
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {begin_of(target)!r}, or {END!r} after it")
    results = "\n\n".join([begin, *paragraphs, end])
    return f"{before}{results}{after}"


def write_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure in the project's style and write it as PNG; equal figures give equal files."""
    content = io.BytesIO()
    with style():
        draw().savefig(content, format="png", metadata={"Software": None})
    with atomic_write(path) as file:
        file.write(content.getvalue())
