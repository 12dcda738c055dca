"""What `benchmarks.reality` measures: data sets, strategies, what is searched; and its records."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from src.errors import UserError
from src.printable import printable
from src.system.records import read_model, write_model

TRIALS = 12
SEARCH_SEED = 0
FINAL_SEEDS = (1, 2, 3)
"""Not the search's, whose best training is also the luckiest."""

RESULTS = "reality-check.json"
_MAX_BYTES = 2**24

NETWORK = {
    "network": "naive_cnn",
    "num_channels": 32,
    "embedding_size": 64,
    "l2_normalize": True,
    "keep_checkpoint_max": 1,
}


@dataclass(frozen=True)
class Task:
    """A data set and what is measured on it.

    Attributes:
        title: its name on the page.
        split: what the final trainings are measured on: `test` or `unseen`.
        params: of all its trainings, beside NETWORK and the strategy's.
    """

    title: str
    split: str
    params: dict[str, Any]


_TEN_CLASSES = {"classes_per_batch": 10, "examples_per_class": 12, "num_epochs": 1}

TASKS = {
    "mnist": Task("MNIST", "test", {"dataset": "mnist", **_TEN_CLASSES}),
    "fashion_mnist": Task("Fashion-MNIST", "test", {"dataset": "fashion_mnist", **_TEN_CLASSES}),
    "fashion_unseen": Task(
        "Fashion-MNIST, unseen classes",
        "unseen",
        {
            "dataset": "fashion_mnist",
            "holdout_classes": ["Sneaker", "Bag", "Ankle boot"],
            "validation_by": "class",
            "validation_fraction": 0.43,  # three of the seven that are left
            "extra_classes": ["rot90"],
            "augment": {"shift": 2, "flip": True},
            "classes_per_batch": 8,
            "examples_per_class": 15,
            "num_epochs": 1,
        },
    ),
    "orl_unseen": Task(
        "ORL, unseen persons",
        "unseen",
        {
            "dataset": "image_folder",
            "image_dir": "orl_faces",
            "image_mode": "L",
            "image_size": 64,
            "holdout_classes": [f"s{number}" for number in range(21, 41)],
            "validation_by": "class",
            "validation_fraction": 0.4,  # eight of the twenty that are left
            "augment": {"shift": 3, "rotation": 10, "crop": 0.85},
            "classes_per_batch": 12,
            "examples_per_class": 6,
            "num_blocks": 4,
            "num_epochs": 60,
            "save_checkpoints_steps": 20,
        },
    ),
}
"""Where classes are unseen, whole other classes validate: the search sees none that is reported."""


@dataclass(frozen=True)
class Strategy:
    """A strategy.

    Attributes:
        params: its keys that are not searched.
        ranges: its own keys that are searched, beside the learning rate.
    """

    params: dict[str, Any]
    ranges: dict[str, str]


LEARNING_RATE = {"learning_rate": "1e-4..1e-2:log"}
_MARGIN = {"margin": "0.05..1:log"}

STRATEGIES = {
    "batch_all": Strategy({}, _MARGIN),
    "batch_hard": Strategy({}, _MARGIN),
    "batch_semihard": Strategy({}, _MARGIN),
    "distance_weighted": Strategy({}, _MARGIN),
    "easy_positive": Strategy({}, _MARGIN),
    "multi_similarity": Strategy(
        {"distance": "cosine"},
        {
            "multi_similarity_alpha": "0.5..20:log",
            "multi_similarity_beta": "5..100:log",
            "multi_similarity_base": "0.1..1",
        },
    ),
    "supervised_contrastive": Strategy(
        {"distance": "cosine"}, {"supervised_contrastive_temperature": "0.02..0.5:log"}
    ),
}

BASELINE = "batch_all"
"""The others are compared with it: chosen before anything was measured."""

Part = tuple[str, str]
"""A data set and a strategy, by their names."""

PARTS: tuple[Part, ...] = tuple((task, one) for task in TASKS for one in STRATEGIES)


def params_of(part: Part) -> dict[str, Any]:
    """Return the `params.json` that a part's search starts from."""
    task, strategy = part
    own = STRATEGIES[strategy].params
    return {**TASKS[task].params, **NETWORK, "triplet_strategy": strategy, **own}


def ranges_of(part: Part) -> dict[str, str]:
    """Return what is searched of each key, as `sweep.py --param` takes it."""
    return LEARNING_RATE | STRATEGIES[part[1]].ranges


def protocol_of(part: Part) -> str:
    """Return a digest of all that determines a part's numbers, but for the number of trials."""
    content = [params_of(part), ranges_of(part), TASKS[part[0]].split, SEARCH_SEED, FINAL_SEEDS]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


_Number = Annotated[float, Field(allow_inf_nan=False)]
_Text = Annotated[str, Field(max_length=1000)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Row(_Strict):
    """A final training.

    Attributes:
        dataset: a key of TASKS.
        strategy: a key of STRATEGIES.
        seed: of the training.
        protocol: see `protocol_of`.
        trials: how many trainings searched for the params.
        found: the value of each searched key.
        status: how the training ended.
        map_at_r: MAP@R within the task's split; None if the training has no metrics.
        recall_at_1: the same.
        validation: MAP@R within the validation split.
        raw_pixels: MAP@R of the pixels within the task's split.
        untrained: MAP@R of the network before the training.
        seconds: how long the training took, evaluations included.
        search_seconds: how long the search took.
        machine: processor, cores, memory, TensorFlow.
        date: of the measurement, YYYY-MM-DD.
    """

    dataset: _Text
    strategy: _Text
    seed: int
    protocol: _Text
    trials: int
    found: dict[str, _Number]
    status: Literal["finished", "diverged", "collapsed"]
    map_at_r: _Number | None
    recall_at_1: _Number | None
    validation: _Number | None
    raw_pixels: _Number | None
    untrained: _Number | None
    seconds: _Number | None
    search_seconds: _Number
    machine: _Text
    date: _Text

    @property
    def part(self) -> Part:
        """The part that it belongs to."""
        return self.dataset, self.strategy


class _Rows(_Strict):
    rows: list[Row] = []


def read_rows(folder: Path) -> list[Row]:
    """Return the rows of the results in a folder; none if there is no file.

    Raises:
        UserError: the file is damaged, or has a training twice.
    """
    path = folder / RESULTS
    accepted = "the file that benchmarks.reality wrote"
    content = read_model(path, _Rows, _MAX_BYTES, accepted)
    rows = content.rows if content else []
    names = [(*row.part, row.seed) for row in rows]
    for name in names:
        if names.count(name) > 1:
            found = printable(f"{path}: found {name[0]} with {name[1]}, seed {name[2]}, twice")
            raise UserError(f"{found}; accepted: each once")
    return rows


def write_rows(folder: Path, rows: Iterable[Row]) -> None:
    """Write the rows in the order of the parts, so that results of two machines merge line by line.

    Rows of other parts, which `check_rows` refuses, come last.
    """

    def order(row: Row) -> tuple[int, int]:
        return PARTS.index(row.part) if row.part in PARTS else len(PARTS), row.seed

    write_model(folder / RESULTS, _Rows(rows=sorted(rows, key=order)), indent=1)


def check_rows(rows: Iterable[Row], trials: int, folder: Path) -> None:
    """Refuse rows that were measured otherwise: a table of both would compare what differs.

    Raises:
        UserError: there is one.
    """
    for row in rows:
        wanted = protocol_of(row.part) if row.part in PARTS else None
        if (row.protocol, row.trials) != (wanted, trials):
            place = f"{folder / RESULTS}: {row.dataset} with {row.strategy}, seed {row.seed}"
            raise UserError(
                f"{printable(place)}: found a result of {row.trials} trials, protocol "
                f"{printable(row.protocol)}; accepted: {trials} trials, protocol {wanted}; to keep "
                "it, use another --out; to measure it anew, --again"
            )


def complete(rows: Sequence[Row]) -> list[Part]:
    """Return the parts of which all final trainings have ended."""
    ended = {(*row.part, row.seed) for row in rows}
    return [part for part in PARTS if all((*part, seed) in ended for seed in FINAL_SEEDS)]
