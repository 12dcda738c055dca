"""`search.json` in a parent directory: what a search has found, for `compare.py` and for people.

The search writes it anew after each training and every few seconds. Optuna's journal beside it is
what a search goes on from; only the time it has run is read from this file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from src.sweeping.space import Dimension, Range
from src.system.records import read_model, write_model

RECORD_FILE = "search.json"

WINNER_DIR = "best"
"""The folder of the winner's `params.json`."""

_MAX_BYTES = 2**26
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Text = Annotated[str, Field(max_length=10_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class KeyRange(_Strict):
    """What was searched of a key.

    Attributes:
        low: the range's smallest number; None for choices.
        high: its largest.
        is_log: whether its axis is logarithmic.
        choices: the values to choose from; empty for a range.
    """

    low: _Number | None = None
    high: _Number | None = None
    is_log: bool = False
    choices: list[Any] = []


class TrialRecord(_Strict):
    """A training of the search.

    Attributes:
        number: counts from 0, in the order of the proposals.
        name: its directory.
        values: the value of each searched key.
        status: `running`, or how it ended.
        value: the metric; None if it has not finished.
        seconds: how long the search had run when it ended; None before.
        reason: why it failed, or the trial with the same values; empty if nothing.
    """

    number: _Count
    name: _Text
    values: dict[str, Any]
    status: _Text
    value: _Number | None
    seconds: _Number | None
    reason: _Text = ""


class SearchRecord(_Strict):
    """The file's content.

    Attributes:
        search: `grid`, `random` or `tpe`.
        prune: what stops trainings early.
        metric: what is optimized: `validation.map_at_r_within`.
        is_higher_better: its direction.
        seconds: how long the search has run, all runs together.
        space: what is searched, by key.
        trials: by number.
        importances: how much each key matters, in shares of 1; None if unknown.
        winner: the name of the winner; None before.
    """

    search: Literal["grid", "random", "tpe"]
    prune: Literal["median", "none"]
    metric: _Text
    is_higher_better: bool
    seconds: _Number
    space: dict[str, KeyRange]
    trials: list[TrialRecord] = []
    importances: dict[str, _Number] | None = None
    winner: _Text | None = None


def range_of(dimension: Dimension) -> KeyRange:
    """Return what the file says of a range or of choices."""
    if isinstance(dimension, Range):
        return KeyRange(
            low=float(dimension.low), high=float(dimension.high), is_log=dimension.is_log
        )
    return KeyRange(choices=list(dimension))


def read_record(parent_dir: Path) -> SearchRecord | None:
    """Return what a search has found in a directory; None if there was none.

    Raises:
        UserError: the file is damaged.
    """
    accepted = "the file that sweep.py wrote; without it, a search goes on with its whole time left"
    return read_model(parent_dir / RECORD_FILE, SearchRecord, _MAX_BYTES, accepted)


def save_record(parent_dir: Path, record: SearchRecord) -> None:
    """Write the file."""
    write_model(parent_dir / RECORD_FILE, record, indent=1)
