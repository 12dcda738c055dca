"""A figure of searches: the best value over trials and time, and what each param does to it."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from src.comparing.formats import shown
from src.experiment.status import Status
from src.params.reading import format_value
from src.searching.record import KeyRange, SearchRecord, TrialRecord

_COLUMNS = 3
_MOST = 1e300  # matplotlib adds room to what is drawn
_MAX_LABEL = 24  # characters of a choice below its axis
_MAX_LINE = 42  # as many stand side by side, with those between choices
_MAX_SLANTED = 10  # choices


def search_figure(searches: Mapping[Path, SearchRecord]) -> Figure:
    """Draw searches, each in one colour.

    The panels: the best value after so many trials, and after so many minutes; each searched key
    against the metric, on a logarithmic axis if its range is one, with pruned, failed and running
    trainings as marks at the bottom; and the importance of each key, if it is known.

    Args:
        searches: the records by their directories, one or more.
    """
    keys = list(dict.fromkeys(key for one in searches.values() for key in one.space))
    measured = [path for path, one in searches.items() if one.importances]
    num_panels = 2 + len(keys) + bool(measured)
    rows = -(-num_panels // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 3.3 * rows + 0.6), layout="constrained")
    panels = list(figure.subplots(rows, _COLUMNS, squeeze=False).flat)
    for axes in panels[num_panels:]:
        axes.remove()
    names = _names(searches)
    colors = {path: colormaps["tab10"](n % 10) for n, path in enumerate(searches)}
    metrics = list(dict.fromkeys(one.metric for one in searches.values()))
    for path, one in searches.items():
        _draw_best(panels[0], best_over_trials(one), colors[path])
        _draw_best(panels[1], best_over_minutes(one), colors[path])
    panels[0].set(title="best so far, over trials", xlabel="trials that have ended")
    panels[1].set(title="best so far, over time", xlabel="minutes")
    panels[0].xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    panels[1].xaxis.set_major_locator(MaxNLocator(nbins=5))
    for key, axes in zip(keys, panels[2:], strict=False):
        _draw_key(axes, key, searches, colors)
    trials = [trial for one in searches.values() for trial in one.trials]
    for n, axes in enumerate(panels[: 2 + len(keys)]):
        axes.set_ylabel(" / ".join(metrics))
        if all(t.value is None for t in trials if n < 2 or keys[n - 2] in t.values):
            axes.set_yticks([])  # numbers would be of nothing
            if n < 2:
                axes.set_xticks([])
            axes.text(0.5, 0.5, "nothing has finished", transform=axes.transAxes, ha="center")
    if measured:
        _draw_importances(panels[num_panels - 1], keys, searches, measured, colors)
    if len(searches) > 1:
        handles = [Line2D([], [], color=colors[path], label=names[path]) for path in searches]
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=4)
        for text in legend.get_texts():
            text.set_parse_math(False)  # show a dollar sign as it is
    return figure


def best_over_trials(record: SearchRecord) -> list[tuple[float, float]]:
    """Return (number of trials that have ended, best value), in the order in which they ended.

    Trials before the first value are left out.
    """
    points = []
    for count, trial in enumerate(_ended(record.trials), start=1):
        points.append((float(count), trial.value))
    return _best(points, record)


def best_over_minutes(record: SearchRecord) -> list[tuple[float, float]]:
    """Return (minutes that the search had run, best value), and its state now."""
    points = [((trial.seconds or 0.0) / 60, trial.value) for trial in _ended(record.trials)]
    best = _best(points, record)
    return [*best, (max(record.seconds / 60, best[-1][0]), best[-1][1])] if best else []


def _ended(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    ended = [one for one in trials if one.seconds is not None and one.status != Status.RUNNING]
    return sorted(ended, key=lambda one: (one.seconds or 0.0, one.number))


def _best(
    points: Iterable[tuple[float, float | None]], record: SearchRecord
) -> list[tuple[float, float]]:
    best = None
    found = []
    for place, value in points:
        if value is not None:
            choose = max if record.is_higher_better else min
            best = value if best is None else choose(best, value)
        if best is not None:
            found.append((place, best))
    return found


def _draw_best(axes: Axes, points: Sequence[tuple[float, float]], color: Any) -> None:
    """Draw a line, and a dot at its begin: after one trial there is nothing else."""
    if points:
        places, values = zip(*points, strict=True)
        axes.step(places, values, "o-", where="post", color=color, markevery=[0], markersize=4)


def _draw_key(
    axes: Axes, key: str, searches: Mapping[Path, SearchRecord], colors: Mapping[Path, Any]
) -> None:
    """Draw a key's values against the metric; choices stand side by side."""
    spaces = [one.space[key] for one in searches.values() if key in one.space]
    is_choice = _is_choice(spaces)
    places = _places(spaces)
    for path, one in searches.items():
        known = [
            (t, _place(t.values[key], places if is_choice else None))
            for t in one.trials
            if key in t.values  # null is a value
        ]
        finished = [(t, x) for t, x in known if x is not None and t.value is not None]
        others = [(t, x) for t, x in known if x is not None and t.value is None]
        for trials, mark in ((finished, "o"), (others, "x")):
            x = [place for _, place in trials]
            y = [0.02 if t.value is None else t.value for t, _ in trials]
            transform = axes.transData if mark == "o" else axes.get_xaxis_transform()
            axes.plot(x, y, mark, color=colors[path], alpha=0.7, transform=transform)
    if is_choice:
        labels = [_label(name) for name in places]
        axes.set_xticks(list(places.values()), labels)
        if sum(len(label) + 3 for label in labels) > _MAX_LINE:
            axes.tick_params("x", labelrotation=90 if len(labels) > _MAX_SLANTED else 30)
            for label in axes.get_xticklabels():
                label.set(ha="right", va="top", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(places) - 0.5)
    elif any(space.is_log for space in spaces):
        axes.set_xscale("log")
    has_others = any(
        t.value is None and key in t.values for one in searches.values() for t in one.trials
    )
    axes.set_xlabel(f"{shown(key)}{' (x: not finished)' if has_others else ''}")
    axes.set_title(shown(key))
    for text in (axes.title, axes.xaxis.label, *(axes.get_xticklabels() if is_choice else ())):
        text.set_parse_math(False)


def _is_choice(spaces: Sequence[KeyRange]) -> bool:
    """Return whether an axis has names, not numbers: no search has a range, or some name none."""
    values = [value for space in spaces for value in space.choices]
    return all(space.low is None for space in spaces) or not all(map(_is_number, values))


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < _MOST


def _place(value: Any, places: Mapping[str, int] | None) -> float | None:
    """Return where a value is on its axis, by `places` if that has names; None if nowhere."""
    if places is not None:
        return places.get(format_value(value))
    return float(value) if _is_number(value) else None


def _places(spaces: Iterable[KeyRange]) -> dict[str, int]:
    """Return the place of each choice on its axis."""
    names = dict.fromkeys(format_value(value) for space in spaces for value in space.choices)
    return {name: place for place, name in enumerate(names)}


def _label(name: str) -> str:
    """Return a choice's name for its tick, shortened."""
    return shown(name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 3]}...")


def _draw_importances(
    axes: Axes,
    keys: Sequence[str],
    searches: Mapping[Path, SearchRecord],
    measured: Sequence[Path],
    colors: Mapping[Path, Any],
) -> None:
    """Draw the importance of each key as bars, one for each search."""
    height = 0.8 / len(measured)
    for n, path in enumerate(measured):
        importances = searches[path].importances or {}
        values = [importances.get(key, math.nan) for key in keys]
        offset = (n - (len(measured) - 1) / 2) * height
        axes.barh(np.arange(len(keys)) + offset, values, height, color=colors[path])
    axes.set_yticks(range(len(keys)), [shown(key) for key in keys])
    axes.set_ylim(len(keys) - 0.5, -0.5)  # the first above, and room for those without a number
    axes.set(title="importance (fANOVA)", xlabel="share of the variance")
    for text in axes.get_yticklabels():
        text.set_parse_math(False)


def _names(searches: Mapping[Path, SearchRecord]) -> dict[Path, str]:
    """Return what the legend calls each search: where it is below what holds all of them."""
    top = os.path.commonpath([path.absolute().parent for path in searches])
    names = {path: os.path.relpath(path.absolute(), top) for path in searches}
    # A legend leaves out what begins with an underscore.
    return {
        path: shown(f"{' ' * name.startswith('_')}{name} ({searches[path].search})")
        for path, name in names.items()
    }
