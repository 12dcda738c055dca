"""A figure that compares experiments: metrics against a param, and curves over the steps."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.comparing.comparison import Comparison, Row, Value
from src.comparing.formats import shown
from src.comparing.plot_notes import (
    Panel,
    axis_of,
    edges,
    ended_badly,
    is_number,
    told_apart,
    value_of,
    varying_curves,
)
from src.drawing.colors import TEN_COLORS
from src.experiment.curves import Curve
from src.experiment.status import Status
from src.params.reading import format_value, hashable

CURVE_TAGS = ("loss", "fraction_positive", "recall_at_1_within", "map_at_r_within")
"""Summaries of the evaluations on the validation split whose `curves` are drawn."""

# If the largest value is this many times the smallest, the axis is logarithmic.
_LOGARITHMIC_FROM = 4

# Smallest distance between labels of curves and of ticks, as shares of the axis. Closer labels
# would overlap.
_LABEL_HEIGHT = 0.04
_LABEL_WIDTH = 0.08

# Inches: width of a panel, and height of a row of panels and of a line of notes.
_WIDTH, _HEIGHT, _LINE = 4.2, 3.4, 0.22
_LETTERS = 11  # of the legend, in an inch


@dataclass
class _Series:
    """The rows that differ only in the param of the axis: one line, in one colour."""

    name: str
    color: Any
    rows: list[Row] = field(default_factory=list)


class Plot(NamedTuple):
    """A figure, and what it says in words: a line each."""

    figure: Figure
    notes: list[str]


def comparison_figure(
    comparison: Comparison,
    split: str,
    curves: Mapping[Path, Mapping[str, Curve]],
) -> Plot:
    """Draw metrics against a param; below them, draw every run's curves over its steps.

    The param is the margin, or the first other one that differs. Colours are those of the other
    params. If nothing else differs, the curves have the colours of the param itself.

    Args:
        comparison: the experiments. Those that differ only in this param form one line.
        split: the split of recall@1 and MAP@R.
        curves: for each experiment's directory, its curves, by tag of `CURVE_TAGS`.

    Returns:
        The figure and its notes. A metric that no experiment has, that is undefined, or that is the
        same everywhere has no panel.
    """
    key = axis_of(comparison)
    rows = [row for row in comparison.rows if _is_drawn(row, curves)]
    series = _series(rows, [name for name in comparison.params if name != key])
    known = {path for row in comparison.rows for path in row.statistics}
    panels = [
        Panel("fraction_positive", ["validation.fraction_positive", "train.fraction_positive"]),
        Panel(f"recall@1, {split}", [f"{split}.recall_at_1"], is_judged=True),
        Panel(f"MAP@R, {split}", [f"{split}.map_at_r_within"], is_judged=True),
    ]
    panels = [panel for panel in panels if known.intersection(panel.paths)]
    upper, notes = told_apart(panels, rows)
    lower, of_curves = varying_curves(CURVE_TAGS, curves)
    notes = [*edges(upper, rows, key), *notes, *of_curves, *ended_badly(comparison.rows)]
    colors = _colors_of_values(rows, key) if len(series) <= 1 else {}
    figure = _draw(key, series, upper, lower, curves, colors, notes)
    return Plot(figure, notes)


def _draw(
    key: str,
    series: Sequence[_Series],
    upper: Sequence[Panel],
    lower: Sequence[str],
    curves: Mapping[Path, Mapping[str, Curve]],
    colors: Mapping[Value, Any],
    notes: Sequence[str],
) -> Figure:
    """Return the figure: a row of panels for metrics, one for curves, the legend, the notes."""
    counts = [count for count in (len(upper), len(lower)) if count]
    width = _WIDTH * max([2, *counts])
    lines = [line for note in notes for line in textwrap.wrap(note, int(14 * width)) or [""]]
    height = _HEIGHT * max(1, len(counts)) + 0.6 + _LINE * len(lines)
    figure = Figure(figsize=(width, height), layout="constrained")
    handles = [Line2D([], [], color=s.color, marker="o", label=s.name) for s in series]
    if len(series) <= 1:
        handles = [
            Line2D([], [], color=color, marker="o", label=f"{key} {format_value(value)}")
            for value, color in colors.items()
            if len(colors) > 1
        ]
    if lines:
        text = figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=9)
        text.set_parse_math(False)
    if counts:
        parts = iter(figure.subfigures(len(counts), 1, squeeze=False)[:, 0])
        if upper:
            _draw_metrics(_axes(next(parts), len(upper)), upper, series, key, colors)
        if lower:
            _draw_curves(_axes(next(parts), len(lower)), lower, series, curves, key, colors)
    if handles:
        room = int(_LETTERS * width)
        wrapped = [_wrapped(str(one.get_label()), room) for one in handles]
        for one, parts_of in zip(handles, wrapped, strict=True):
            one.set_label("\n".join(parts_of))
        longest = max(len(line) for parts_of in wrapped for line in parts_of)
        columns = max(1, min(int(_LETTERS * width / (longest + 6)), len(handles)))
        legend = figure.legend(handles=handles, loc="outside upper center", ncols=columns)
        for label in legend.get_texts():
            label.set_parse_math(False)  # show a dollar sign as it is
    return figure


def _wrapped(label: str, room: int) -> list[str]:
    """Return the lines of a label of the legend, at most so many letters each."""
    return [label] if len(label) <= room else textwrap.wrap(label, room, subsequent_indent="  ")


def _is_drawn(row: Row, curves: Mapping[Path, Mapping[str, Curve]]) -> bool:
    """Return whether a row has anything to draw."""
    has_params = row.results[0].params is not None and row.status != Status.BASELINE
    has_metrics = any("." in path for path in row.statistics)
    has_curves = any(curves.get(result.model_dir) for result in row.results)
    return has_params and (has_metrics or has_curves)


def _series(rows: Sequence[Row], params: Sequence[str]) -> list[_Series]:
    """Group the rows by these params: all that differ, except that of the axis.

    If the only one is a number, the colours are a scale; otherwise nobody confuses the first ten.
    """
    found: dict[tuple[Any, ...], _Series] = {}
    for row in rows:
        own = [(key, row.params[key]) for key in params if key in row.params]
        group = tuple((key, hashable(value)) for key, value in own)
        if group not in found:
            name = ", ".join(_said(key, value) for key, value in own)
            found[group] = _Series(name, TEN_COLORS[len(found) % len(TEN_COLORS)])
        found[group].rows.append(row)
    series = list(found.values())
    if len(params) == 1 and all(is_number(row.params.get(params[0])) for row in rows):
        scale = _scale(len(series))
        series.sort(key=lambda one: float(one.rows[0].params[params[0]]))  # type: ignore[arg-type]
        for one, color in zip(series, scale, strict=True):
            one.color = color
    return series


def _colors_of_values(rows: Sequence[Row], key: str) -> dict[Value, Any]:
    """Return a colour for each value of the axis' param, numbers on a scale and in order."""
    values = list(dict.fromkeys(hashable(value_of(row, key)) for row in rows))
    numbers = sorted(value for value in values if is_number(value))
    others = [value for value in values if not is_number(value)]
    return dict(zip([*numbers, *others], _scale(len(values)), strict=True))


def _scale(count: int) -> list[Any]:
    """Return colours from dark to light, all of which can be seen on white."""
    return [colormaps["viridis"](0.85 * place / max(1, count - 1)) for place in range(count)]


def _said(key: str, value: Any) -> str:
    """Return a param for a legend: text as it is, numbers and booleans with their key."""
    said = value if isinstance(value, str) else f"{key} {format_value(value)}"
    return shown(f" {said}" if said.startswith("_") else said)  # a legend omits `_name`


def _positions(values: Sequence[Value]) -> dict[Any, float]:
    """Return each value's position on the axis; what is not a number is at the right."""
    found = [hashable(value) for value in values]
    numbers = sorted({value for value in found if is_number(value)})
    is_wide = bool(numbers) and numbers[0] > 0 and numbers[-1] >= _LOGARITHMIC_FROM * numbers[0]
    positions: dict[Any, float] = {
        number: math.log(number) if is_wide else float(number) for number in numbers
    }
    low, high = min(positions.values(), default=0.0), max(positions.values(), default=0.0)
    gap = (0.25 if numbers else 1.0) * (high - low) or 1.0
    others = [value for value in dict.fromkeys(found) if not is_number(value)]
    start = high if numbers else -gap
    positions |= {value: start + gap * (place + 1) for place, value in enumerate(others)}
    return positions


def _draw_metrics(
    all_axes: Sequence[Axes],
    panels: Sequence[Panel],
    series: Sequence[_Series],
    key: str,
    colors: Mapping[Value, Any],
) -> None:
    """Draw the panels: the first metric of each solid, its second dashed."""
    with_metrics = [row for one in series for row in one.rows if row.statistics]
    positions = _positions([value_of(row, key) for row in with_metrics])
    some_hollow = any(row.status != Status.FINISHED for row in with_metrics)
    for axes, panel in zip(all_axes, panels, strict=True):
        for path, style in zip(panel.paths, ("-", "--"), strict=False):
            for one in series:
                _draw_line(axes, one, path, style, positions, key, colors)
        axes.set_title(panel.title)
        axes.set_xticks(list(positions.values()), _tick_names(positions))
        for tick in axes.get_xticklabels():
            tick.set_parse_math(False)
        axes.set_xlabel(f"{key} (hollow: not finished)" if some_hollow else key)
        if len(panel.paths) > 1:
            styles = [("validation", "-"), ("train", "--")]
            axes.legend(
                handles=[Line2D([], [], color="gray", ls=ls, label=name) for name, ls in styles],
                frameon=False,
            )


def _tick_names(positions: Mapping[Any, float]) -> list[str]:
    """Return the label of each tick; empty if it would touch the previous label."""
    room = _LABEL_WIDTH * (max(positions.values()) - min(positions.values())) if positions else 0.0
    names: list[str] = []
    taken = -math.inf
    for value, position in positions.items():
        names.append(shown(format_value(value)) if position - taken >= room else "")
        taken = position if names[-1] else taken
    return names


def _draw_line(
    axes: Axes,
    series: _Series,
    path: str,
    style: str,
    positions: Mapping[Any, float],
    key: str,
    colors: Mapping[Value, Any],
) -> None:
    """Draw one metric of a series: a point at each value, with its deviation over the seeds."""

    def value(row: Row) -> Any:
        return hashable(value_of(row, key))

    rows = [row for row in series.rows if path in row.statistics]
    rows.sort(key=lambda row: positions[value(row)])
    numbers = [row for row in rows if is_number(value(row))]
    axes.plot(
        [positions[value(row)] for row in numbers],
        [row.statistics[path].mean for row in numbers],
        style,
        color="#9a9a9a" if colors else series.color,
    )
    for row in rows:
        found = row.statistics[path]
        color = colors.get(value(row), series.color)
        axes.errorbar(
            positions[value(row)],
            found.mean,
            yerr=found.deviation or 0,
            color=color,
            marker="o",
            markerfacecolor=color if row.status == Status.FINISHED else "white",
            capsize=3,
        )


def _draw_curves(
    all_axes: Sequence[Axes],
    tags: Sequence[str],
    series: Sequence[_Series],
    curves: Mapping[Path, Mapping[str, Curve]],
    key: str,
    colors: Mapping[Value, Any],
) -> None:
    """Draw a panel for each tag: a line for each run, labelled with its value if there is room."""
    for axes, tag in zip(all_axes, tags, strict=True):
        ends: list[tuple[float, int, str, Any]] = []
        for one in series:
            for row in one.rows:
                value = value_of(row, key)
                color = colors.get(hashable(value), one.color)
                for result in row.results:
                    steps, values = curves.get(result.model_dir, {}).get(tag, ([], []))
                    axes.plot(steps, values, color=color, linewidth=1, alpha=0.8)
                    if steps and math.isfinite(values[-1]):
                        ends.append((values[-1], steps[-1], shown(format_value(value)), color))
        low, high = axes.get_ylim()
        taken = -math.inf
        for height, step, name, color in sorted(ends, key=lambda end: end[0]):
            if height - taken >= _LABEL_HEIGHT * (high - low):
                label = axes.annotate(
                    f" {name}", (step, height), color=color, fontsize=7, va="center"
                )
                label.set_parse_math(False)
                taken = height
        axes.set_title(f"{tag}, validation")
        axes.set_xlabel(f"step (each curve is labelled with its {key})")


def _axes(figure: Any, count: int) -> list[Axes]:
    """Return `count` axes in a row, which they fill."""
    all_axes: list[Axes] = list(figure.subplots(1, count, squeeze=False)[0])
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    return all_axes
