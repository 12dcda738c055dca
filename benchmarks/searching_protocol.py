"""What `benchmarks.searching` compares: the searches, what they search; and its records."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from src.errors import UserError
from src.printable import printable
from src.searching.record import SearchRecord, range_of, read_record
from src.sweeping.space import parse_dimension
from src.system.records import read_model, write_model

MINUTES = 60.0
SEEDS = (0, 1, 2)

SEARCHES = {"grid": "none", "random": "none", "tpe": "median"}
"""Each search with its pruning."""

PARAMS = {
    "dataset": "fashion_mnist",
    "num_epochs": 3,
    "classes_per_batch": 10,
    "examples_per_class": 12,
    "network": "naive_cnn",
    "num_channels": 32,
    "embedding_size": 64,
    "l2_normalize": True,
}
"""Without a schedule of the learning rate: its early values would mislead pruning."""

RANGES = {
    "margin": ("0.05..1:log", "0.05,0.1,0.2,0.5,1"),
    "learning_rate": ("1e-4..1e-2:log", "0.0001,0.001,0.01"),
    "triplet_strategy": ("batch_all,batch_hard,batch_semihard",) * 2,
    "augment.shift": ("0..4", "0,2,4"),
}
"""For each key: what random search and TPE draw from, and the values of the grid."""

RESULTS = "search-study.json"
_MAX_BYTES = 2**24
_SECONDS_TO_END = 150.0  # after the time is over, until the last training has saved

Part = tuple[str, int]
"""A kind of search and a seed."""


def parts() -> list[Part]:
    """Return all parts in the order in which they run."""
    return [(search, seed) for seed in SEEDS for search in SEARCHES]


def params_of(seed: int) -> dict[str, Any]:
    """Return the `params.json` that a search starts from."""
    return {**PARAMS, "seed": seed}


def protocol_of(minutes: float) -> str:
    """Return a digest of all that determines the results of a part."""
    content = json.dumps([float(minutes), PARAMS, RANGES, SEARCHES], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def check_folder(parent: Path, part: Part, minutes: float) -> None:
    """Refuse a search of other ranges or pruning, or one that has had more time.

    Raises:
        UserError: it is one.
    """
    record = read_record(parent)
    if record is None:
        return
    texts = {key: RANGES[key][part[0] == "grid"] for key in RANGES}
    space = {key: range_of(parse_dimension(f"{key}={text}")[1]) for key, text in texts.items()}
    ended = max((trial.seconds or 0.0 for trial in record.trials), default=0.0)
    is_longer = ended > 60 * minutes + _SECONDS_TO_END
    if record.space != space or record.prune != SEARCHES[part[0]] or is_longer:
        raise UserError(
            f"{printable(str(parent))}: found a search of other ranges, pruning or minutes; "
            "accepted: that of this study, or another --directory"
        )


_Text = Annotated[str, Field(max_length=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Searched(_Strict):
    """A search whose time is over.

    Attributes:
        search: a key of SEARCHES.
        seed: of the search and its trainings.
        minutes: its time.
        protocol: see `protocol_of`.
        machine: that added it to the results: processor, cores, memory, TensorFlow.
        date: when it did, YYYY-MM-DD.
        record: what the search wrote.
    """

    search: _Text
    seed: int
    minutes: float
    protocol: _Text
    machine: _Text
    date: _Text
    record: SearchRecord

    @property
    def part(self) -> Part:
        """The part that it is."""
        return self.search, self.seed


class _All(_Strict):
    searches: list[Searched] = []


def read_searched(folder: Path) -> list[Searched]:
    """Return the results in a folder; none if there is no file.

    Raises:
        UserError: the file is damaged.
    """
    content = read_model(
        folder / RESULTS, _All, _MAX_BYTES, "the file that benchmarks.searching wrote"
    )
    return content.searches if content else []


def write_searched(folder: Path, found: Iterable[Searched]) -> None:
    """Write the results in the order of the parts."""
    order = parts()
    ordered = sorted(found, key=lambda one: order.index(one.part))
    write_model(folder / RESULTS, _All(searches=ordered), indent=1)


def check_searched(found: Iterable[Searched], minutes: float, folder: Path) -> None:
    """Refuse results that are twice there, of other searches, or of another budget.

    Raises:
        UserError: there is one.
    """
    wanted = protocol_of(minutes)
    known = set()
    for one in found:
        place = printable(f"{folder / RESULTS}: {one.search} with seed {one.seed}")
        if one.part not in parts() or one.part in known:
            raise UserError(f"{place}: unknown, or twice; accepted: {', '.join(SEARCHES)}, once")
        if one.protocol != wanted:
            raise UserError(
                f"{place}: found a result of {one.minutes:g} minutes, protocol "
                f"{printable(one.protocol)}; accepted: {minutes:g} minutes, protocol {wanted}; to "
                "keep it, use another --out"
            )
        known.add(one.part)
