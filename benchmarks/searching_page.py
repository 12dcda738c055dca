"""What `benchmarks.searching` writes of its results: a table in docs/searching.md, and a figure."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import results_page
from benchmarks.results_page import where_measured, with_results, write_figure
from benchmarks.searching_protocol import SEARCHES, Part, Searched, parts
from src.comparing.comparison import statistic
from src.comparing.search_figure import best_over_minutes, best_over_trials
from src.drawing.style import FAINT, NEGATIVE_COLOR, POSITIVE_COLOR, new_figure
from src.experiment.status import Status
from src.searching.director import said

PAGE = "searching.md"
FIGURE = "search-study.png"

_COLORS = {"grid": FAINT, "random": NEGATIVE_COLOR, "tpe": POSITIVE_COLOR}

Curve = Sequence[tuple[float, float]]
"""(minutes, best value so far), a step function that holds from each point on."""


def best_at(curve: Curve, minutes: float) -> float | None:
    """Return the best value after so many minutes; None before the first."""
    place = bisect_right(curve, minutes, key=lambda point: point[0])
    return curve[place - 1][1] if place else None


def mean_of(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Return the mean of step functions, from where all have a value to where the first ends."""
    if not curves or not all(curves):
        return []
    begin, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    places = sorted({place for curve in curves for place, _ in curve if begin <= place <= end})
    values = [[best_at(curve, place) for curve in curves] for place in places]
    return [
        (place, sum(one for one in of_place if one is not None) / len(curves))
        for place, of_place in zip(places, values, strict=True)
    ]


def write_page(folder: Path, found: Sequence[Searched]) -> None:
    """Write the page and, if there are results, the figure.

    The page is that of `docs`, with other results in their place.
    """
    if found:
        write_figure(lambda: figure_of(found), folder / FIGURE)
    results_page.write_page(folder / PAGE, lambda page: page_of(page, found))


def page_of(page: str, found: Sequence[Searched]) -> str:
    """Return the page with the results, and what is not run yet, between its two marks."""
    return with_results(page, "search-study", [*_results(found), *_left(found)])


def _results(found: Sequence[Searched]) -> list[str]:
    """Return the paragraphs with the figure and the table."""
    if not found:
        return []
    return [
        f"![The best value of each search over time, and over trainings]({FIGURE})",
        _table(found),
        f"(Recorded on: {where_measured(found)}; `make search-study`.)",
    ]


def _table(found: Sequence[Searched]) -> str:
    """Return the table in Markdown: each search's seeds, then their mean."""
    minutes = found[0].minutes
    times = [minutes / 4, minutes / 2, minutes]
    header = ["search", "seed", "trainings", "of them pruned"]
    header += [f"best after {time:g} min" for time in times]
    lines = [[*header, "params of the best"]]
    lines.append(["---"] * len(lines[0]))
    for search in SEARCHES:
        own = sorted((one for one in found if one.search == search), key=lambda one: one.seed)
        for one in own:
            values = [best_at(best_over_minutes(one.record), time) for time in times]
            lines.append([search, str(one.seed), *_counts(one), *map(_shown, values), _best(one)])
        if len(own) > 1:
            lines.append([f"**{search}**", "mean", "", "", *(_mean(own, time) for time in times)])
            lines[-1].append("")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _counts(one: Searched) -> list[str]:
    """Return how many trainings have ended, and how many of them were pruned."""
    statuses = [trial.status for trial in one.record.trials if trial.status != Status.RUNNING]
    return [str(len(statuses)), str(statuses.count(Status.PRUNED))]


def _best(one: Searched) -> str:
    """Return the params of the best training that has ended within the time."""
    within = [
        (trial.value, -trial.number, trial)
        for trial in one.record.trials
        if trial.value is not None and (trial.seconds or 0.0) <= 60 * one.minutes
    ]
    return said(max(within)[2].values) if within else "-"


def _mean(own: Sequence[Searched], time: float) -> str:
    """Return the mean and the sample standard deviation of the best values after so long."""
    values = [best_at(best_over_minutes(one.record), time) for one in own]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    found = statistic(known)
    return f"{found.mean:.4f} ± {found.deviation:.4f}"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _left(found: Sequence[Searched]) -> list[str]:
    """Return which searches are not run yet."""
    done: set[Part] = {one.part for one in found}
    left = [f"{search} with seed {seed}" for search, seed in parts() if (search, seed) not in done]
    return [f"Not run yet: {', '.join(left)}."] if left else []


def figure_of(found: Sequence[Searched]) -> Figure:
    """Draw the best value over minutes, and over trainings, which another machine has as many of.

    A thin line is a search, a thick one the mean of the searches of a kind.
    """
    figure = new_figure(10, 4.5)
    over_minutes, over_trainings = figure.subplots(1, 2, sharey=True)
    for axes, curve_of in (
        (over_minutes, best_over_minutes),
        (over_trainings, best_over_trials),
    ):
        for search in SEARCHES:
            curves = [curve_of(one.record) for one in found if one.search == search]
            for curve in filter(None, curves):
                _draw(axes, curve, _COLORS[search], linewidth=1, alpha=0.5)
            if mean := mean_of(curves):
                _draw(axes, mean, _COLORS[search], linewidth=2.5, label=f"{search}, mean")
    over_minutes.set(xlabel="minutes", ylabel="best MAP@R on validation so far")
    over_minutes.set_xlim(0, found[0].minutes)
    over_trainings.set_xlabel("trainings that have ended")
    over_trainings.set_xlim(left=0)
    if over_minutes.get_legend_handles_labels()[0]:
        over_minutes.legend(loc="lower right")
    return figure


def _draw(axes: Axes, curve: Curve, color: str, **options: Any) -> None:
    places, values = zip(*curve, strict=True)
    axes.step(places, values, where="post", color=color, **options)
