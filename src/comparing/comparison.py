"""A table that compares experiments: the params in which they differ, and their metrics.

Experiments that differ only in `seed` share one row of means and sample standard deviations.
"""

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src.comparing.columns import (
    DEFAULT_SPLIT,
    METRICS,
    Column,
    check_split,
    column_of,
    path_of,
)
from src.comparing.results import NOTES_ALONE, Result
from src.errors import UserError
from src.experiment.status import Status
from src.params.kinds import Role
from src.params.reading import hashable
from src.params.schema import Params, keys_with
from src.registry import PICTURE_DATASETS

WITHOUT_EFFECT = keys_with(Role.WITHOUT_EFFECT)
"""Keys that do not affect learning. They get no column here or in TensorBoard's HPARAMS tab, and
experiments that differ only in them share a row."""

Value = str | int | float | bool | None | list[Any]


@dataclass(frozen=True)
class Statistic:
    """Mean and deviation of a metric over the experiments of a row that have it.

    Attributes:
        mean: NaN or infinite if one of the values is.
        deviation: the sample standard deviation; None for a single value.
        n: the number of values.
    """

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One experiment, or several that differ only in their seed.

    Attributes:
        name: the directory, without the part that all rows share. For several experiments, the
            common start and end of their names, with `*` between them.
        results: the experiments.
        status: their status: `finished`; if they differ, a count of each: `2 finished, 1 diverged`.
        params: the values of `Comparison.params`, nested keys dotted, without those that these
            experiments do not read; empty if the params are damaged.
        statistics: every metric of these experiments, by its path.
    """

    name: str
    results: tuple[Result, ...]
    status: str
    params: Mapping[str, Value]
    statistics: Mapping[str, Statistic]


@dataclass(frozen=True)
class Comparison:
    """The table.

    Attributes:
        directory: the directory that contains all experiments; row names leave it out.
        params: the keys in which the experiments differ, in the order of `Params`.
        columns: the metrics.
        rows: the rows, in order.
        notes: further remarks for the reader, one line each.
    """

    directory: Path
    params: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def compare(
    results: Sequence[Result],
    *,
    split: str = DEFAULT_SPLIT,
    columns: Sequence[str] = (),
    sort: str | None = None,
    reverse: bool = False,
    baselines: bool = False,
) -> Comparison:
    """Return the table that compares experiments.

    Args:
        results: of experiments.
        split: the split of every metric that is named without one.
        columns: names of metrics, `recall_at_1` or `test.recall_at_1`; empty for the default
            columns.
        sort: a column: `experiment`, `status`, `n`, a param or a metric. Metrics for which higher
            is better are sorted from highest to lowest, all else from lowest to highest. Rows whose
            value is missing or not a number come last. None to sort by the params.
        reverse: reverse the order.
        baselines: add a row below each row for each of its baselines.

    Raises:
        UserError: a column or split does not exist, or there is no experiment.
    """
    # Long: what it takes is much.
    notes = tuple(note for result in results for note in result.notes)
    results = [result for result in results if result.status not in NOTES_ALONE]
    if not results:
        raise UserError("\n".join([*notes, "found no experiment; accepted: one or more"]))
    flat = [flat_params(result.params) if result.params else None for result in results]
    known = {path for result in results for path in result.metrics}
    check_split(split, known)
    shown = [column_of(name, split, known) for name in columns] or [
        column_of(path_of(m, split), split, known)
        for m in METRICS
        if m.shown and (not m.if_measured or path_of(m, split) in known)
    ]
    directory = _common_directory([result.model_dir for result in results])
    params = _differing_params(flat)

    rows = [_row(group, directory, params) for group in _groups(results, flat)]
    rows.sort(key=lambda row: (_order_of_params(row, params), _natural(row.name)))
    if sort is not None:
        rows = _sorted(rows, sort, split, reverse=reverse, params=params, known=known)
    elif reverse:
        rows.reverse()
    if baselines:
        rows = [line for row in rows for line in (row, *_baselines(row))]
    return Comparison(directory, params, tuple(shown), tuple(rows), notes)


def statistic(values: Sequence[float]) -> Statistic:
    """Return the mean and sample standard deviation of one or more values."""
    n = len(values)
    if not all(abs(value) < 1e150 for value in values):  # their squares may not be finite
        return Statistic(sum(values) / n, math.nan if n > 1 else None, n)
    mean = math.fsum(values) / n
    if n == 1:
        return Statistic(mean, None, 1)
    return Statistic(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)), n)


def flat_params(params: Params) -> dict[str, Value]:
    """Return the params that affect what is learned; keys of nested objects are dotted.

    An entry of `extra_data` is an object of the keys that are set.
    """
    without = WITHOUT_EFFECT
    if params.dataset in PICTURE_DATASETS:  # here the size is a choice
        without = without - {"image_size"}
    flat: dict[str, Value] = {}
    for key, value in params.model_dump(exclude=set(without)).items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": of_inner for inner, of_inner in value.items()}
        elif key == "extra_data":
            flat[key] = [
                entry.model_dump(exclude_defaults=True, exclude=set(without))
                for entry in params.extra_data
            ]
        else:
            flat[key] = value
    return flat


def _differing_params(flat: Iterable[Mapping[str, Value] | None]) -> tuple[str, ...]:
    """Return the keys, except `seed`, whose values differ between experiments."""
    all_params = [params for params in flat if params is not None]
    keys = dict.fromkeys(key for params in all_params for key in params)
    return tuple(
        key
        for key in keys
        if key != "seed" and any(params.get(key) != all_params[0].get(key) for params in all_params)
    )


@dataclass
class _Group:
    """Experiments that differ only in their seed; each seed occurs once.

    Attributes:
        params: their params, flat; None if they are damaged.
        results: the experiments.
        seeds: their seeds.
    """

    params: Mapping[str, Value] | None
    results: list[Result] = field(default_factory=list)
    seeds: set[Value] = field(default_factory=set)


def _groups(results: Sequence[Result], flat: Sequence[Mapping[str, Value] | None]) -> list[_Group]:
    """Group the experiments that differ only in their seed.

    Two runs with the same seed are not two samples, so the second starts a row of its own.
    Experiments in the same directory as the second join its row first.
    """
    groups: list[_Group] = []
    numbers: dict[Hashable, int] = {}  # one for each set of params, ignoring the seed
    begun: dict[Hashable, list[_Group]] = defaultdict(list)  # all; by directory
    first: dict[Hashable, int] = defaultdict(int)  # index of the first group without this seed
    for result, params in zip(results, flat, strict=True):
        if params is None:
            groups.append(_Group(None, [result]))
            continue
        seed = params["seed"]
        number = numbers.setdefault(_identity(params), len(numbers))
        places = ((number, result.model_dir.parent), (number, None))
        for place in places:
            there = begun[place]
            while first[place, seed] < len(there) and seed in there[first[place, seed]].seeds:
                first[place, seed] += 1  # a group never loses a seed
            if first[place, seed] < len(there):
                group = there[first[place, seed]]
                break
        else:
            group = _Group(params)
            groups.append(group)
            for place in places:
                begun[place].append(group)
        group.results.append(result)
        group.seeds.add(seed)
    return groups


def _identity(params: Mapping[str, Value]) -> Hashable:
    """Return a key that is equal for equal params, ignoring the seed."""
    return tuple((key, hashable(value)) for key, value in params.items() if key != "seed")


def _row(group: _Group, directory: Path, params: Sequence[str]) -> Row:
    """Return the row of a group."""
    results = group.results
    names = [os.path.relpath(result.model_dir, directory) for result in results]
    statuses = Counter(result.status for result in results)
    flat = group.params or {}
    unread = results[0].params.unread_keys if results[0].params else frozenset()
    values: dict[str, list[float]] = defaultdict(list)
    for result in results:
        for path, value in result.metrics.items():
            values[path].append(value)
    return Row(
        name=_common_name(names),
        results=tuple(results),
        status=", ".join(f"{count} {status}" for status, count in statuses.items())
        if len(statuses) > 1
        else results[0].status,
        params={key: flat[key] for key in params if key in flat and key not in unread},
        statistics={path: statistic(found) for path, found in values.items()},
    )


def _baselines(row: Row) -> list[Row]:
    """Return a row for each baseline of a row's experiments; these should beat it."""
    found: dict[str, dict[str, Statistic]] = {}
    for path, value in row.statistics.items():
        kind, _, of_kind = path.partition(".")
        name, _, metric = of_kind.partition(".")
        if kind == "baselines" and metric:
            found.setdefault(name, {})[metric] = value
    return [
        replace(row, name=f"{row.name}: {name}", status=Status.BASELINE, statistics=statistics)
        for name, statistics in sorted(found.items())
    ]


def _common_directory(model_dirs: Sequence[Path]) -> Path:
    """Return the directory that contains all of them."""
    parents = [path.parent for path in model_dirs]
    if len({path.is_absolute() for path in parents}) > 1:
        parents = [path.absolute() for path in parents]
    return Path(os.path.commonpath(parents))


def _common_name(names: Sequence[str]) -> str:
    """Return the common start and end of the names, with `*` between them."""
    if len(names) == 1:
        return names[0]
    start = os.path.commonprefix(names)
    ends = [name[len(start) :][::-1] for name in names]
    return f"{start}*{os.path.commonprefix(ends)[::-1]}"


def _natural(name: str) -> list[Any]:
    """Return a sort key that puts `margin_3` before `margin_10`."""
    pieces = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def _order(value: Any) -> tuple[int, Any]:
    """Return a sort key for a param's values: null, then numbers, then text and lists."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    return (2, str(value))


def _order_of_params(row: Row, params: Sequence[str]) -> list[tuple[int, Any]]:
    """Return a sort key by the params, left to right; damaged params come last."""
    return [_order(row.params[key]) if key in row.params else (3, 0) for key in params]


def _sorted(
    rows: Sequence[Row],
    by: str,
    split: str,
    *,
    reverse: bool,
    params: Sequence[str],
    known: Iterable[str],
) -> list[Row]:
    """Return the rows sorted by a column, rows without a value last; ties keep their order."""
    keys: list[Any]
    if by == "experiment":
        keys = [_natural(row.name) for row in rows]
    elif by == "status":
        keys = [row.status for row in rows]
    elif by == "n":
        keys = [len(row.results) for row in rows]
    elif by in params:
        keys = [_order(row.params[by]) if by in row.params else None for row in rows]
    elif by in Params.model_fields:
        keys = [None] * len(rows)  # the same in all of them
    else:
        column = column_of(by, split, known, ("experiment", "status", "n", *Params.model_fields))
        means = [
            row.statistics[column.path].mean if column.path in row.statistics else math.nan
            for row in rows
        ]
        keys = [None if math.isnan(mean) else mean for mean in means]
        reverse ^= column.metric.higher_is_better
    with_key = [(key, row) for key, row in zip(keys, rows, strict=True) if key is not None]
    with_key.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in with_key] + [
        row for key, row in zip(keys, rows, strict=True) if key is None
    ]
