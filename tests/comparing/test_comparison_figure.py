"""The picture of a comparison: what is drawn where."""

import math
from pathlib import Path

import pytest

from src.comparing.comparison import compare
from src.comparing.figure import CURVE_TAGS, comparison_figure
from src.comparing.plot_notes import _beyond
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


def recalls_of(results):
    """The axes of recall@1."""
    return panels(comparison_figure(compare(results), "validation", {}).figure)[
        "recall@1, validation"
    ]


def lines(axes):
    """The points of each line of more than one point."""
    drawn = [line.get_xydata().tolist() for line in axes.get_lines()]
    return [points for points in drawn if len(points) > 1]


def ticks(axes):
    return {
        label.get_text(): position
        for label, position in zip(axes.get_xticklabels(), axes.get_xticks(), strict=True)
    }


def test_a_strategy_without_a_margin_is_beside_the_margins():
    similar = {"triplet_strategy": "multi_similarity", "distance": "cosine"}
    results = [
        result("a", fraction=0.5, recall=0.9, margin=1.0),
        result("b", fraction=0.25, recall=0.8, margin=2.0),
        result("c", fraction=0.125, recall=0.7, **similar),
        result("d", fraction=0.0625, recall=0.6, multi_similarity_alpha=3.0, **similar),
    ]
    axes = recalls_of(results)
    found = ticks(axes)
    assert set(found) == {"1", "2", "-"} and found["-"] > found["2"]


def test_metrics_against_the_margin_a_line_for_each_strategy():
    results = [
        result("a", fraction=0.5, recall=0.9, margin=1.0),
        result("b", fraction=0.25, recall=0.8, margin=2.0),
        result("c", fraction=0.125, recall=0.7, margin=2.0, triplet_strategy="batch_hard"),
        result("d", fraction=0.0625, recall=0.6, margin=1.0, triplet_strategy="batch_hard"),
    ]
    figure, notes = comparison_figure(compare(results), "validation", {})
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


def test_long_values_that_begin_alike_are_lines_of_their_own():
    names = [f"class_{n:03}" for n in range(20)]
    results = [
        result(f"{last}{margin}", recall=margin / 2, margin=margin, holdout_classes=[*names, last])
        for last in ("a", "b")
        for margin in (0.5, 1.0)
    ]
    assert lines(recalls_of(results)) == [[[0.5, 0.25], [1.0, 0.5]]] * 2


def test_the_deviation_over_seeds():
    results = [
        result(f"seed_{seed}", recall=recall, margin=1.0, seed=seed)
        for seed, recall in enumerate([0.25, 0.75])
    ] + [result("b", recall=0.625, margin=2.0)]
    axes = panels(comparison_figure(compare(results), "validation", {}).figure)[
        "recall@1, validation"
    ]
    assert lines(axes) == [[[1.0, 0.5], [2.0, 0.625]]]
    segments = [bars.get_segments()[0].tolist() for bars in axes.collections]
    deviation = math.sqrt(0.125)
    assert segments[0] == [
        [1.0, pytest.approx(0.5 - deviation)],
        [1.0, pytest.approx(0.5 + deviation)],
    ]
    assert segments[1] == [[2.0, 0.625], [2.0, 0.625]]


def test_names_in_the_legend_are_no_formulas_and_none_is_left_out():
    names = ["_hidden", "$\\frac{1}$", "a$b\x1b", "x" * 200]
    results = [
        result(
            f"{i} {margin}",
            recall=0.5 + i / 10,
            margin=margin,
            dataset="image_folder",
            image_size=8,
            image_dir=name,
        )
        for i, name in enumerate(names)
        for margin in (1.0, 2.0)
    ]
    figure, _ = comparison_figure(compare(results), "validation", {})
    figure.draw_without_rendering()
    [legend] = figure.legends
    shown = sorted(text.get_text().strip() for text in legend.get_texts())
    assert shown == sorted(["_hidden", "$\\frac{1}$", "a$b\\x1b", "x" * 77 + "..."])


def test_wide_ranges_are_logarithmic_and_soft_stands_apart():
    results = [
        result(str(margin), recall=recall, margin=margin, triplet_strategy="batch_hard")
        for recall, margin in ((0.5, 0.1), (0.6, 1.0), (0.5, 10.0), (0.4, "soft"))
    ]
    axes = panels(comparison_figure(compare(results), "validation", {}).figure)[
        "recall@1, validation"
    ]
    positions = ticks(axes)
    assert list(positions) == ["0.1", "1", "10", "soft"]
    assert positions["1"] - positions["0.1"] == pytest.approx(positions["10"] - positions["1"])
    assert positions["soft"] > positions["10"]
    [line] = lines(axes)
    assert len(line) == 3  # no line leads from a number to "soft"
    assert any(positions["soft"] in one.get_xdata() for one in axes.get_lines())


def test_ticks_that_would_touch_have_no_name():
    results = [result(str(m), recall=m / 3, margin=m) for m in (1.0, 1.01, 1.5, 2.0)]
    axes = panels(comparison_figure(compare(results), "validation", {}).figure)[
        "recall@1, validation"
    ]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "", "1.5", "2"]


def test_a_collapsed_run_is_hollow_and_one_without_metrics_is_nowhere():
    results = [
        result("a", recall=0.5, margin=1.0),
        result("b", "collapsed", recall=0.25, margin=2.0),
        result("c", "diverged", margin=3.0),
        Result(Path("experiments/d"), Status.DAMAGED, None, {}),
    ]
    axes = panels(comparison_figure(compare(results), "validation", {}).figure)[
        "recall@1, validation"
    ]
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
    figure, _ = comparison_figure(compare(results), "validation", curves)
    axes = panels(figure)["loss, validation"]
    assert [line[-1] for line in lines(axes)] == [[2, 0.25], [2, 0.26], [3, 0.7]]
    assert sorted(text.get_text().strip() for text in axes.texts) == ["1", "3"]  # once for a_*
    assert not [title for title in panels(figure) if "other" in title]


def test_nothing_to_draw():
    plot = comparison_figure(compare([result("a", "not trained")]), "validation", {})
    assert plot.figure.get_axes() == []
    assert plot.notes == []


def test_baselines_are_no_points():
    baseline = {"baselines.raw_pixels.test.recall_at_1": 0.95}
    results = [
        Result(
            Path(name), "finished", Params(margin=margin), {"test.recall_at_1": recall, **baseline}
        )
        for name, margin, recall in (("a", 1.0, 0.8), ("b", 2.0, 0.9))
    ]
    comparison = compare(results, split="test", baselines=True)
    axes = panels(comparison_figure(comparison, "test", {}).figure)["recall@1, test"]
    assert lines(axes) == [[[1.0, 0.8], [2.0, 0.9]]]


def judged(margins_and_recalls, **params):
    return [result(f"m{m}", recall=r, margin=m, **params) for m, r in margins_and_recalls]


def test_colours_are_of_what_varies():
    """Of the margin if nothing else does: in the panels above and in the curves below."""
    results = judged([(0.1, 0.5), (0.2, 0.6), (0.4, 0.5)])
    curves = {r.model_dir: {"loss": ([1, 2], [0.5, i])} for i, r in enumerate(results)}
    figure, _ = comparison_figure(compare(results), "validation", curves)
    axes = panels(figure)
    of_points = [bar.lines[0].get_color() for bar in axes["recall@1, validation"].containers]
    of_curves = [line.get_color() for line in axes["loss, validation"].get_lines()]
    assert of_points == of_curves and len(set(of_curves)) == 3
    [legend] = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["margin 0.1", "margin 0.2", "margin 0.4"]
    assert [handle.get_color() for handle in legend.get_lines()] == of_curves


@pytest.mark.parametrize(
    ("key", "values", "names"),
    [
        ("learning_rate", (1e-4, 1e-3), ["0.0001", "0.001"]),
        ("network", ("mlp", "naive_cnn"), ["mlp", "naive_cnn"]),
        ("l2_normalize", (False, True), ["false", "true"]),
        ("extra_data", ((), ({"dataset": "glyphs"},)), ["[]", '[{"dataset": "glyphs"}]']),
    ],
)
def test_another_param_is_along_the_axis_if_the_margin_is_the_same(key, values, names):
    results = [
        result(str(value), recall=recall, **{key: value})
        for value, recall in zip(values, (0.5, 0.75), strict=True)
    ]
    axes = panels(comparison_figure(compare(results), "validation", {}).figure)
    assert list(ticks(axes["recall@1, validation"])) == names
    assert axes["recall@1, validation"].get_xlabel() == key
    points = [bar.lines[0].get_ydata()[0] for bar in axes["recall@1, validation"].containers]
    assert points == [0.5, 0.75]


def test_every_cell_of_the_figure_has_a_panel():
    results = judged([(1.0, 0.5), (2.0, 0.6)])
    curves = {
        r.model_dir: {tag: ([1, 2], [0.5, i]) for tag in CURVE_TAGS} for i, r in enumerate(results)
    }
    figure, _ = comparison_figure(compare(results), "validation", curves)
    figure.draw_without_rendering()
    boxes = [
        axes.get_position().transformed(axes.get_figure(root=False).transSubfigure)
        for axes in figure.get_axes()
    ]
    rows = {}
    for box in boxes:
        rows.setdefault(round(box.y0), []).append(box)
    assert sorted(map(len, rows.values())) == [1, 4]
    width = figure.bbox.width
    for row in rows.values():  # the first begins at the left, the last ends at the right
        assert min(box.x0 for box in row) < 0.15 * width
        assert max(box.x1 for box in row) > 0.9 * width


def test_a_panel_that_tells_nothing_is_left_out_and_said():
    results = [
        result("a", fraction=0.5, recall=1.0, margin=1.0),
        result("b", fraction=0.25, recall=1.0, margin=2.0),
    ]
    results[0].metrics["validation.map_at_r_within"] = math.nan
    curves = {
        result.model_dir: {"loss": ([1, 2], [0.0, 0.0]), "fraction_positive": ([1, 2], [1.0, i])}
        for i, result in enumerate(results)
    }
    figure, notes = comparison_figure(compare(results), "validation", curves)
    assert set(panels(figure)) == {"fraction_positive", "fraction_positive, validation"}
    assert notes == [
        "recall@1, validation is left out: it is 1 everywhere",
        "MAP@R, validation is left out: it is nowhere a number",
        "the curves of loss are left out: all are 0",
    ]
    assert figure.get_supxlabel() == "\n".join(notes)


def test_a_single_experiment_keeps_its_panels():
    figure, notes = comparison_figure(
        compare([result("a", fraction=0.5, recall=1.0)]), "validation", {}
    )
    assert set(panels(figure)) == {"fraction_positive", "recall@1, validation"}
    assert notes == [] and figure.legends == []


def test_diverged_and_collapsed_runs_are_named():
    results = [
        *judged([(1.0, 0.5), (2.0, 0.75), (3.0, 0.6)]),
        result("wild", "diverged", margin=10.0),
        result("wilder", "diverged", margin=20.0),
        result("flat", "collapsed", margin=0.5),
    ]
    _, notes = comparison_figure(compare(results), "validation", {})
    assert notes == ["diverged: wild, wilder", "collapsed: flat"]


@pytest.mark.parametrize(
    ("found", "note"),
    [
        ([(0.1, 0.9), (0.2, 0.8), (0.4, 0.7)], "the smallest tried, 0.1: try 0.05"),
        ([(0.1, 0.7), (0.2, 0.8), (0.6, 0.9)], "the largest tried, 0.6: try 1.8"),
        ([(0.1, 0.7), (0.2, 0.9), (0.4, 0.8)], None),
        ([(0.1, 0.9), (0.2, 0.9), (0.4, 0.7)], None),  # two are the best
        ([(0.1, 0.9)], None),
    ],
)
def test_a_best_margin_at_the_edge_is_said(found, note):
    _, notes = comparison_figure(compare(judged(found)), "validation", {})
    said = [line for line in notes if "tried" in line]
    assert said == ([f"recall@1, validation: the best margin is {note}"] if note else [])


@pytest.mark.parametrize(("best", "note"), [(0, None), (20, "the largest tried, 20: try 40")])
def test_nothing_is_below_0_and_a_series_from_0_is_doubled(best, note):
    key = "learning_rate_warmup_steps"
    results = [
        result(str(steps), recall=0.9 if steps == best else 0.8, **{key: steps})
        for steps in (0, 20)
    ]
    _, notes = comparison_figure(compare(results), "validation", {})
    assert notes == ([f"recall@1, validation: the best {key} is {note}"] if note else [])


def test_the_edge_is_that_of_the_best_ones_other_params():
    results = judged([(0.1, 0.9), (0.2, 0.8)]) + [
        result("hard", recall=0.7, margin=0.01, triplet_strategy="batch_hard")
    ]
    _, notes = comparison_figure(compare(results), "validation", {})
    assert notes == ["recall@1, validation: the best margin is the smallest tried, 0.1: try 0.05"]
    soft = result("soft", recall=0.95, margin="soft", triplet_strategy="batch_hard")
    assert comparison_figure(compare([*results, soft]), "validation", {}).notes == []


def test_a_long_legend_is_within_the_figure_and_ticks_are_no_formulas(tmp_path):
    keys = ({"image_dir": rf"data/$\foo$ {n} {'x' * 60}", "network": "mlp"} for n in range(3))
    results = [
        result(
            f"{n}{margin}",
            recall=margin / 2,
            margin=margin,
            dataset="image_folder",
            image_size=8,
            **own,
        )
        for n, own in enumerate(keys)
        for margin in (0.5, 1.0)
    ]
    figure = comparison_figure(compare(results), "validation", {}).figure
    figure.savefig(tmp_path / "a.png")
    (legend,) = figure.legends
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1
    by_folder = [one for one in results if one.params.margin == 0.5]
    comparison_figure(compare(by_folder), "validation", {}).figure.savefig(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("best", "tried", "key", "note"),
    [
        (4, [3, 4], "num_epochs", "the largest tried, 4: try 6"),
        (1, [1, 2], "num_epochs", "the smallest tried, 1"),
        (0.9, [0.5, 0.9], "dropout", "the largest tried, 0.9"),
        (1, [0.5, 1], "margin", "the largest tried, 1: try 2"),
        (1, [1, 2], "augment.shift", "the smallest tried, 1: try 0"),
        (3, [2, 3], "augment.shift", "the largest tried, 3: try 5"),
        (0.9, [0.7, 0.9], "augment.crop", "the largest tried, 0.9"),
        (0.8, [0.8, 0.9], "augment.crop", "the smallest tried, 0.8: try 0.71"),
        (5, [5, 8], "classes_per_batch", "the smallest tried, 5: try 3"),
        (2, [1, 2], "no.such_key", "the largest tried, 2: try 4"),
    ],
)
def test_what_is_advised_is_accepted(best, tried, key, note):
    assert _beyond(best, tried, key) == note
