"""Terminal output for slow work: a bar for counted work, a name and the time for other work.

If standard error is not a terminal, nothing is shown.
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
"""Seconds until something is shown, so that quick work shows nothing."""

_REFRESH_EVERY_SECONDS = 0.5


def progress_bar(
    description: str, total: int, unit: str = "steps", *, seen: int = 0
) -> "tqdm[None]":
    """Return a bar with speed and remaining time, shown until it is closed.

    Args:
        description: the work, in one or two words.
        total: how many units the work has.
        unit: the name of the units, in the plural.
        seen: how many units an earlier run has done.
    """
    return tqdm(
        desc=printable(description),
        total=total,
        initial=seen,
        unit=f" {unit}",
        unit_scale=True,
        disable=None,  # disabled if stderr is not a terminal
        leave=False,
        delay=DELAY,
        file=sys.stderr,
        **_shape(sys.stderr),
    )


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Show the block's name and elapsed time, if the block takes longer than `DELAY`.

    Only on a terminal; the line disappears when the block ends.
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
    shown = printable(name).replace("{", "{{").replace("}", "}}")  # tqdm formats the text
    bar_format = f"{shown} ... {{elapsed}}"
    bar = tqdm(bar_format=bar_format, leave=False, file=console, **_shape(console))
    bar.start_t -= DELAY
    while not has_ended.wait(_REFRESH_EVERY_SECONDS):
        bar.refresh()
    bar.close()


def _shape(console: TextIO) -> dict[str, Any]:
    """Return the terminal size for tqdm: the real one, or 80 x 24 if the terminal reports 0 x 0.

    Containers, `script` and serial lines report 0 x 0; tqdm would show nothing there.
    """
    try:
        is_known = all(os.get_terminal_size(console.fileno()))
    except OSError:
        is_known = True  # not a terminal
    return {"dynamic_ncols": True} if is_known else {"ncols": 80, "nrows": 24}
