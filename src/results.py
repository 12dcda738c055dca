"""What experiments have come to, read from their files: params, status, metrics.

Nothing is left out: an experiment that is not trained, or whose files are damaged, is a result too.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment import Experiment
from src.lock import has_writer
from src.params import Params, load_params

# A status is that of `metrics.json`, or one of these. Of a training of another machine the files
# cannot tell whether it goes on or was killed: `running?`.
NOT_TRAINED = "not trained"
PARENT = "parent"
DAMAGED = "damaged"
COLLAPSED = "collapsed"
RUNNING = "running"
PERHAPS_RUNNING = "running?"
FAILED = "failed"


@dataclass(frozen=True)
class Result:
    """One experiment.

    Attributes:
        model_dir: its directory.
        status: `finished`, `diverged`, ... as in `metrics.json`; `not trained`, `parent`,
            `running`, `running?`, `failed` or `damaged`; `collapsed` also where the training
            went on to its end.
        params: those that its metrics belong to; None where they cannot be read.
        metrics: every number of `metrics.json` by its path: `train.loss`, `seconds`. Empty unless
            a training has come to an end: while one goes on, those of an earlier end are not its.
        notes: what a reader should know besides, a line each.
    """

    model_dir: Path
    status: str
    params: Params | None
    metrics: Mapping[str, float]
    notes: tuple[str, ...] = ()


def read_results(directories: Iterable[Path]) -> list[Result]:
    """Read every experiment at or below `directories`, each once, in the order of their paths.

    An experiment without a training of its own and with others below it is what `sweep.py` made
    those from: its status is `parent`.

    Raises:
        UserError: a directory does not exist, or holds no experiment.
    """
    paths: dict[Path, Path] = {}
    for top in directories:
        if not top.is_dir():
            raise UserError(f"{top}: found no directory; accepted: one with experiments")
        below = _find_experiments(top)
        if not below:
            raise UserError(
                f"{top}: found no params.json; accepted: an experiment, or a directory with "
                "experiments below it"
            )
        for path in below:
            paths.setdefault(path.resolve(), path)
    results = []
    for resolved, path in sorted(paths.items()):
        result = read_result(path)
        num_children = sum(resolved in other.parents for other in paths)
        if result.status == NOT_TRAINED and num_children:
            note = f"{path}: not trained itself; {num_children} experiments are below it"
            result = replace(result, status=PARENT, notes=(note,))
        results.append(result)
    return results


def read_result(model_dir: Path) -> Result:
    """Read the files of one experiment; damaged ones become a status and a note."""
    try:
        experiment = Experiment(model_dir)
        params = load_params(experiment.params_path)
        content = experiment.metrics()
        trained = params
        if content is not None and experiment.trained_params_path.exists():
            trained = load_params(experiment.trained_params_path)
    except UserError as error:
        return Result(model_dir, DAMAGED, None, {}, tuple(str(error).split("\n")))
    except OSError as error:
        note = f"{error.filename}: {error.strerror}"
        return Result(model_dir, DAMAGED, None, {}, (note,))
    if content is None:
        return Result(model_dir, NOT_TRAINED, params, {})

    notes = [
        f"{experiment.params_path}: {key} is {getattr(params, key)!r} now; this was trained with "
        f"{getattr(trained, key)!r}"
        for key in Params.model_fields
        if getattr(params, key) != getattr(trained, key)
    ]
    status = str(content["status"])
    splits = content.pop("splits", {})
    if status == "running":
        writes = has_writer(model_dir)
        status = {True: RUNNING, False: FAILED, None: PERHAPS_RUNNING}[writes]
        notes.append(_last_write(experiment, status))
        return Result(model_dir, status, trained, {}, tuple(notes))
    if status == "finished" and content.get("collapsed"):
        status = COLLAPSED
    metrics = _numbers(content) | _numbers(splits)
    return Result(model_dir, status, trained, metrics, tuple(notes))


def _find_experiments(top: Path) -> list[Path]:
    """Return the directories with a `params.json` at or below `top`, hidden ones left out."""
    found = []
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if "params.json" in files:
            found.append(Path(folder))
    return found


def _last_write(experiment: Experiment, status: str) -> str:
    """Return the note of a training that has not come to an end."""
    latest = 0.0
    for path in experiment.model_dir.iterdir():
        with suppress(FileNotFoundError):  # a training renames its temporary files meanwhile
            latest = max(latest, path.stat().st_mtime)
    progress = experiment.progress() or {}
    at = f", at step {progress['step']} of {progress['max_steps']}" if "step" in progress else ""
    state = {
        RUNNING: "training",
        PERHAPS_RUNNING: "training on another machine, or interrupted",
        FAILED: "the training has died; train.py goes on where it was",
    }[status]
    return f"{experiment.model_dir}: {state}: last wrote {_duration(time.time() - latest)} ago{at}"


def _duration(seconds: float) -> str:
    """Return a time in the unit that suits it: `12 s`, `3 min`, `5 h`, `2 days`."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return every number in nested objects by its dotted path."""
    numbers: dict[str, float] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            numbers |= _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[f"{prefix}{key}"] = value
    return numbers
