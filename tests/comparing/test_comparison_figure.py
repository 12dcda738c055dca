"""The picture of a comparison: what is drawn where."""

import math
from pathlib import Path

import pytest

from src.comparing.comparison import compare
from src.comparing.figure import comparison_figure
from src.comparing.results import Result
from src.experiment.status import Status
from src.params.schema import Params


def result(name, status="finished", fraction=None, recall=None, **params):
    metrics = {}
    if fraction is not None:
        metrics = {
            "validation.fraction_positive": fraction,
            "train.fraction_positive": fraction / 2,
        }
    if recall is not None:
        metrics["validation.recall_at_1"] = recall
    return Result(Path("experiments") / name, status, Params(**params), metrics)


def panels(figure):
    """Title -> axes."""
    return {axes.get_title(): axes for axes in figure.get_axes()}


def lines(axes):
    """The points of each line of more than one point."""
    drawn = [line.get_xydata().tolist() for line in axes.get_lines()]
    return [points for points in drawn if len(points) > 1]


def ticks(axes):
    return {
        label.get_text(): position
        for label, position in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
    }


def test_metrics_against_the_margin_a_line_for_each_strategy():
    results = [
        result("a", fraction=0.5, recall=0.9, margin=1.0),
        result("b", fraction=0.25, recall=0.8, margin=2.0),
        result("c", fraction=0.125, recall=0.7, margin=2.0, triplet_strategy="batch_hard"),
        result("d", fraction=0.0625, recall=0.6, margin=1.0, triplet_strategy="batch_hard"),
    ]
    figure = comparison_figure(compare(results), "validation", {})
    axes = panels(figure)
    assert set(axes) == {"fraction_positive", "recall@1, validation"}  # nobody has MAP@R
    assert lines(axes["recall@1, validation"]) == [
        [[1.0, 0.9], [2.0, 0.8]],
        [[1.0, 0.6], [2.0, 0.7]],
    ]
    assert lines(axes["fraction_positive"])[::2] == [  # validation, then train, dashed
        [[1.0, 0.5], [2.0, 0.25]],
        [[1.0, 0.25], [2.0, 0.125]],
    ]
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["batch_all", "batch_hard"]


def test_the_deviation_over_seeds():
    results = [
        result(f"seed_{seed}", recall=recall, margin=1.0, seed=seed)
        for seed, recall in enumerate([0.25, 0.75])
    ] + [result("b", recall=0.5, margin=2.0)]
    axes = panels(comparison_figure(compare(results), "validation", {}))["recall@1, validation"]
    assert lines(axes) == [[[1.0, 0.5], [2.0, 0.5]]]
    segments = [bars.get_segments()[0].tolist() for bars in axes.collections]
    deviation = math.sqrt(0.125)
    assert segments[0] == [
        [1.0, pytest.approx(0.5 - deviation)],
        [1.0, pytest.approx(0.5 + deviation)],
    ]
    assert segments[1] == [[2.0, 0.5], [2.0, 0.5]]


def test_names_in_the_legend_are_no_formulas_and_none_is_left_out():
    names = ["_hidden", "$\\frac{1}$", "a$b\x1b", "x" * 200]
    results = [
        result(str(i), recall=0.5, margin=1.0, dataset="image_folder", image_size=8, image_dir=name)
        for i, name in enumerate(names)
    ]
    figure = comparison_figure(compare(results), "validation", {})
    figure.draw_without_rendering()
    [legend] = figure.legends
    shown = sorted(text.get_text().strip() for text in legend.get_texts())
    assert shown == sorted(["_hidden", "$\\frac{1}$", "a$b\\x1b", "x" * 77 + "..."])


def test_wide_ranges_are_logarithmic_and_soft_stands_apart():
    results = [
        result(str(margin), recall=0.5, margin=margin, triplet_strategy="batch_hard")
        for margin in (0.1, 1.0, 10.0, "soft")
    ]
    axes = panels(comparison_figure(compare(results), "validation", {}))["recall@1, validation"]
    positions = ticks(axes)
    assert list(positions) == ["0.1", "1", "10", "soft"]
    assert positions["1"] - positions["0.1"] == pytest.approx(positions["10"] - positions["1"])
    assert positions["soft"] > positions["10"]
    [line] = lines(axes)
    assert len(line) == 3  # no line leads from a number to "soft"
    assert any(positions["soft"] in one.get_xdata() for one in axes.get_lines())


def test_ticks_that_would_touch_have_no_name():
    results = [result(str(m), recall=0.5, margin=m) for m in (1.0, 1.01, 1.5, 2.0)]
    axes = panels(comparison_figure(compare(results), "validation", {}))["recall@1, validation"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "", "1.5", "2"]


def test_a_collapsed_run_is_hollow_and_one_without_metrics_is_nowhere():
    results = [
        result("a", recall=0.5, margin=1.0),
        result("b", "collapsed", recall=0.25, margin=2.0),
        result("c", "diverged", margin=3.0),
        Result(Path("experiments/d"), Status.DAMAGED, None, {}),
    ]
    axes = panels(comparison_figure(compare(results), "validation", {}))["recall@1, validation"]
    assert list(ticks(axes)) == ["1", "2"]
    faces = [bar.lines[0].get_markerfacecolor() for bar in axes.containers]
    assert faces[1] == "white" and faces[0] != "white"
    assert "hollow" in axes.get_xlabel()


def test_curves_of_every_run_with_their_margin():
    results = [
        result("a_0", recall=0.5, margin=1.0),
        result("a_1", recall=0.5, margin=1.0, seed=1),
        result("b", "running?", margin=3.0),
        result("no_curves", recall=0.5, margin=5.0),
    ]
    curves = {
        Path("experiments/a_0"): {"loss": ([1, 2], [0.5, 0.25])},
        Path("experiments/a_1"): {"loss": ([1, 2], [0.5, 0.26])},
        Path("experiments/b"): {"loss": ([1, 2, 3], [0.9, 0.8, 0.7]), "other": ([1], [1.0])},
    }
    figure = comparison_figure(compare(results), "validation", curves)
    axes = panels(figure)["loss, validation"]
    assert [line[-1] for line in lines(axes)] == [[2, 0.25], [2, 0.26], [3, 0.7]]
    assert sorted(text.get_text().strip() for text in axes.texts) == ["1", "3"]  # once for a_*
    assert not [title for title in panels(figure) if "other" in title]


def test_nothing_to_draw():
    assert (
        comparison_figure(compare([result("a", "not trained")]), "validation", {}).get_axes() == []
    )


def test_baselines_are_no_points():
    metrics = {"test.recall_at_1": 0.9, "baselines.raw_pixels.test.recall_at_1": 0.5}
    results = [
        Result(Path(name), "finished", Params(margin=margin), metrics)
        for name, margin in (("a", 1.0), ("b", 2.0))
    ]
    comparison = compare(results, split="test", baselines=True)
    axes = panels(comparison_figure(comparison, "test", {}))["recall@1, test"]
    assert lines(axes) == [[[1.0, 0.9], [2.0, 0.9]]]
