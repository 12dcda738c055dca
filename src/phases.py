"""Names on the console for what takes seconds and counts nothing: `reading mnist ... 00:03`."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]

_APPEARS_AFTER_SECONDS = 1.0
_REFRESH_EVERY_SECONDS = 0.5


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Show what the block does, and for how long it has, where that is more than a second.

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
    if has_ended.wait(_APPEARS_AFTER_SECONDS):
        return
    bar = tqdm(bar_format=f"{name} ... {{elapsed}}", leave=False, dynamic_ncols=True, file=console)
    bar.start_t -= _APPEARS_AFTER_SECONDS
    while not has_ended.wait(_REFRESH_EVERY_SECONDS):
        bar.refresh()
    bar.close()
