"""What a terminal shows of work that takes seconds: a bar for what is counted, a name for the rest.

Where standard error is no terminal, nothing.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
        dynamic_ncols=True,
        delay=DELAY,
        file=sys.stderr,
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


def _show(name: str, has_ended: threading.Event, console: object) -> None:
    if DELAY and has_ended.wait(DELAY):
        return
    bar = tqdm(bar_format=f"{name} ... {{elapsed}}", leave=False, dynamic_ncols=True, file=console)
    bar.start_t -= DELAY
    while not has_ended.wait(_REFRESH_EVERY_SECONDS):
        bar.refresh()
    bar.close()
