"""A sweep: experiments that differ from a parent, and from each other, only in the swept params.

Each is a child directory of the parent, named after the swept values, with its own `params.json`.
`train.py`, `visualize.py` and `compare.py` treat it as any other experiment.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from src.data.holdout import hold_out
from src.data.loading import load_data
from src.data.pretrained_weights import find_weights
from src.errors import START_OVER, UserError
from src.experiment.data_record import DataRecord, changes, read_record, record_of
from src.experiment.experiment import Experiment
from src.experiment.facts import check_facts, check_training, check_without_data
from src.experiment.status import Status
from src.experiment.warm_start import find_source
from src.params.kinds import Role
from src.params.reading import check_params, format_value, load_params, read_json_object
from src.params.schema import Params, keys_read_by, keys_with
from src.printable import printable
from src.sweeping.content import one_deeper, with_values
from src.system.atomic import atomic_write

MAX_CHILDREN = 10_000
_MAX_NAME_BYTES = 255  # of a directory name, on common file systems
_MAX_ERRORS = 20  # the most that are printed

# The keys that determine what `load_data` loads and whether it succeeds. `seed` determines the
# splits.
DATA_KEYS = keys_read_by("dataset") | keys_with(Role.FINDS_DATA)
# The keys that determine whether the data can be trained on.
FACT_KEYS = keys_with(Role.CHECKS_DATA)


@dataclass(frozen=True)
class Child:
    """One experiment of a sweep.

    Attributes:
        experiment: its directory.
        values: the contents of its `params.json`.
        params: the same values, validated, with defaults filled in.
    """

    experiment: Experiment
    values: Mapping[str, Any]
    params: Params

    @property
    def name(self) -> str:
        """The name of its directory: `margin_0.5-triplet_strategy_batch_all`."""
        return self.experiment.model_dir.name

    @property
    def status(self) -> Status:
        """`finished`, `diverged` or `collapsed` if it does not run again; otherwise `to run`."""
        if self.experiment.is_finished(self.params):
            return Status.FINISHED
        status = (self.experiment.metrics() or {}).get("status")
        has_ended = status in (Status.DIVERGED, Status.COLLAPSED)
        return Status(status) if has_ended else Status.TO_RUN


def plan(
    parent_dir: Path,
    swept: Mapping[str, Sequence[Any]],
    num_seeds: int | None = None,
) -> list[Child]:
    """Return the experiments of a sweep: every combination of the values. Write nothing.

    Args:
        parent_dir: the directory with the `params.json` that they are based on.
        swept: the values of each swept key.
        num_seeds: the number of seeds, counting up from the parent's; None for only the parent's
            seed.

    Raises:
        UserError: the params of the parent or of any child have errors (one line each), or there
            would be more than MAX_CHILDREN children.
    """
    parent_path = Experiment(parent_dir).params_path
    parent = read_json_object(parent_path)
    seed = check_params(parent, parent_path).seed
    _check_size(swept, num_seeds)
    if num_seeds is not None:
        swept = {**swept, "seed": range(seed, seed + num_seeds)}
    parent = one_deeper(parent)
    children: dict[str, Child] = {}
    errors: list[tuple[str, str]] = []
    for values in itertools.product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        name = "-".join(f"{key}_{_name(value)}" for key, value in chosen.items())
        if name in children:
            raise UserError(
                f"{parent_dir / name}: found two combinations of values for this name; accepted: "
                "values that differ in letters and digits"
            )
        try:
            content = with_values(parent, chosen)
            params = check_params(content, Path("params.json"))  # which does not exist yet
        except UserError as error:
            lines = str(error).split("\n")
            errors += [(name, line.removeprefix("params.json: ")) for line in lines]
            continue
        if (length := len(os.fsencode(name))) > _MAX_NAME_BYTES:
            raise UserError(
                f"{parent_dir / name[:40]}...: found a name of {length} bytes; accepted: at most "
                f"{_MAX_NAME_BYTES}; sweep fewer keys at once, or shorter values"
            )
        children[name] = Child(Experiment(parent_dir / name), content, params)
    if errors:
        raise UserError(_one_line_each(errors))
    return _distinct(children)


def _distinct(children: Mapping[str, Child]) -> list[Child]:
    """Return the children; refuse values that are written in two ways, but mean the same."""
    names: dict[str, str] = {}
    for name, child in children.items():
        first = names.setdefault(child.params.model_dump_json(), name)
        if first != name:
            raise UserError(
                f"{child.experiment.model_dir}: found the params of {first} under another name; "
                "accepted: values of which no two mean the same"
            )
    return list(children.values())


def under_other_names(children: list[Child], parent_dir: Path) -> list[Child]:
    """Return the children, in the directories where their params have been trained already.

    A key that is added to a sweep changes all names. What was trained with its default value, or by
    a search, need not be trained again.
    """
    missing = {child.name for child in children if not child.experiment.model_dir.exists()}
    if not missing:
        return children
    names = {child.name for child in children}
    trained: dict[str, Experiment] = {}
    for metrics_path in sorted(parent_dir.glob("*/metrics.json")):
        if metrics_path.parent.name not in names:
            with suppress(UserError):  # damaged, or renamed to what no experiment can be
                params = load_params(metrics_path.with_name("params.json"))
                trained.setdefault(params.model_dump_json(), Experiment(metrics_path.parent))
    return [
        replace(child, experiment=trained[key])
        if child.name in missing and (key := child.params.model_dump_json()) in trained
        else child
        for child in children
    ]


def _check_size(swept: Mapping[str, Sequence[Any]], num_seeds: int | None) -> None:
    """Raise `UserError` if there is nothing to sweep, or too much, or seeds are given twice."""
    if num_seeds is not None and "seed" in swept:
        raise UserError("--seeds: found --param seed as well; accepted: one of them")
    if not swept and num_seeds is None:
        raise UserError("found nothing to sweep; accepted: --param KEY=VALUE,... or --seeds N")
    count = math.prod(map(len, swept.values())) * (num_seeds or 1)
    if count > MAX_CHILDREN:
        found = f"{count:,}" if count < 10**15 else "more than 10^15"
        raise UserError(
            f"found {found} combinations of values and seeds; accepted: at most {MAX_CHILDREN:,} "
            "in a sweep"
        )


def check_unchanged(children: Iterable[Child]) -> None:
    """Raise `UserError` if a child's directory holds an experiment with other params.

    Raises:
        UserError: the parent or a child was changed since; one line for each key and value.
    """
    errors: list[tuple[str, str]] = []
    for child in children:
        path = child.experiment.params_path
        if not path.exists():
            continue
        made = load_params(path)
        errors += [
            (
                child.name,
                f"{key}: found {_json(child.params, key)}, but {_json(made, key)} in its "
                "params.json; accepted: the value in its params.json, or another --parent_dir"
                + START_OVER,
            )
            for key in child.params.differences(made)
        ]
    if errors:
        raise UserError(_one_line_each(errors))
    for child in children:
        child.experiment.check_resumable(child.params)


def check_data(
    children: Sequence[Child], data_dir: Path, *, afresh: bool, keeps_splits: bool
) -> None:
    """Check all files that trainings read: datasets, whether they suit the params, and weights.

    Data that several children share are loaded only once.

    Args:
        children: the experiments to train, or already trained.
        data_dir: the folder of all datasets.
        afresh: whether earlier training of the children is discarded.
        keeps_splits: whether to accept data that have changed since training began.

    Raises:
        UserError: data are missing, wrong, do not match a child's params, or have changed since its
            training began; one line for each.
    """
    errors: list[tuple[str, str]] = []
    for group in tqdm(
        _grouped(children, DATA_KEYS), desc="checking the data", disable=None, leave=False
    ):
        try:
            data = load_data(
                group[0].params, data_dir, params_path=Path(group[0].name), to_train=True
            )
        except UserError as error:
            errors += _of_children(group, error)
            continue
        if not (afresh or keeps_splits):
            errors += _changed(group, record_of(data))
        for alike in _grouped(group, FACT_KEYS):
            params, source = alike[0].params, Path(alike[0].name)
            try:
                if afresh or any(one.status == Status.TO_RUN for one in alike):
                    check_without_data(params, source)
                splits = hold_out(data.splits, params, source)
                check_facts(params, splits, source)
                check_training(params, splits, source, data.extra_data)
            except UserError as error:
                errors += _of_children(alike, error)
    for group in _grouped(children, {"weights"}):
        try:
            find_weights(group[0].params.weights, data_dir)
        except UserError as error:
            errors += [(child.name, str(error)) for child in group]
    errors += _of_sources(children, afresh=afresh)
    if errors:
        raise UserError(_one_line_each(errors))


def _of_sources(children: Sequence[Child], *, afresh: bool) -> list[tuple[str, str]]:
    """Return what is wrong with `init_from` of each child that does not resume, which needs it."""
    errors = []
    for child in children:
        if child.params.init_from is None:
            continue
        if not afresh and child.experiment.latest_step() is not None:
            continue
        try:
            find_source(child.params.init_from, child.experiment)
        except UserError as error:
            errors.append((child.name, str(error)))
    return errors


def _of_children(children: Sequence[Child], error: UserError) -> list[tuple[str, str]]:
    """Return each line of an error for each child; the error names only the first child."""
    lines = [line.removeprefix(f"{children[0].name}: ") for line in str(error).split("\n")]
    return [(child.name, line) for line in lines for child in children]


def _changed(children: Sequence[Child], now: DataRecord) -> list[tuple[str, str]]:
    """Return what has changed in the data of the children that have trained."""
    errors = []
    for child in children:
        if child.experiment.latest_step() is None:
            continue
        before = read_record(child.experiment.data_record_path)
        if before is not None and (found := changes(before, now)):
            line = (
                f"the data have changed since training began: {found}; accepted: the data used "
                f"for training; to resume, use --keep_splits{START_OVER}"
            )
            errors.append((child.name, line))
    return errors


def _grouped(children: Iterable[Child], keys: Collection[str]) -> list[list[Child]]:
    """Group the children whose params have the same values of `keys`."""
    groups: dict[str, list[Child]] = {}
    for child in children:
        by_seed = {"seed"} if isinstance(child.params.holdout_classes, float) else set()
        values = child.params.model_dump(include={*keys, *by_seed})  # a share is drawn
        groups.setdefault(json.dumps(values, sort_keys=True), []).append(child)
    return list(groups.values())


def write_params(child: Child) -> None:
    """Write a child's `params.json`, unless it already exists with the same contents."""
    content = json.dumps(child.values, indent=2).encode() + b"\n"
    path = child.experiment.params_path
    if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
        with atomic_write(path) as file:
            file.write(content)


def _name(value: Any) -> str:
    """Return a value as part of a directory's name.

    It has no character that is special in a shell or in a URL of TensorBoard.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", format_value(value).replace("e+", "e")).strip("_")


def _json(params: Params, key: str) -> str:
    return printable(json.dumps(params.model_dump()[key], ensure_ascii=False))


def _one_line_each(errors: Sequence[tuple[str, str]]) -> str:
    """Return `child: message` once for every message: one bad value occurs in many children."""
    names: dict[str, list[str]] = {}
    for name, message in errors:
        names.setdefault(message, []).append(name)
    lines = [
        f"{printable(found[0])}: {message}"
        + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
        for message, found in itertools.islice(names.items(), _MAX_ERRORS)
    ]
    if len(names) > _MAX_ERRORS:
        lines.append(f"... and {len(names) - _MAX_ERRORS} more errors")
    return "\n".join(lines)
