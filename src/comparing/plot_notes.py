"""What a plot of a comparison says in words: what it leaves out, and where to look further."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from src.comparing.comparison import Comparison, Row, Value
from src.comparing.formats import shown
from src.experiment.curves import Curve
from src.experiment.status import Status
from src.params.reading import format_value
from src.params.schema import Params
from src.printable import printable


class Panel(NamedTuple):
    """A panel with a metric against a param.

    Attributes:
        title: of the panel.
        paths: of the metrics, as in `Row.statistics`; the first is drawn solid, the second dashed.
        is_judged: whether a higher value is better, so that one of them is the best.
    """

    title: str
    paths: Sequence[str]
    is_judged: bool = False


def axis_of(comparison: Comparison) -> str:
    """Return the param along the axis: the margin, or else the first that differs, a number if any.

    Switches are not numbers.
    """
    if "margin" in comparison.params or not comparison.params:
        return "margin"
    for key in comparison.params:
        values = [row.params[key] for row in comparison.rows if key in row.params]
        if values and all(is_number(value) for value in values):
            return key
    return comparison.params[0]


def value_of(row: Row, key: str) -> Value:
    """Return a row's value of the param along the axis; "-" if its experiments do not read it."""
    if key in row.params:
        return row.params[key]
    params = row.results[0].params
    if params is not None and key in params.unread_keys:
        return "-"
    return getattr(params, key, None)


def is_number(value: Value) -> bool:
    """Return whether a param's value is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def told_apart(panels: Sequence[Panel], rows: Sequence[Row]) -> tuple[list[Panel], list[str]]:
    """Return the panels that tell experiments apart, and a note on each other one.

    A panel without a value is left out without a note if no experiment has its metric at all.
    """
    kept, notes = [], []
    for panel in panels:
        means = [row.statistics[p].mean for p in panel.paths for row in rows if p in row.statistics]
        finite = [mean for mean in means if math.isfinite(mean)]
        of_first = [
            row.statistics[panel.paths[0]].mean for row in rows if panel.paths[0] in row.statistics
        ]
        if not means:
            if any(row.statistics for row in rows):
                notes.append(f"{panel.title} is left out: it is undefined or was not measured")
        elif not finite:
            notes.append(f"{panel.title} is left out: it is nowhere a number")
        elif len(of_first) > 1 and len(set(finite)) == 1:
            notes.append(f"{panel.title} is left out: it is {finite[0]:.4g} everywhere")
        else:
            kept.append(panel)
    return kept, notes


def varying_curves(
    tags: Sequence[str], curves: Mapping[Path, Mapping[str, Curve]]
) -> tuple[list[str], list[str]]:
    """Return the tags whose curves are not all one constant, and a note on each other one."""
    kept, notes = [], []
    for tag in tags:
        values = [value for of_run in curves.values() for value in of_run.get(tag, ([], []))[1]]
        finite = {value for value in values if math.isfinite(value)}
        if not values:
            continue
        if not finite:
            notes.append(f"the curves of {tag} are left out: they are nowhere a number")
        elif len(finite) == 1 and len(values) > 1:
            notes.append(f"the curves of {tag} are left out: all are {finite.pop():.4g}")
        else:
            kept.append(tag)
    return kept, notes


def ended_badly(rows: Sequence[Row]) -> list[str]:
    """Return a note for each of the states diverged and collapsed that names the experiments."""
    notes = []
    for status in (Status.DIVERGED, Status.COLLAPSED):
        names = [
            result.model_dir.name
            for row in rows
            if row.status != Status.BASELINE
            for result in row.results
            if result.status == status
        ]
        if names:
            notes.append(f"{status}: {', '.join(map(_name, names))}")
    return notes


def edges(panels: Sequence[Panel], rows: Sequence[Row], key: str) -> list[str]:
    """Return a note for each metric whose best value is at the end of what was tried.

    It is the best over all rows; the ends are those of the numbers tried with its other params.
    """
    notes = []
    for panel in panels:
        path = panel.paths[0]
        found = [
            (row.statistics[path].mean, row)
            for row in rows
            if panel.is_judged
            and path in row.statistics
            and math.isfinite(row.statistics[path].mean)
            and row.status != Status.BASELINE
        ]
        if not found:
            continue
        top = max(mean for mean, _ in found)
        best = [row for mean, row in found if mean == top]
        values = [value_of(row, key) for row in best]
        if len(best) != 1 or not is_number(values[0]):
            continue
        alike = [row for _, row in found if _others(row, key) == _others(best[0], key)]
        tried = sorted({float(v) for row in alike if is_number(v := value_of(row, key))})  # type: ignore[arg-type]
        note = _beyond(float(values[0]), tried, key)  # type: ignore[arg-type]
        if note:
            notes.append(f"{panel.title}: the best {key} is {note}")
    return notes


def _others(row: Row, key: str) -> dict[str, Value]:
    return {name: value for name, value in row.params.items() if name != key}


def _beyond(best: float, tried: Sequence[float], key: str) -> str:
    """Return where to look further if the best is at an end of at least two numbers tried.

    The next number continues the last two as a geometric series. There is none beyond 0, nor one
    that the param does not accept.
    """
    if len(tried) < 2 or best not in (tried[0], tried[-1]) or min(tried) < 0:
        return ""
    at_start = best == tried[0]
    neighbor = tried[1] if at_start else tried[-2]
    if best == 0:
        return ""
    further = float(f"{2 * best if neighbor == 0 else best * (best / neighbor):.2g}")
    field = _field(key)
    if field is not None and int in (field.annotation, *get_args(field.annotation)):
        further = float(math.floor(further) if at_start else math.ceil(further))
    found = f"the {'smallest' if at_start else 'largest'} tried, {format_value(best)}"
    is_accepted = further != best and (field is None or _is_within(further, field.metadata))
    return f"{found}: try {format_value(further)}" if is_accepted else found


def _field(key: str) -> Any:
    """Return the field of a key of `params.json`, dotted if it is nested; None if there is none."""
    outer, _, inner = key.partition(".")
    field = Params.model_fields.get(outer)
    if field is None or not inner:
        return field
    return getattr(field.annotation, "model_fields", {}).get(inner)


def _is_within(number: float, bounds: Sequence[Any]) -> bool:
    """Return whether a number is within the bounds of a field, as pydantic keeps them."""
    return all(
        getattr(bound, "gt", -math.inf) < number < getattr(bound, "lt", math.inf)
        and getattr(bound, "ge", -math.inf) <= number <= getattr(bound, "le", math.inf)
        for bound in bounds
    )


def _name(name: str) -> str:
    return shown(printable(name))
