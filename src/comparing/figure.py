"""A figure that compares experiments: metrics against the margin, and curves over the steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.comparing.comparison import Comparison, Row
from src.comparing.formats import shown
from src.experiment.curves import Curve
from src.experiment.status import Status
from src.params.reading import format_value

CURVE_TAGS = ("loss", "fraction_positive", "recall_at_1_within", "map_at_r_within")
"""Summaries of the evaluations on the validation split whose `curves` are drawn."""

# If the largest margin is this many times the smallest, the axis is logarithmic.
_LOGARITHMIC_FROM = 4

# Smallest distance between labels of curves and of ticks, as shares of the axis. Closer labels
# would overlap.
_LABEL_HEIGHT = 0.04
_LABEL_WIDTH = 0.08


@dataclass
class _Series:
    """The rows that differ only in their margin: one line, in one colour."""

    name: str
    color: Any
    rows: list[Row] = field(default_factory=list)


def comparison_figure(
    comparison: Comparison,
    split: str,
    curves: Mapping[Path, Mapping[str, Curve]],
) -> Figure:
    """Draw metrics against the margin; below them, draw every run's curves over its steps.

    Args:
        comparison: the experiments. Those that differ only in their margin form one line.
        split: the split of recall@1 and MAP@R.
        curves: for each experiment's directory, its curves, by tag of `CURVE_TAGS`.

    Returns:
        The figure. Metrics that no experiment has are left out.
    """
    series = _series([row for row in comparison.rows if _is_drawn(row, curves)], comparison.params)
    against_margin = [
        ("fraction_positive", ["validation.fraction_positive", "train.fraction_positive"]),
        (f"recall@1, {split}", [f"{split}.recall_at_1"]),
        (f"MAP@R, {split}", [f"{split}.map_at_r_within"]),
    ]
    known = {path for row in comparison.rows for path in row.statistics}
    upper = [(title, paths) for title, paths in against_margin if known.intersection(paths)]
    lower = [tag for tag in CURVE_TAGS if any(tag in of_run for of_run in curves.values())]

    columns = max(len(upper), len(lower), 1)
    figure = Figure(figsize=(4.2 * columns, 3.4 * 2 + 0.6), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
    _draw_margins(_axes(above, columns, len(upper)), upper, series)
    _draw_curves(_axes(below, columns, len(lower)), lower, series, curves)
    handles = [Line2D([], [], color=s.color, marker="o", label=s.name) for s in series]
    if len(series) > 1:
        columns = min(4, len(series))
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)  # show a dollar sign as it is
    return figure


def _is_drawn(row: Row, curves: Mapping[Path, Mapping[str, Curve]]) -> bool:
    """Return whether a row has anything to draw."""
    has_params = row.results[0].params is not None and row.status != Status.BASELINE
    has_metrics = any("." in path for path in row.statistics)
    has_curves = any(curves.get(result.model_dir) for result in row.results)
    return has_params and (has_metrics or has_curves)


def _series(rows: Sequence[Row], params: Sequence[str]) -> list[_Series]:
    """Group the rows by all of their params except the margin."""
    found: dict[str, _Series] = {}
    for row in rows:
        name = ", ".join(_said(key, row.params[key]) for key in params if key != "margin")
        if name not in found:
            found[name] = _Series(name, colormaps["tab10"](len(found) % 10))
        found[name].rows.append(row)
    return list(found.values())


def _said(key: str, value: Any) -> str:
    """Return a param for a legend: text as it is, numbers and booleans with their key."""
    said = value if isinstance(value, str) else f"{key} {format_value(value)}"
    return shown(f" {said}" if said.startswith("_") else said)  # a legend omits `_name`


def _margin(row: Row) -> float | str:
    params = row.results[0].params
    assert params is not None  # `_is_drawn` removed rows without params
    return params.margin


def _positions(margins: Sequence[float | str]) -> dict[float | str, float]:
    """Return each margin's position on the axis; "soft", which is not a number, is at the right."""
    numbers = sorted({margin for margin in margins if not isinstance(margin, str)})
    is_wide = bool(numbers) and numbers[-1] >= _LOGARITHMIC_FROM * numbers[0]
    positions: dict[float | str, float] = {
        number: math.log(number) if is_wide else number for number in numbers
    }
    if "soft" in margins:
        low, high = min(positions.values(), default=0.0), max(positions.values(), default=0.0)
        positions["soft"] = high + (0.25 * (high - low) or 1.0)
    return positions


def _draw_margins(
    all_axes: Sequence[Axes],
    panels: Sequence[tuple[str, Sequence[str]]],
    series: Sequence[_Series],
) -> None:
    """Draw a panel for each title: its first metric solid, its second dashed."""
    with_metrics = [row for one in series for row in one.rows if row.statistics]
    positions = _positions([_margin(row) for row in with_metrics])
    some_hollow = any(row.status != Status.FINISHED for row in with_metrics)
    for axes, (title, paths) in zip(all_axes, panels, strict=True):
        for path, style in zip(paths, ("-", "--"), strict=False):
            for one in series:
                _draw_margin_line(axes, one, path, style, positions)
        axes.set_title(title)
        axes.set_xticks(list(positions.values()), _tick_names(positions))
        axes.set_xlabel("margin (hollow: not finished)" if some_hollow else "margin")
        if len(paths) > 1:
            styles = [("validation", "-"), ("train", "--")]
            axes.legend(
                handles=[Line2D([], [], color="gray", ls=ls, label=name) for name, ls in styles],
                frameon=False,
            )


def _tick_names(positions: Mapping[float | str, float]) -> list[str]:
    """Return the label of each margin's tick; empty if it would touch the previous label."""
    room = _LABEL_WIDTH * (max(positions.values()) - min(positions.values())) if positions else 0.0
    names: list[str] = []
    taken = -math.inf
    for margin, position in positions.items():
        names.append(format_value(margin) if position - taken >= room else "")
        taken = position if names[-1] else taken
    return names


def _draw_margin_line(
    axes: Axes, series: _Series, path: str, style: str, positions: Mapping[float | str, float]
) -> None:
    """Draw one metric of a series: a point at each margin, with its deviation over the seeds."""
    rows = [row for row in series.rows if path in row.statistics]
    rows.sort(key=lambda row: positions[_margin(row)])
    numbers = [row for row in rows if _margin(row) != "soft"]
    axes.plot(
        [positions[_margin(row)] for row in numbers],
        [row.statistics[path].mean for row in numbers],
        style,
        color=series.color,
    )
    for row in rows:
        found = row.statistics[path]
        axes.errorbar(
            positions[_margin(row)],
            found.mean,
            yerr=found.deviation or 0,
            color=series.color,
            marker="o",
            markerfacecolor=series.color if row.status == Status.FINISHED else "white",
            capsize=3,
        )


def _draw_curves(
    all_axes: Sequence[Axes],
    tags: Sequence[str],
    series: Sequence[_Series],
    curves: Mapping[Path, Mapping[str, Curve]],
) -> None:
    """Draw a panel for each tag: a line for each run, labelled with its margin if there is room."""
    for axes, tag in zip(all_axes, tags, strict=True):
        ends: list[tuple[float, int, str, Any]] = []
        for one in series:
            for row in one.rows:
                for result in row.results:
                    steps, values = curves.get(result.model_dir, {}).get(tag, ([], []))
                    axes.plot(steps, values, color=one.color, linewidth=1, alpha=0.8)
                    if steps and math.isfinite(values[-1]):
                        name = format_value(_margin(row))
                        ends.append((values[-1], steps[-1], name, one.color))
        low, high = axes.get_ylim()
        taken = -math.inf
        for value, step, name, color in sorted(ends, key=lambda end: end[0]):
            if value - taken >= _LABEL_HEIGHT * (high - low):
                axes.annotate(f" {name}", (step, value), color=color, fontsize=7, va="center")
                taken = value
        axes.set_title(f"{tag}, validation")
        axes.set_xlabel("step (each curve is labelled with its margin)")


def _axes(figure: Any, columns: int, count: int) -> list[Axes]:
    """Return `count` axes in a row of width `columns`."""
    all_axes: list[Axes] = list(figure.subplots(1, columns, squeeze=False)[0])
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    for axes in all_axes[count:]:
        axes.remove()
    return all_axes[:count]
