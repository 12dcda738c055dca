"""Many experiments as one table: the params in which they differ, and what they have reached.

Experiments that differ in their `seed` alone are one row, of means and sample standard deviations.
"""

import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from src.comparing.results import NOTES_ALONE, Result
from src.errors import UserError
from src.experiment.status import Status
from src.params.metric_names import AGAINST_GALLERY, LOWER_IS_BETTER, WITHIN
from src.params.schema import Params, Role, keys_with
from src.printable import printable
from src.registry import did_you_mean

# Margins are chosen on it; `test` is for the end.
DEFAULT_SPLIT = "validation"


@dataclass(frozen=True)
class Metric:
    """A metric that a column can show.

    Attributes:
        key: its name in `metrics.json`.
        split: the split it is of; "" for the one that the user chooses, None for the experiment.
        decimals: how many are shown; None for four significant digits.
        higher_is_better: the direction of sorting; where neither end is the good one, False.
        shown: whether it is a column without being asked for.
    """

    key: str
    split: str | None
    decimals: int | None
    higher_is_better: bool
    shown: bool = False


_SHOWN = (
    Metric("fraction_positive", "train", 5, False, shown=True),
    Metric("fraction_positive", "validation", 5, False, shown=True),
    Metric("fraction_positive_at_reference", "", 5, False, shown=True),
    Metric("loss", "train", 4, False, shown=True),
    Metric("loss", "validation", 4, False, shown=True),
    Metric("map_at_r_within", "", 4, True, shown=True),
    Metric("recall_at_1_within", "", 4, True, shown=True),
    Metric("recall_at_1", "", 4, True, shown=True),
    Metric("embedding_mean_norm", "", 3, False, shown=True),
    Metric("seconds", None, 0, False, shown=True),
    Metric("images_per_second", None, 0, True, shown=True),
)
# Every metric whose column needs more than a name. Others of metrics.json can be asked for too.
METRICS = (
    *_SHOWN,
    *(
        Metric(name, "", 4, name not in LOWER_IS_BETTER)
        for name in dict.fromkeys((*WITHIN, *AGAINST_GALLERY))
        if name not in {metric.key for metric in _SHOWN}
    ),
    Metric("global_step", None, 0, False),
    Metric("num_examples", "", 0, False),
)
# What else metrics.json has numbers of.
_NOT_SPLITS = {"baselines", "best"}
_OTHERS = Metric("", "", None, False)

WITHOUT_EFFECT = keys_with(Role.WITHOUT_EFFECT)
"""Keys without a column, here or in TensorBoard's tab HPARAMS, and without a row."""

Value = str | int | float | bool | None | list[Any]


@dataclass(frozen=True)
class Column:
    """A metric of a split.

    Attributes:
        path: where it stands in `Result.metrics`: `train.loss`, `seconds`.
        metric: how it is shown and sorted.
    """

    path: str
    metric: Metric


@dataclass(frozen=True)
class Statistic:
    """A metric over the experiments of a row that have it.

    Attributes:
        mean: NaN or infinite where one of the values is.
        deviation: the sample standard deviation; None for a single value.
        n: how many values.
    """

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """One experiment, or several that differ in their seed alone.

    Attributes:
        name: the directory, without what all rows have in common; for several, what their names
            have in common, with `*` for the rest.
        results: the experiments.
        status: theirs: `finished`, or how many of each, `2 finished, 1 diverged`.
        params: those of `Comparison.params`, nested keys dotted; empty where they are damaged.
        statistics: every metric that there is, by its path.
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
        directory: the one that all experiments are in, without which rows are named.
        params: the keys in which the experiments differ, in the order of `Params`.
        columns: the metrics.
        rows: in order.
        notes: what a reader should know besides, a line each.
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
    """Put experiments in a table.

    Args:
        results: one or more of them.
        split: what a metric is of that is named without a split.
        columns: names of metrics, `recall_at_1` or `test.recall_at_1`; empty for the usual ones.
        sort: a column: `experiment`, `status`, `n`, a param or a metric. Metrics of which more is
            better come with the highest first, all else with the lowest; where there is no value,
            or it is not a number, the row comes last. None for the order of the params.
        reverse: sort the other way round.
        baselines: add a row for each of a row's baselines below it.

    Raises:
        UserError: a column or split that there is not.
    """
    notes = tuple(note for result in results for note in result.notes)
    results = [result for result in results if result.status not in NOTES_ALONE]
    flat = [flat_params(result.params) if result.params else None for result in results]
    known = {path for result in results for path in result.metrics}
    _check_split(split, known)
    if columns:
        shown = [_column(name, split, known) for name in columns]
    else:
        shown = [_column(_path(m, split), split, known) for m in METRICS if m.shown]
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
    """Return mean and sample standard deviation of one or more values."""
    n = len(values)
    if not all(map(math.isfinite, values)):
        return Statistic(sum(values) / n, math.nan if n > 1 else None, n)
    mean = math.fsum(values) / n
    if n == 1:
        return Statistic(mean, None, 1)
    return Statistic(mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)), n)


def _path(metric: Metric, split: str) -> str:
    """Return where a metric stands in `Result.metrics`, of `split` where it has no other."""
    return metric.key if metric.split is None else f"{metric.split or split}.{metric.key}"


def _column(name: str, split: str, known: Iterable[str], others: Iterable[str] = ()) -> Column:
    """Return the column of the metric `name`; `others` are columns that could be meant as well."""
    ours = {_path(metric, split): metric for metric in METRICS}
    paths = ours.keys() | set(known)
    for path in (name, f"{split}.{name}"):
        if path in paths:
            key = path.rpartition(".")[2]
            usual = next((metric for metric in METRICS if metric.key == key), _OTHERS)
            return Column(path, ours.get(path, usual))
    keys = {path.rpartition(".")[2] for path in paths}
    accepted = printable(", ".join(sorted(keys.union(others))))
    raise UserError(
        f"column {name!r}: found no such column"
        f"{printable(did_you_mean(name, [*keys, *paths, *others]))}; "
        f"accepted: {accepted}; of another split: train.loss, ..."
    )


def _check_split(split: str, known: Iterable[str]) -> None:
    """Refuse a split that no experiment has been evaluated on."""
    splits = {path.split(".")[0] for path in known if "." in path} - _NOT_SPLITS | {DEFAULT_SPLIT}
    if split not in splits:
        raise UserError(
            f"--split: found {split!r}{printable(did_you_mean(split, splits))}; accepted: "
            + printable(", ".join(sorted(splits)))
        )


def flat_params(params: Params) -> dict[str, Value]:
    """Return the params that have an effect on what is learned, those of nested objects dotted."""
    without = WITHOUT_EFFECT
    if params.dataset == "image_folder":  # where the size is a choice, not a fact
        without = without - {"image_size"}
    flat: dict[str, Value] = {}
    for key, value in params.model_dump(exclude=set(without)).items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": of_inner for inner, of_inner in value.items()}
        else:
            flat[key] = value
    return flat


def _differing_params(flat: Iterable[Mapping[str, Value] | None]) -> tuple[str, ...]:
    """Return the keys, other than `seed`, whose values are not the same in all experiments."""
    all_params = [params for params in flat if params is not None]
    keys = dict.fromkeys(key for params in all_params for key in params)
    return tuple(
        key
        for key in keys
        if key != "seed" and any(params.get(key) != all_params[0].get(key) for params in all_params)
    )


@dataclass
class _Group:
    """Experiments that differ in their seed alone, each seed once.

    Attributes:
        params: their params, flat; None where they are damaged.
        results: the experiments.
        seeds: theirs.
    """

    params: Mapping[str, Value] | None
    results: list[Result] = field(default_factory=list)
    seeds: set[Value] = field(default_factory=set)


def _groups(results: Sequence[Result], flat: Sequence[Mapping[str, Value] | None]) -> list[_Group]:
    """Group the experiments that differ in their seed alone.

    Two of the same seed are no two samples: the second starts a row of its own, which its
    neighbours in the same directory join rather than the first.
    """
    groups: list[_Group] = []
    numbers: dict[Hashable, int] = {}  # of what has the same params but for the seed
    begun: dict[Hashable, list[_Group]] = defaultdict(list)  # such groups; those of a directory
    first: dict[Hashable, int] = defaultdict(int)  # of these, the first that lacks a seed
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
                first[place, seed] += 1  # a group that has a seed keeps it
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
    """Return what is equal for the same params but for the seed."""
    return tuple(
        (key, tuple(value) if isinstance(value, list) else value)
        for key, value in params.items()
        if key != "seed"
    )


def _row(group: _Group, directory: Path, params: Sequence[str]) -> Row:
    """Return the row of a group."""
    results = group.results
    names = [os.path.relpath(result.model_dir, directory) for result in results]
    statuses = Counter(result.status for result in results)
    flat = group.params or {}
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
        params={key: flat[key] for key in params if key in flat},
        statistics={path: statistic(found) for path, found in values.items()},
    )


def _baselines(row: Row) -> list[Row]:
    """Return a row for each baseline of a row's experiments: what they have to be better than."""
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
    """Return the directory that all of them are in."""
    parents = [path.parent for path in model_dirs]
    if len({path.is_absolute() for path in parents}) > 1:
        parents = [path.absolute() for path in parents]
    return Path(os.path.commonpath(parents))


def _common_name(names: Sequence[str]) -> str:
    """Return what names have in common at both ends, with `*` between them."""
    if len(names) == 1:
        return names[0]
    start = os.path.commonprefix(names)
    ends = [name[len(start) :][::-1] for name in names]
    return f"{start}*{os.path.commonprefix(ends)[::-1]}"


def _natural(name: str) -> list[Any]:
    """Return the key of an order in which `margin_3` comes before `margin_10`."""
    pieces = re.split(r"(\d+(?:\.\d+)?)", name)
    return [float(piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def _order(value: Any) -> tuple[int, Any]:
    """Return the key of an order of a param's values: null, numbers, text, lists."""
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    return (2, str(value))


def _order_of_params(row: Row, params: Sequence[str]) -> list[tuple[int, Any]]:
    """Return the key of the order by the params, left to right; damaged ones come last."""
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
    """Return the rows sorted by a column, those without a value last; ties stay in their order."""
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
        column = _column(by, split, known, ("experiment", "status", "n", *Params.model_fields))
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
