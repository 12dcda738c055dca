"""What `benchmarks.reality` writes of its results: the page with its table, and the figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t

from benchmarks import results_page
from benchmarks.reality_protocol import (
    BASELINE,
    FINAL_SEEDS,
    PARTS,
    STRATEGIES,
    TASKS,
    Part,
    Row,
    complete,
)
from benchmarks.results_page import where_measured, with_results, write_figure
from src.comparing.comparison import statistic
from src.drawing.style import FAINT, INK, POSITIVE_COLOR, new_figure
from src.experiment.status import Status

PAGE = "reality-check.md"
FIGURE = "reality-check.png"

_COVERAGE = 0.95


class Interval(NamedTuple):
    """A mean with its interval of 95 % by Student's t.

    Attributes:
        mean: of the values.
        half: half of the interval's width; None for one value, which says nothing of the spread.
        n: the number of values.
    """

    mean: float
    half: float | None
    n: int


def interval(values: Sequence[float]) -> Interval | None:
    """Return the interval of one or more values; None if there is none.

    Of n values, half the width is t * s / sqrt(n), with s the sample standard deviation and t the
    quantile (1 + 0.95) / 2 of Student's distribution with n - 1 degrees of freedom.
    """
    if not values:
        return None
    found = statistic(values)
    if found.deviation is None:
        return Interval(found.mean, None, 1)
    quantile = float(t.ppf((1 + _COVERAGE) / 2, found.n - 1))
    return Interval(found.mean, quantile * found.deviation / math.sqrt(found.n), found.n)


def by_seed(rows: Sequence[Row], task: str, strategy: str) -> dict[int, float]:
    """Return MAP@R of a part's trainings that have one, by seed."""
    return {
        row.seed: row.map_at_r
        for row in rows
        if row.part == (task, strategy) and row.map_at_r is not None
    }


def against(values: Mapping[int, float], baseline: Mapping[int, float]) -> Interval | None:
    """Return the interval of the differences, seed by seed; None if no seed has both.

    Trainings of one seed have the same splits, and the same weights at first. What these do to both
    is not in the difference.
    """
    return interval([values[seed] - baseline[seed] for seed in values if seed in baseline])


def write_page(folder: Path, rows: Sequence[Row]) -> None:
    """Write the page and, if anything was measured, the figure.

    The page is that of `docs`, with other results in their place.
    """
    if rows:
        write_figure(lambda: figure_of(rows), folder / FIGURE)
    results_page.write_page(folder / PAGE, lambda page: page_of(page, rows))


def figure_of(rows: Sequence[Row]) -> Figure:
    """Draw a panel for each data set: each strategy's MAP@R with its interval, and every seed."""
    figure = new_figure(9.5, 6.4)
    for axes, task in zip(figure.subplots(2, 2, sharey=True).flat, TASKS, strict=True):
        _draw(axes, rows, task)
    for axes in figure.axes[::2]:
        axes.set_ylabel("triplet_strategy")
    return figure


def _draw(axes: Axes, rows: Sequence[Row], task: str) -> None:
    axes.set_title(TASKS[task].title)
    axes.set_xlabel(f"MAP@R within {TASKS[task].split}, with its 95 % interval")
    axes.set_yticks(range(len(STRATEGIES)), list(STRATEGIES))
    axes.set_ylim(len(STRATEGIES) - 0.5, -0.5)
    if not any(row.dataset == task for row in rows):
        axes.set_xticks([])
        axes.text(0.5, 0.5, "not run yet", transform=axes.transAxes, ha="center", color=FAINT)
        return
    for place, strategy in enumerate(STRATEGIES):
        values = list(by_seed(rows, task, strategy).values())
        found = interval(values)
        if found is None:
            continue
        axes.plot(values, [place] * len(values), "|", color=INK, markersize=9)
        axes.errorbar(
            found.mean, place, xerr=found.half or 0, fmt="o", color=POSITIVE_COLOR, capsize=3
        )


def page_of(page: str, rows: Sequence[Row]) -> str:
    """Return the page with the results, and what is not run yet, between its two marks."""
    done = complete(rows)
    return with_results(page, "reality-check", [*_results(rows, done), _left(done)])


def _results(rows: Sequence[Row], done: Sequence[Part]) -> list[str]:
    """Return the paragraphs with the figure and the table."""
    if not rows:
        return ["**Nothing has been measured yet.**"]
    hours = sum(row.seconds or 0 for row in rows) / 3600
    hours += sum({row.part: row.search_seconds for row in rows}.values()) / 3600
    budget = " or ".join(sorted({f"{row.trials} + {len(FINAL_SEEDS)}" for row in rows}))
    return [
        f"![MAP@R of each strategy on each data set]({FIGURE})",
        _table(rows),
        f"({where_measured(rows)}; `make reality-check`; {len(done)} of {len(PARTS)} parts, each "
        f"of {budget} trainings, {hours:.1f} hours.)",
    ]


def _table(rows: Sequence[Row]) -> str:
    """Return the table in Markdown: for each data set its baselines, then its strategies."""
    header = ["data set", "strategy", "MAP@R", "of seeds", f"against `{BASELINE}`"]
    lines = [[*header, "recall@1", "found by the search"]]
    lines.append(["---"] * len(lines[0]))
    for task, of_task in TASKS.items():
        here = [row for row in rows if row.dataset == task]
        title = of_task.title
        for what, values in (
            ("raw pixels", [row.raw_pixels for row in here]),
            ("untrained", [row.untrained for row in here]),
        ):
            known = [value for value in dict.fromkeys(values) if value is not None]
            if known:
                mean = statistic(known).mean
                lines.append([title, f"*{what}*", f"{mean:.4f}", "", "", "", ""])
        for strategy in STRATEGIES:
            own = sorted((r for r in here if r.strategy == strategy), key=lambda row: row.seed)
            if own:
                lines.append([title, f"`{strategy}`", *_cells(own, rows)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(own: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """Return what the table says of a part, given its rows by seed, and all rows."""
    task, strategy = own[0].part
    values = by_seed(rows, task, strategy)
    differences = against(values, by_seed(rows, task, BASELINE))
    recalls = [row.recall_at_1 for row in own if row.recall_at_1 is not None]
    found = ", ".join(
        f"{key.removeprefix(f'{strategy}_')} {value:.3g}" for key, value in own[0].found.items()
    )
    return [
        _shown(interval(list(values.values()))),
        ", ".join(map(_seed_shown, own)),
        "" if strategy == BASELINE else _shown(differences, sign="+"),
        f"{statistic(recalls).mean:.4f}" if recalls else "-",
        found,
    ]


def _seed_shown(row: Row) -> str:
    value = "" if row.map_at_r is None else f"{row.map_at_r:.4f}"
    return value if row.status == Status.FINISHED else f"{value} {row.status}".strip()


def _shown(found: Interval | None, sign: str = "") -> str:
    """Return an interval as text; the number of seeds if some have no value."""
    if found is None:
        return "-"
    half = "" if found.half is None else f" ± {found.half:.4f}"
    fewer = f" ({found.n} of {len(FINAL_SEEDS)})" if found.n < len(FINAL_SEEDS) else ""
    return f"{found.mean:{sign}.4f}{half}{fewer}"


def _left(done: Sequence[Part]) -> str:
    """Return which parts are not run yet."""
    lines = []
    for task, of_task in TASKS.items():
        left = [one for name, one in PARTS if name == task and (name, one) not in done]
        if left:
            names = "all strategies" if len(left) == len(STRATEGIES) else ", ".join(left)
            lines.append(f"- {of_task.title} (`{task}`): {names}")
    return "\n".join(["Not run yet:", "", *lines]) if lines else "All parts have been run."
