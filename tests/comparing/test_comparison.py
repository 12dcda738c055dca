"""The comparison: which params are shown, which experiments are one row, statistics, sorting."""

import json
import math
import time
from pathlib import Path

import pytest

from src.comparing.columns import METRICS
from src.comparing.comparison import Statistic, compare, statistic
from src.comparing.formats import as_csv, as_json, as_markdown, for_console
from src.comparing.results import Result
from src.errors import UserError
from src.experiment.status import Status
from src.params.metric_names import AGAINST_GALLERY, WITHIN
from src.params.schema import Params

SPLITS = ("train", "validation", "test")


def result(name, status="finished", metrics=None, notes=(), **params):
    return Result(Path("experiments") / name, status, Params(**params), metrics or {}, notes)


def damaged(name):
    return Result(Path("experiments") / name, Status.DAMAGED, None, {}, ("damaged",))


def names(comparison):
    return [row.name for row in comparison.rows]


def losses(*values):
    """Experiments a, b, c, ..., each with another margin and this loss; None for no loss."""
    return [
        result(
            "abcdefg"[i],
            metrics={} if value is None else {"validation.loss": value},
            margin=float(i + 1),
        )
        for i, value in enumerate(values)
    ]


# Statistics


def test_mean_and_sample_standard_deviation():
    # 2, 4, 9: the mean is 5; (9 + 1 + 16) / (3 - 1) = 13
    assert statistic([2.0, 4.0, 9.0]) == Statistic(5.0, math.sqrt(13), 3)
    assert statistic([1.0, 2.0]) == Statistic(1.5, math.sqrt(0.5), 2)
    assert statistic([0.25]) == Statistic(0.25, None, 1)
    assert statistic([3, 3, 3]) == Statistic(3.0, 0.0, 3)


def test_close_numbers_keep_their_deviation():
    # Far from 0 against their spread: E[x^2] - E[x]^2 would have nothing left.
    assert statistic([1e9, 1e9 + 1, 1e9 + 2]) == Statistic(1e9 + 1, 1.0, 3)


@pytest.mark.parametrize(
    ("values", "mean"),
    [([math.nan, 1.0], math.nan), ([math.inf, 1.0], math.inf), ([math.inf, -math.inf], math.nan)],
)
def test_values_that_are_not_finite_show(values, mean):
    found = statistic(values)
    assert str(found.mean) == str(mean)
    assert math.isnan(found.deviation)
    assert str(statistic(values[:1])) == str(Statistic(values[0], None, 1))


@pytest.mark.parametrize("values", [[1e200, 2e200], [1.7e308, 1.7e308], [10**155, 1.0]])
def test_numbers_too_large_to_square_have_no_deviation(values):
    """As a damaged file may have them."""
    found = statistic(values)
    assert found.mean > 1e150 and math.isnan(found.deviation)


# Which params are shown


def test_only_params_that_differ_in_the_order_of_the_schema():
    comparison = compare(
        [
            result("a", margin=1.0, l2_normalize=True, batch_size=32),
            result("b", margin=2.0, l2_normalize=False, batch_size=32),
        ]
    )
    assert comparison.params == ("l2_normalize", "margin")
    assert [dict(row.params) for row in comparison.rows] == [
        {"l2_normalize": False, "margin": 2.0},
        {"l2_normalize": True, "margin": 1.0},
    ]


def test_params_that_an_experiment_does_not_read_are_missing():
    """They have their defaults, which would look like choices."""
    similar = {"triplet_strategy": "multi_similarity", "distance": "cosine"}
    memory = {"memory_size": 64, "memory_start_steps": 9}
    comparison = compare(
        [
            result("a", margin=1.0, **memory),
            result("b", **similar, multi_similarity_alpha=3.0),
            result(
                "c",
                **similar,
                multi_similarity_alpha=3.0,
                warmup_strategy="batch_all",
                warmup_steps=5,
            ),
            result("d", network="mlp", hidden_sizes=[9]),
            result("e", num_channels=16),
        ]
    )
    rows = {row.name: row.params for row in comparison.rows}
    assert {name: row.get("margin") for name, row in rows.items()} == {
        **{"a": 1.0, "b": None, "c": 0.5, "d": 0.5, "e": 0.5}
    }  # the warm-up of c has a margin
    assert [name for name in "abcde" if "multi_similarity_alpha" in rows[name]] == ["b", "c"]
    assert [name for name in "abcde" if "memory_start_steps" in rows[name]] == ["a"]
    assert [name for name in "abcde" if "hidden_sizes" in rows[name]] == ["d"]
    assert "num_channels" not in rows["d"] and rows["e"]["num_channels"] == 16
    # What only some read, and these alike, is no column.
    assert "num_blocks" not in comparison.params


def test_nested_params_one_by_one():
    comparison = compare([result("a", augment={"shift": 2, "flip": True}), result("b")])
    assert comparison.params == ("augment.shift", "augment.flip")


def test_keys_without_effect_are_passed_over():
    facts = {"image_size": 28, "num_parallel_calls": 4, "save_summary_steps": 7}
    comparison = compare([result("a", **facts), result("b", seed=1)])
    assert comparison.params == ()
    assert names(comparison) == ["*"]


def test_extra_data_are_a_column_of_the_keys_that_are_set():
    entry = {"dataset": "image_folder", "image_dir": "trees"}
    extra = [[{**entry, "image_cache": cache}] for cache in ("here", "there")]  # no choice
    found = [result("a_1", extra_data=extra[0]), result("a_2", extra_data=extra[1], seed=1)]
    comparison = compare([*found, result("b")])
    assert comparison.params == ("extra_data",) and names(comparison) == ["b", "a_*"]
    assert [row.params["extra_data"] for row in comparison.rows] == [[], [entry]]
    for text in (as_markdown(comparison), as_csv(comparison), for_console(comparison)):
        assert "trees" in text and "null" not in text
    assert json.loads(as_json(comparison))[1]["params"]["extra_data"] == [entry]


def test_the_size_of_ones_own_images_is_a_choice():
    sizes = [{"dataset": "image_folder", "image_size": size} for size in (28, 32)]
    comparison = compare([result("a", **sizes[0]), result("b", seed=1, **sizes[1])])
    assert comparison.params == ("image_size",)
    assert names(comparison) == ["a", "b"]


def test_one_experiment():
    comparison = compare([result("x/a", margin=3.0)])
    assert (comparison.params, names(comparison)) == ((), ["a"])
    assert comparison.directory == Path("experiments/x")


def test_damaged_params_differ_in_nothing_and_are_there():
    comparison = compare([damaged("d"), result("a", margin=1.0), result("b", margin=2.0)])
    assert comparison.params == ("margin",)
    assert names(comparison) == ["a", "b", "d"]
    assert comparison.rows[2].params == {}
    assert comparison.notes == ("damaged",)
    assert names(compare([damaged("d"), damaged("e")])) == ["d", "e"]


def test_the_parent_of_a_sweep_is_a_note():
    parent = Result(Path("experiments"), Status.PARENT, Params(margin=9.0), {}, ("a parent",))
    comparison = compare([parent, result("a"), result("b", seed=1)])
    assert (comparison.params, names(comparison)) == ((), ["*"])
    assert comparison.notes == ("a parent",)


# Seeds


def test_seeds_are_one_row_with_statistics():
    comparison = compare(
        [
            result(
                f"margin_1-seed_{seed}",
                metrics={"train.loss": loss, "seconds": 10 * seed},
                margin=1.0,
                seed=seed,
            )
            for seed, loss in enumerate([2.0, 4.0, 9.0])
        ]
        + [result("margin_2", metrics={"train.loss": 7.0}, margin=2.0)]
    )
    row, other = comparison.rows
    assert (row.name, row.status, len(row.results)) == ("margin_1-seed_*", "finished", 3)
    assert row.statistics["train.loss"] == Statistic(5.0, math.sqrt(13), 3)
    assert row.statistics["seconds"] == Statistic(10.0, 10.0, 3)
    assert (other.name, len(other.results)) == ("margin_2", 1)
    assert other.statistics == {"train.loss": Statistic(7.0, None, 1)}


def test_a_row_counts_its_states_and_averages_what_there_is():
    comparison = compare(
        [
            result("s_0", metrics={"train.loss": 1.0}),
            result("s_1", status="diverged", seed=1),
            result("s_2", metrics={"train.loss": 3.0}, seed=2),
        ]
    )
    [row] = comparison.rows
    assert row.status == "2 finished, 1 diverged"
    assert row.statistics["train.loss"] == Statistic(2.0, math.sqrt(2), 2)


def test_the_same_seed_twice_is_not_two_samples():
    comparison = compare([result("copy"), result("s/seed_0"), result("s/seed_1", seed=1)])
    assert names(comparison) == ["copy", "s/seed_*"]


def test_seeds_with_other_params_are_other_rows():
    assert len(compare([result("a"), result("b", seed=1, margin=0.7)]).rows) == 2


def test_names_have_a_star_where_they_differ():
    def name(*directories):
        results = [result(name, seed=seed) for seed, name in enumerate(directories)]
        return names(compare(results))

    assert name("seed_0", "seed_1", "seed_10") == ["seed_*"]
    assert name("seed_0-x", "seed_1-x") == ["seed_*-x"]
    assert name("a", "b") == ["*"]
    assert name("x", "xx") == ["x*"]
    assert name("xyx", "x") == ["x*"]


def test_a_mean_is_over_the_seeds_that_have_the_metric():
    comparison = compare(
        [
            result("s_0", metrics={"train.loss": 1.0, "test.map_at_r_within": 0.5}),
            result("s_1", metrics={"train.loss": 2.0}, seed=1),  # null: no query
            result("s_2", metrics={"train.loss": 3.0, "test.map_at_r_within": 0.7}, seed=2),
        ]
    )
    [row] = comparison.rows
    assert row.status == "finished"
    found = row.statistics["test.map_at_r_within"]
    assert (found.mean, found.n) == (pytest.approx(0.6), 2)


def test_copies_in_several_directories_stay_with_their_neighbours():
    """Each joins the row of its own directory if that lacks its seed, else the first that does."""
    groups = compare(
        [
            result("a/s_0"),
            result("b/s_0"),
            result("b/s_1", seed=1),
            result("a/s_1", seed=1),
            result("c/s_1", seed=1),  # no row lacks it
            result("d/s_2", seed=2),  # all lack it
            result("c/s_2", seed=2),
            result("e/s_2", seed=2),
        ]
    ).rows
    names = [sorted(str(r.model_dir.relative_to("experiments")) for r in g.results) for g in groups]
    assert sorted(names) == [
        ["a/s_0", "a/s_1", "d/s_2"],
        ["b/s_0", "b/s_1", "e/s_2"],
        ["c/s_1", "c/s_2"],
    ]


@pytest.mark.parametrize(
    "params",
    [
        lambda i: {},  # copies of one
        lambda i: {"seed": i},  # one row
        lambda i: {"margin": 1.0 + i},  # a row each
        lambda i: {"margin": 1.0 + i, "seed": i % 3},
    ],
)
def test_the_time_is_in_proportion_to_the_experiments(params):
    """Under a second for 1000; to compare each with each takes ten."""
    metrics = {f"{split}.{name}": 0.5 for split in SPLITS for name in WITHIN}
    results = [
        result(f"d/{i}", metrics={**metrics, f"own_{i}.x": 1.0}, **params(i)) for i in range(1000)
    ]
    started = time.process_time()
    comparison = compare(results, sort="map_at_r_within", baselines=True)
    assert time.process_time() - started < 3
    assert sum(len(row.results) for row in comparison.rows) == 1000


# Columns


def test_the_columns_without_being_asked():
    comparison = compare([result("a")])
    assert [column.path for column in comparison.columns] == [
        "train.fraction_positive",
        "validation.fraction_positive",
        "validation.fraction_positive_at_reference",
        "train.loss",
        "validation.loss",
        "validation.map_at_r_within",
        "validation.recall_at_1_within",
        "validation.recall_at_1",
        "validation.embedding_mean_norm",
        "seconds",
        "images_per_second",
    ]


def test_the_split_is_that_of_metrics_named_without_one():
    metrics = {f"{split}.loss": 1.0 for split in SPLITS}
    comparison = compare([result("a", metrics=metrics)], split="test")
    paths = [column.path for column in comparison.columns]
    assert "test.recall_at_1" in paths and "validation.loss" in paths
    assert "validation.recall_at_1" not in paths
    asked = compare([result("a", metrics=metrics)], split="test", columns=["loss", "train.loss"])
    assert [column.path for column in asked.columns] == ["test.loss", "train.loss"]


def test_new_metrics_can_be_asked_for_by_name():
    metrics = {"validation.new": 1.0, "best.step": 3, "test.raw_pixels.map_at_r": 0.5}
    columns = ["new", "best.step", "test.raw_pixels.map_at_r", "seconds"]
    comparison = compare([result("a", metrics=metrics)], columns=columns)
    assert [c.path for c in comparison.columns] == ["validation.new", *columns[1:]]
    assert comparison.columns[2].metric.higher_is_better  # as map_at_r elsewhere


def test_a_metric_of_one_split_needs_no_split_in_front():
    metrics = {"unseen.map_at_r_among_known": 0.5, "open_set.auroc": 0.9, "train.loss": 1.0}
    columns = ["map_at_r_among_known", "auroc", "loss"]
    comparison = compare([result("a", metrics=metrics)], columns=columns)
    assert [column.path for column in comparison.columns] == [
        "unseen.map_at_r_among_known",
        "open_set.auroc",
        "validation.loss",
    ]


def test_an_unknown_column_or_split():
    results = losses(1.0)
    with pytest.raises(UserError, match=r"column 'los': .*; did you mean 'loss'\?; accepted: "):
        compare(results, columns=["los"])
    with pytest.raises(UserError, match=r"column 'margn': .*; did you mean 'margin'\?"):
        compare(results, sort="margn")
    with pytest.raises(UserError, match=r"--split: found 'valid'; did you mean 'validation'\?"):
        compare(results, split="valid")
    assert compare([result("a", metrics={"test.loss": 1.0})]).rows  # the default is no mistake


def test_names_in_errors_are_printable():
    results = [result("a", metrics={"validation.\x1b[31mred": 1.0, "sp\u202elit.x": 1.0})]
    for options in ({"columns": ["loss2"]}, {"split": "nowhere"}, {"sort": "x" * 9}):
        with pytest.raises(UserError) as error:
            compare(results, **options)
        assert str(error.value).isprintable()


def test_baselines_stand_below_their_experiment():
    def metrics(ours, pixels):
        return {
            "validation.recall_at_1": ours,
            "baselines.raw_pixels.validation.recall_at_1": pixels,
            "baselines.raw_pixels.test.recall_at_1": 0.5,
        }

    results = [
        result("a", metrics=metrics(0.9, 0.7)),
        result("b", metrics=metrics(0.8, 0.6), seed=1),
        result("c", metrics={"validation.recall_at_1": 0.95}, margin=2.0),
    ]
    rows = compare(results, sort="recall_at_1", columns=["recall_at_1"], baselines=True).rows
    assert [(row.name, row.status) for row in rows] == [
        ("c", "finished"),
        ("*", "finished"),
        ("*: raw_pixels", "baseline"),
    ]
    found = rows[2].statistics["validation.recall_at_1"]
    assert (found.mean, found.n) == (pytest.approx(0.65), 2)
    assert len(compare(results).rows) == 2


def test_a_baseline_of_another_form_is_passed_over():
    comparison = compare([result("a", metrics={"baselines.odd": 1.0})], baselines=True)
    assert names(comparison) == ["a"]


def test_every_metric_of_the_evaluation_has_its_direction():
    known = {metric.key: metric.higher_is_better for metric in METRICS}
    assert not known["loss"] and not known["eer"]
    assert all(known[name] for name in (*WITHIN, *AGAINST_GALLERY) if name != "eer")


def test_metrics_are_listed_once():
    keys = [(metric.key, metric.split) for metric in METRICS]
    assert len(set(keys)) == len(keys)


# Order


def test_without_sorting_the_params_give_the_order():
    results = [
        result("soft", triplet_strategy="batch_hard", margin="soft"),
        result("ten", margin=10.0),
        result("three", margin=3.0),
        result("hard", triplet_strategy="batch_hard", margin=3.0),
    ]
    assert names(compare(results)) == ["three", "ten", "hard", "soft"]
    assert names(compare(results, reverse=True)) == ["soft", "hard", "ten", "three"]


def test_null_comes_before_numbers():
    results = [result("b", save_checkpoints_steps=5), result("a")]
    assert names(compare(results)) == ["a", "b"]


def test_a_metrics_best_comes_first():
    assert names(compare(losses(0.5, 0.25, 0.75), sort="loss")) == ["b", "a", "c"]
    results = [
        result(name, metrics={"validation.recall_at_1": value}, margin=margin)
        for name, value, margin in (("a", 0.8, 1.0), ("b", 0.9, 2.0))
    ]
    assert names(compare(results, sort="recall_at_1")) == ["b", "a"]
    assert names(compare(results, sort="validation.recall_at_1", reverse=True)) == ["a", "b"]


@pytest.mark.parametrize("reverse", [False, True])
def test_what_has_no_value_comes_last_either_way(reverse):
    comparison = compare(losses(None, 2.0, math.nan, 1.0), sort="loss", reverse=reverse)
    assert names(comparison)[2:] == ["a", "c"]


def test_infinity_is_a_value():
    assert names(compare(losses(math.inf, 1.0, math.nan), sort="loss")) == ["b", "a", "c"]


@pytest.mark.parametrize("reverse", [False, True])
def test_ties_keep_the_order_of_the_params(reverse):
    comparison = compare(losses(1.0, 1.0, 1.0), sort="loss", reverse=reverse)
    assert names(comparison) == ["a", "b", "c"]


def test_sorted_by_what_is_not_a_metric():
    results = [
        result("run_10", status=Status.NOT_TRAINED, margin=1.0),
        result("run_9", margin=2.0),
        result("run_9b", margin=2.0, seed=1),
    ]
    assert names(compare(results, sort="experiment")) == ["run_9*", "run_10"]
    assert names(compare(results, sort="n")) == ["run_10", "run_9*"]
    assert names(compare(results, sort="status")) == ["run_9*", "run_10"]
    assert names(compare(results, sort="margin", reverse=True)) == ["run_9*", "run_10"]
    assert names(compare(results, sort="dataset")) == ["run_10", "run_9*"]  # all the same


def test_relative_and_absolute_directories(tmp_path):
    results = [result("a"), Result(tmp_path / "b", "finished", Params(margin=1.0), {})]
    assert len(set(names(compare(results)))) == 2


def test_the_open_set_is_shown_if_one_experiment_has_measured_it():
    without = result("a", metrics={"validation.loss": 1.0})
    measured = result(
        "b", metrics={"open_set.auroc": 0.75, "open_set.dir_at_fpir_1e-2": 0.5}, margin=0.7
    )

    def paths(comparison):
        return {column.path for column in comparison.columns if "open_set" in column.path}

    comparison = compare([without, measured], sort="open_set.auroc")
    assert paths(comparison) == {"open_set.auroc", "open_set.dir_at_fpir_1e-2"}
    assert names(comparison) == ["b", "a"]
    assert comparison.rows[0].statistics["open_set.auroc"] == Statistic(0.75, None, 1)
    assert not paths(compare([without]))
    with pytest.raises(UserError, match="--split: found 'open_set'"):
        compare([measured], split="open_set")
