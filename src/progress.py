"""Progress bars on a terminal: each phase that takes seconds has one, with its name."""

from tqdm import tqdm  # type: ignore[import-untyped]

DELAY = 0.5
"""Seconds until a bar is shown: what is quick is not worth a flash."""


def progress_bar(description: str, total: int | None = None, unit: str = "steps") -> "tqdm[None]":
    """Return a bar, which a terminal shows until it is closed, and nothing else does.

    Args:
        description: what is being done, in a word or two.
        total: how many units it takes; None if that is not known.
        unit: what is counted, in the plural.
    """
    return tqdm(
        desc=description,
        total=total,
        disable=None,
        leave=False,
        dynamic_ncols=True,
        unit=f" {unit}",
        delay=0.0 if total is None else DELAY,  # what does not advance would never be shown later
        bar_format="{desc} ..." if total is None else None,
    )
