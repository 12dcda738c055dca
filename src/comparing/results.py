"""Reads the results of experiments from their files: params, status, metrics.

An experiment that is not trained, or whose files are damaged, is a result too.
"""

import math
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.pruned import is_pruned
from src.experiment.status import Status
from src.params.reading import format_value, load_params
from src.params.schema import Params
from src.printable import printable
from src.searching.record import RECORD_FILE, WINNER_DIR, SearchRecord, read_record
from src.system.lock import has_writer

# The status of a training that has not ended. Key: whether a process writes there, None if unknown.
_STATES = {True: Status.RUNNING, False: Status.FAILED, None: Status.PERHAPS_RUNNING}

NOTES_ALONE = frozenset({Status.PARENT, Status.UNREADABLE})
"""Statuses of directories that are not experiments: they get a note, not a row."""


@dataclass(frozen=True)
class Result:
    """One experiment.

    Attributes:
        model_dir: its directory.
        status: a `Status`, or any other status in `metrics.json`. `collapsed` also if the training
            reached its end; `unreadable` if the directory cannot be read.
        params: the params that its metrics belong to; None if they cannot be read.
        metrics: every number in `metrics.json` by its path: `train.loss`, `seconds`. Metrics that
            are null there, because they are undefined, are absent. Empty until the training has
            ended: metrics of an earlier run do not belong to the current one.
        notes: further remarks for the reader, one line each.
    """

    model_dir: Path
    status: str
    params: Params | None
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


def read_results(directories: Iterable[Path]) -> list[Result]:
    """Read every experiment at or below `directories`, each once, ordered by path.

    If an experiment is not trained and has others below it, `sweep.py` made those from it. Its
    status is `parent`. A directory below that cannot be read is `unreadable`.

    Raises:
        UserError: a directory does not exist, cannot be read, or holds no experiment.
    """
    paths: dict[Path, Path] = {}
    unreadable: dict[Path, OSError] = {}
    for top in directories:
        if not top.is_dir():
            raise UserError(
                f"{printable(str(top))}: found no directory; accepted: a directory with experiments"
            )
        below, failed = _find_experiments(top)
        if not below:
            found = f"{printable(str(top))}: found no params.json"
            if failed:
                found = _not_read(failed[0])
            raise UserError(
                f"{found}; accepted: an experiment, or a directory with experiments below it"
            )
        for path in below:
            paths.setdefault(path.resolve(), path)
        for error in failed:
            unreadable.setdefault(Path(error.filename).resolve(), error)
    num_below = Counter(parent for resolved in paths for parent in resolved.parents)
    results = []
    for resolved, path in sorted(paths.items()):
        result = read_result(path)
        if result.status == Status.NOT_TRAINED and resolved in num_below:
            note = f"{path}: not trained itself; {num_below[resolved]} experiments are below it"
            result = replace(result, status=Status.PARENT, notes=(note,))
        elif result.status == Status.NOT_TRAINED and _is_winner(path):
            note = f"{path}: the params that a search has found; not trained under this name"
            result = replace(result, status=Status.PARENT, notes=(note,))
        results.append(result)
    return results + [
        Result(Path(error.filename), Status.UNREADABLE, None, {}, (_not_read(error),))
        for _, error in sorted(unreadable.items())
    ]


def read_searches(directories: Iterable[Path]) -> dict[Path, SearchRecord]:
    """Return what searches at or below `directories` have found, by their parent directories.

    Raises:
        UserError: the file of one is damaged.
    """
    found: dict[Path, SearchRecord] = {}
    for top in directories:
        for path in sorted(_find_experiments(top)[0]):
            record = read_record(path)
            if record is not None:
                found[path] = record
    return found


def read_result(model_dir: Path) -> Result:
    """Read the files of one experiment; damaged files become a status and a note."""
    try:
        experiment = Experiment(model_dir)
        params = load_params(experiment.params_path)
        content = experiment.metrics()
        trained = params
        if content is not None and experiment.trained_params_path.exists():
            trained = load_params(experiment.trained_params_path)
    except UserError as error:
        return Result(model_dir, Status.DAMAGED, None, {}, tuple(str(error).split("\n")))
    except OSError as error:
        return Result(model_dir, Status.DAMAGED, None, {}, (_not_read(error),))
    if content is None:
        return _without_metrics(experiment, params)

    notes = []
    if params != trained:
        now, then = params.model_dump(), trained.model_dump()
        notes = [
            f"{experiment.params_path}: {key} is {format_value(now[key])} now; the training used "
            f"{format_value(then[key])}"
            for key in now
            if now[key] != then[key]
        ]
    status = str(content["status"])
    splits = content.pop("splits", {})
    if _was_pruned(experiment):
        metrics = _numbers({"seconds": content["seconds"]}) if "seconds" in content else {}
        return Result(model_dir, Status.PRUNED, trained, metrics, tuple(notes))
    if status == Status.RUNNING:
        state = _STATES[has_writer(model_dir)]
        notes.append(_last_write(experiment, state))
        return Result(model_dir, state, trained, {}, tuple(notes))
    if status == Status.FINISHED and content.get("collapsed"):
        status = Status.COLLAPSED
    metrics = _numbers(content) | _numbers(splits)
    return Result(model_dir, status, trained, metrics, tuple(notes))


def _without_metrics(experiment: Experiment, params: Params) -> Result:
    """Return the result of a directory without `metrics.json`, which may have been trained."""
    if _was_pruned(experiment):
        return Result(experiment.model_dir, Status.PRUNED, params, {})
    try:
        step = experiment.latest_step()
    except UserError as error:
        return Result(experiment.model_dir, Status.DAMAGED, params, {}, (str(error),))
    if step is None:
        return Result(experiment.model_dir, Status.NOT_TRAINED, params, {})
    state = _STATES[has_writer(experiment.model_dir)]
    note = f"{experiment.metrics_path}: not found, but there is a checkpoint of step {step}" + (
        "; train.py resumes or evaluates it" if state != Status.RUNNING else ""
    )
    return Result(experiment.model_dir, state, params, {}, (note,))


def _is_winner(path: Path) -> bool:
    """Return whether a search has written a directory's params."""
    return path.name == WINNER_DIR and (path.parent / RECORD_FILE).exists()


def _was_pruned(experiment: Experiment) -> bool:
    """Return whether a search has stopped the training; a damaged note of it counts as none."""
    try:
        return is_pruned(experiment)
    except UserError:
        return False


def _find_experiments(top: Path) -> tuple[list[Path], list[OSError]]:
    """Return the directories with a `params.json` at or below `top`, except hidden ones.

    Also return the errors of directories that cannot be read.
    """
    found: list[Path] = []
    failed: list[OSError] = []
    for folder, folders, files in os.walk(top, onerror=failed.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if "params.json" in files:
            found.append(Path(folder))
    return found, failed


def _not_read(error: OSError) -> str:
    """Return the message for a file or directory that cannot be read."""
    return f"{printable(str(error.filename))}: {error.strerror}"


def _last_write(experiment: Experiment, status: Status) -> str:
    """Return the note for a training that has not ended."""
    latest = 0.0
    with suppress(OSError):
        for path in experiment.model_dir.iterdir():
            with suppress(OSError):  # a running training renames its temporary files
                latest = max(latest, path.stat().st_mtime)
    progress = experiment.progress() or {}
    at = f", at step {progress['step']} of {progress['max_steps']}" if "step" in progress else ""
    state = {
        Status.RUNNING: "training",
        Status.PERHAPS_RUNNING: "training on another machine, or interrupted",
        Status.FAILED: "the training was killed; train.py resumes it",
    }[status]
    return f"{experiment.model_dir}: {state}: last wrote {_duration(time.time() - latest)} ago{at}"


def _duration(seconds: float) -> str:
    """Return a duration in a suitable unit: `12 s`, `3 min`, `5 h`, `2 days`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    """Return every number in nested objects, by its dotted path."""
    numbers: dict[str, float] = {}
    objects = [("", content)]
    while objects:
        prefix, members = objects.pop()
        for key, value in members.items():
            if isinstance(value, dict):
                objects.append((f"{prefix}{key}.", value))
            elif isinstance(value, int | float) and not isinstance(value, bool):
                # Many experiments have the same paths, so each is kept in memory once.
                numbers[sys.intern(f"{prefix}{key}")] = _finite_or_infinite(value)
    return numbers


def _finite_or_infinite(value: float) -> float:
    """Return a number; an integer too large for a float becomes infinite, as `1e999` in JSON."""
    try:
        float(value)
    except OverflowError:
        return math.copysign(math.inf, value > 0 or -1)
    return value
