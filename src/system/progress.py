"""What a terminal shows of work that takes seconds: a bar for what is counted, a name for the rest.

Where standard error is no terminal, nothing.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm  # type: ignore[import-untyped]

from src.printable import printable

DELAY = 0.5
"""Seconds until something is shown: what is quick is not worth a flash."""

_REFRESH_EVERY_SECONDS = 0.5


def progress_bar(
    description: str, total: int, unit: str = "steps", *, seen: int = 0
) -> "tqdm[None]":
    """Return a bar with speed and time left, shown until it is closed.

    Args:
        description: what is being done, in a word or two.
        total: how many units it takes.
        unit: what is counted, in the plural.
        seen: how many of them an earlier run has done.
    """
    return tqdm(
        desc=printable(description),
        total=total,
        initial=seen,
        unit=f" {unit}",
        unit_scale=True,
        disable=None,  # where stderr is not a terminal
        leave=False,
        delay=DELAY,
        file=sys.stderr,
        **_shape(sys.stderr),
    )


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Show what the block does, and for how long it has, if that is more than a moment.

    On a terminal only; the line goes away when the block ends.
    """
    if not sys.stderr.isatty():
        yield
        return
    has_ended = threading.Event()
    thread = threading.Thread(target=_show, args=(name, has_ended, sys.stderr), daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        thread.join()


def _show(name: str, has_ended: threading.Event, console: TextIO) -> None:
    if DELAY and has_ended.wait(DELAY):
        return
    bar_format = f"{name} ... {{elapsed}}"
    bar = tqdm(bar_format=bar_format, leave=False, file=console, **_shape(console))
    bar.start_t -= DELAY
    while not has_ended.wait(_REFRESH_EVERY_SECONDS):
        bar.refresh()
    bar.close()


def _shape(console: TextIO) -> dict[str, Any]:
    """Return how large tqdm takes the terminal to be: as it is or, if it says 0 x 0, as most are.

    So small are those of containers, `script` and serial lines; tqdm would show nothing there.
    """
    try:
        is_known = all(os.get_terminal_size(console.fileno()))
    except OSError:
        is_known = True  # no terminal
    return {"dynamic_ncols": True} if is_known else {"ncols": 80, "nrows": 24}
