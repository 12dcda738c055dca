"""A page of the documentation that has results between two marks, their figure, their folders."""

import argparse
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure

from benchmarks.harness import REPOSITORY
from src.drawing.style import style
from src.system.atomic import atomic_write


class Recorded(Protocol):
    """A result that says which machine measured it, and when."""

    @property
    def machine(self) -> str:
        """Processor, cores, memory, TensorFlow."""

    @property
    def date(self) -> str:
        """YYYY-MM-DD."""


END = "<!-- end of results -->"


def add_folders(parser: argparse.ArgumentParser, directory: str, results: str) -> None:
    """Add `--directory`, by default a folder of experiments/, and `--out`, by default docs/."""
    parser.add_argument(
        "--directory",
        type=Path,
        default=REPOSITORY / "experiments" / directory,
        metavar="DIR",
        help=f"the folder of the trainings (default: experiments/{directory})",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=REPOSITORY / "docs",
        metavar="DIR",
        help=f"the folder of {results}, the page and the figure (default: docs)",
    )


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


def where_measured(found: Iterable[Recorded]) -> str:
    """Return the machines of results, each with its dates, on a line."""
    machines: dict[str, set[str]] = {}
    for one in found:
        machines.setdefault(one.machine, set()).add(one.date)
    return "; ".join(f"{name}, {' and '.join(sorted(dates))}" for name, dates in machines.items())


def write_page(path: Path, page_of: Callable[[str], str]) -> None:
    """Write the page of docs/ that has the name of `path`, as `page_of` changes it."""
    page = page_of((REPOSITORY / "docs" / path.name).read_text(encoding="utf-8"))
    with atomic_write(path) as file:
        file.write(page.encode())


def write_figure(draw: Callable[[], Figure], path: Path) -> None:
    """Draw a figure in the project's style and write it as PNG; equal figures give equal files."""
    content = io.BytesIO()
    with style():
        draw().savefig(content, format="png", metadata={"Software": None})
    with atomic_write(path) as file:
        file.write(content.getvalue())
