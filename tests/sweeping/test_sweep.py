"""A sweep: which experiments it makes, what they are called, and what it refuses. Then the program
itself, on a tiny dataset, with trainings as processes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, write_noise

import src.sweeping.plan
import sweep
from src.data.holdout import hold_out
from src.data.loading import load_data
from src.errors import SweepFailed, UserError
from src.experiment.experiment import Experiment
from src.experiment.facts import check_facts, check_training
from src.params.reading import load_params
from src.params.schema import Params
from src.sweeping.job import Outcome
from src.sweeping.plan import (
    DATA_KEYS,
    FACT_KEYS,
    check_data,
    check_unchanged,
    plan,
    under_other_names,
    write_params,
)
from src.sweeping.space import parse_param
from src.system.lock import one_writer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def parent(tmp_path):
    """A directory `margins` whose params.json states a few keys."""
    return make_parent(tmp_path)


def make_parent(tmp_path, **params):
    directory = tmp_path / "margins"
    directory.mkdir(exist_ok=True)
    content = {"$schema": "../params.schema.json", **TINY, "num_epochs": 1, **params}
    (directory / "params.json").write_text(json.dumps(content))
    return directory


def names(children):
    return [child.name for child in children]


# What stands behind --param


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("margin=0.5", ("margin", [0.5])),
        ("margin=0.5,1,soft", ("margin", [0.5, 1, "soft"])),
        (
            "triplet_strategy=batch_all,batch_hard",
            ("triplet_strategy", ["batch_all", "batch_hard"]),
        ),
        ("l2_normalize=true,false", ("l2_normalize", [True, False])),
        ("distance=null,cosine", ("distance", [None, "cosine"])),
        ("learning_rate=1e-3,1e-4", ("learning_rate", [0.001, 0.0001])),
        ("holdout_classes=[8, 9],[0,1]", ("holdout_classes", [[8, 9], [0, 1]])),
        ('augment={},{"shift": 2, "flip": true}', ("augment", [{}, {"shift": 2, "flip": True}])),
        ('distance="a,b",c', ("distance", ["a,b", "c"])),
        ("distance=1x,2", ("distance", ["1x", 2])),  # not the number 1 and then something
        ("distance=[1,2", ("distance", ["[1", 2])),  # no JSON: for Params to refuse
        ("distance=a=b", ("distance", ["a=b"])),
        ("flag=1,true", ("flag", [1, True])),  # equal in Python, not in JSON
        ("flag=" + "[" * 10**5, ("flag", ["[" * 10**5])),  # deeper than JSON is read
    ],
)
def test_param(text, expected):
    key, values = parse_param(text)
    assert (key, values) == expected
    assert [type(value) for value in values] == [type(value) for value in expected[1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margin", "--param: found 'margin'; accepted: KEY=VALUE,VALUE,... or KEY=LOW..HIGH"),
        ("=1", "--param: found '=1'; accepted: KEY=VALUE,VALUE,... or KEY=LOW..HIGH"),
        (
            "$schema=a,b",
            "--param: found '$schema=a,b'; accepted: KEY=VALUE,VALUE,... or KEY=LOW..HIGH",
        ),
        ("m\x1b=", r"--param m\x1b: found an empty value; accepted: m\x1b=VALUE,VALUE,..."),
        ("margin=", "--param margin: found an empty value; accepted: margin=VALUE,VALUE,..."),
        ("margin=1,", "--param margin: found an empty value; accepted: margin=VALUE,VALUE,..."),
        ("margin=1,,2", "--param margin: found an empty value; accepted: margin=VALUE,VALUE,..."),
        ("margin=1,2,1", "--param margin: found 1 twice; accepted: each value once"),
    ],
)
def test_bad_param(text, message):
    with pytest.raises(UserError) as error:
        parse_param(text)
    assert str(error.value) == message


# The plan


def test_every_combination_in_order(parent):
    children = plan(parent, {"margin": [0.5, 3], "l2_normalize": [True, False]})
    assert names(children) == [
        "margin_0.5-l2_normalize_true",
        "margin_0.5-l2_normalize_false",
        "margin_3-l2_normalize_true",
        "margin_3-l2_normalize_false",
    ]
    assert [(c.params.margin, c.params.l2_normalize) for c in children] == [
        (0.5, True),
        (0.5, False),
        (3.0, True),
        (3.0, False),
    ]
    assert children[0].experiment.model_dir == parent / "margin_0.5-l2_normalize_true"
    assert list(parent.iterdir()) == [parent / "params.json"]  # nothing is written


def test_children_differ_from_the_parent_in_the_swept_keys_alone(parent):
    of_parent = load_params(parent / "params.json").model_dump()
    for child in plan(parent, {"margin": [2, 3], "augment": [{"shift": 1}]}, num_seeds=2):
        write_params(child)
        written = load_params(child.experiment.params_path)
        assert written == child.params
        differing = {key for key, value in written.model_dump().items() if of_parent[key] != value}
        assert differing - {"seed"} == {"margin", "augment"}
        content = json.loads(child.experiment.params_path.read_text())
        assert set(content) == {"$schema", *TINY, "margin", "augment", "seed"}
        assert content["$schema"] == "../../params.schema.json"


def test_seeds_count_from_the_parents(tmp_path):
    parent = make_parent(tmp_path, seed=7)
    children = plan(parent, {"margin": [1]}, num_seeds=3)
    assert names(children) == ["margin_1-seed_7", "margin_1-seed_8", "margin_1-seed_9"]
    assert [child.params.seed for child in children] == [7, 8, 9]
    assert names(plan(parent, {}, num_seeds=1)) == ["seed_7"]


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("margin", "soft", "margin_soft"),
        ("margin", 1.0, "margin_1"),
        ("margin", 1e20, "margin_1e20"),
        ("learning_rate", 1e-05, "learning_rate_1e-05"),
        ("distance", None, "distance_null"),
        ("augment", {"shift": 2, "flip": True}, "augment_shift_2_flip_true"),
        ("augment", {}, "augment_"),
    ],
)
def test_names_need_no_quoting_in_a_shell_nor_in_tensorboards_urls(tmp_path, key, value, name):
    parent = make_parent(tmp_path, triplet_strategy="batch_hard")
    [child] = plan(parent, {key: [value]})
    assert child.name == name
    assert re.fullmatch(r"[A-Za-z0-9._-]+", child.name)


@pytest.mark.parametrize(
    ("swept", "message"),
    [
        ({"margin": [-1]}, "margin_-1: margin: found -1; accepted: a number"),
        ({"margn": [1]}, "margn_1: unknown key 'margn'; did you mean 'margin'?"),
        ({"margin": ["NaN"]}, 'margin_NaN: margin: found "NaN"; accepted: a number greater than'),
        ({"num_epochs": [1.5]}, "num_epochs_1.5: num_epochs: found 1.5; accepted: a whole number"),
        (
            {"margin": [1, 1.0]},
            "margin_1: found two combinations of values for this name; accepted: values that",
        ),
        (
            {"augment": [{}, {"shift": 0}]},
            "augment_shift_0: found the params of augment_ under another name; accepted:",
        ),
        ({}, "found nothing to sweep; accepted: --param KEY=VALUE,... or --seeds N"),
    ],
)
def test_what_is_wrong_is_said_with_key_and_value(parent, swept, message):
    with pytest.raises(UserError) as error:
        plan(parent, swept)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert list(parent.iterdir()) == [parent / "params.json"]


def test_every_error_at_once_each_on_one_line(parent):
    swept = {"margin": [1, -1, "soft"], "triplet_strategy": ["batch_all", "batch_hrd"]}
    with pytest.raises(UserError) as error:
        plan(parent, swept)
    assert [line.split("; accepted")[0] for line in str(error.value).split("\n")] == [
        'margin_1-triplet_strategy_batch_hrd: triplet_strategy: found "batch_hrd"',
        "margin_-1-triplet_strategy_batch_all: margin: found -1",
        'margin_soft-triplet_strategy_batch_all: margin: found "soft"',
    ]
    assert str(error.value).count("(and 2 more)") == 1  # batch_hrd, with three margins
    assert str(error.value).count("(and 1 more)") == 1  # -1, with two strategies


def test_many_errors_are_counted(parent):
    with pytest.raises(UserError) as error:
        plan(parent, {"margin": [-1 - i for i in range(100)]})
    lines = str(error.value).split("\n")
    assert len(lines) == 21 and lines[-1] == "... and 80 more errors"


@pytest.mark.parametrize(
    ("swept", "num_seeds", "count"),
    [
        ({}, 999_999_999, "999,999,999"),
        ({"margin": [1, 2]}, 10**4299 * 9, "more than 10^15"),
        ({"margin": range(1, 102), "seed": range(100)}, None, "10,100"),
        ({"margin": [1, 2]}, 5001, "10,002"),
        (
            {key: range(1, 1001) for key in ("margin", "num_blocks", "batch_size")},
            7,
            f"{7 * 10**9:,}",
        ),
    ],
)
def test_more_than_anyone_trains_is_refused_before_it_is_made(parent, swept, num_seeds, count):
    with pytest.raises(UserError) as error:
        plan(parent, swept, num_seeds)
    assert str(error.value) == (
        f"found {count} combinations of values and seeds; accepted: at most 10,000 in a sweep"
    )


def test_names_too_long_for_a_directory(parent):
    with pytest.raises(UserError, match=r"image_dir_xxx.*: found a name of 344 bytes; accepted"):
        plan(parent, {"image_dir": ["x" * 300], "dataset": ["image_folder"], "image_size": [8]})


def test_seeds_and_a_param_seed(parent):
    with pytest.raises(UserError, match="--seeds: found --param seed as well"):
        plan(parent, {"seed": [1]}, num_seeds=2)


def test_a_bad_parent_is_named(parent, tmp_path):
    (parent / "params.json").write_text('{"margin": 0}')
    with pytest.raises(UserError, match=r"margins/params.json: margin: found 0"):
        plan(parent, {"margin": [1]})
    with pytest.raises(UserError, match=r"nowhere/params.json: not found"):
        plan(tmp_path / "nowhere", {"margin": [1]})


# What is there already


def test_the_same_again_is_no_change(parent):
    children = plan(parent, {"margin": [1, 2]})
    for child in children:
        write_params(child)
    times = [child.experiment.params_path.stat().st_mtime_ns for child in children]
    check_unchanged(children)
    for child in children:
        write_params(child)
    assert times == [child.experiment.params_path.stat().st_mtime_ns for child in children]


def test_a_changed_parent_is_refused_with_key_and_values(parent, tmp_path):
    for child in plan(parent, {"margin": [1, 2]}):
        write_params(child)
    make_parent(tmp_path, num_channels=16)
    with pytest.raises(UserError) as error:
        check_unchanged(plan(parent, {"margin": [1, 2, 3]}))
    assert str(error.value) == (
        "margin_1: num_channels: found 16, but 4 in its params.json; accepted: the value in its "
        "params.json, or another --parent_dir; to start over, use --overwrite (and 1 more)"
    )


def test_a_child_whose_file_was_changed_after_its_training_is_refused(parent):
    [child] = plan(parent, {"margin": [1]})
    write_params(child)
    child.experiment.start(Params(**{**child.params.model_dump(), "margin": 5.0}))
    (child.experiment.model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
    with pytest.raises(UserError, match=r"margin \(now 1.0, trained with 5.0\)"):
        check_unchanged([child])


def test_more_epochs_are_no_other_experiment(parent, tmp_path):
    for child in plan(parent, {"margin": [1]}):
        write_params(child)
    make_parent(tmp_path, num_epochs=5)
    [child] = plan(parent, {"margin": [1]})
    check_unchanged([child])
    write_params(child)
    assert load_params(child.experiment.params_path).num_epochs == 5


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, "to run"),
        ("finished", "finished"),
        ("running", "to run"),
        ("stopped", "to run"),
        ("diverged", "diverged"),
        ("collapsed", "collapsed"),
    ],
)
def test_the_status_says_what_runs(parent, status, expected):
    [child] = plan(parent, {"margin": [1]})
    if status:
        child.experiment.start(child.params)
        (child.experiment.model_dir / "checkpoint").write_text(
            'model_checkpoint_path: "model.ckpt-7"'
        )
        child.experiment.save_metrics({"status": status, "global_step": 7, "splits": {}})
    assert child.status == expected


# The program


def test_a_key_more_does_not_rename_what_is_trained(parent):
    """With its default value it is in the old directory; the search's directories count too."""
    for name, margin in (("margin_1", 1), ("trial_0007", 2), ("margin_3", 3)):
        (parent / name).mkdir()
        params = {**json.loads((parent / "params.json").read_text()), "margin": margin}
        (parent / name / "params.json").write_text(json.dumps(params))
        if margin != 3:  # which was never begun
            (parent / name / "metrics.json").write_text('{"status": "finished"}')
    swept = {"margin": [1, 2, 3], "augment.shift": [0, 2]}
    assert names(under_other_names(plan(parent, swept), parent)) == [
        "margin_1",
        "margin_1-augment.shift_2",
        "trial_0007",
        "margin_2-augment.shift_2",
        "margin_3-augment.shift_0",
        "margin_3-augment.shift_2",
    ]
    assert names(plan(parent, swept))[0] == "margin_1-augment.shift_0"
    (parent / "margin_1").rename(parent / "margin_1 [old]")  # no name of an experiment
    assert names(under_other_names(plan(parent, swept), parent))[0] == "margin_1-augment.shift_0"
    (parent / "trial_0007" / "params.json").write_text("{")
    assert names(under_other_names(plan(parent, swept), parent))[2] == "margin_2-augment.shift_0"


def test_a_nested_key(parent):
    (parent / "params.json").write_text(json.dumps({**TINY, "augment": {"flip": True}}))
    first, second = plan(parent, {"augment.shift": [0, 2]})
    assert first.params.augment.flip and second.params.augment.flip
    assert (first.params.augment.shift, second.params.augment.shift) == (0, 2)
    with pytest.raises(UserError, match="margin: found 1.0; accepted: an object"):
        (parent / "params.json").write_text(json.dumps({**TINY, "margin": 1.0}))
        plan(parent, {"margin.x": [0, 2]})


def run_sweep(parent, data_dir, *options):
    sweep.main(["--parent_dir", str(parent), "--data_dir", str(data_dir), *options])


def statuses(parent):
    return {
        path.parent.name: json.loads(path.read_text())["status"]
        for path in parent.glob("*/metrics.json")
    }


def test_dry_run_writes_nothing(parent, data_dir, capsys):
    run_sweep(parent, data_dir, "--param", "margin=1,2", "--jobs", "2", "--dry_run")
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == f"{parent}: 2 in the sweep, 0 already trained, 2 to run, 2 at once"
    assert lines[1:3] == ["to run    margin_1", "to run    margin_2"]
    assert lines[3] == (
        f"{sys.executable} {ROOT}/train.py --model_dir {parent}/margin_1 --data_dir {data_dir}"
    )
    assert list(parent.iterdir()) == [parent / "params.json"]


def test_a_key_given_twice(parent, data_dir):
    with pytest.raises(UserError, match="--param: found a key twice"):
        run_sweep(parent, data_dir, "--param", "margin=1", "--param", "margin=2")


def test_a_key_and_one_inside_it(parent, data_dir):
    """One would replace the other's values, and directories would be named after both."""
    both = ("--param=augment.shift=1,2", '--param=augment={},{"shift": 3}')
    for order in (both, both[::-1]):
        with pytest.raises(UserError, match="--param augment.shift: found --param augment as well"):
            run_sweep(parent, data_dir, *order)


@pytest.mark.parametrize("option", ["--jobs", "--seeds"])
@pytest.mark.parametrize("value", ["0", "-1", "x", "1.5"])
def test_numbers_that_are_none(parent, data_dir, capsys, option, value):
    with pytest.raises(SystemExit) as error:
        run_sweep(parent, data_dir, "--param", "margin=1", f"{option}={value}")
    assert error.value.code == 2
    assert option in capsys.readouterr().err


@pytest.mark.system
def test_a_sweep_from_beginning_to_end(parent, data_dir, capsys):
    """Two that train, one that diverges; again: nothing runs; with another value: that one does."""
    options = ["--param", "learning_rate=0.005,1e30", "--param", "squared=true", "--jobs", "2"]
    options += ["--param", "l2_normalize=false"]
    with pytest.raises(SweepFailed) as error:
        run_sweep(parent, data_dir, *options)
    out = capsys.readouterr().out
    good, bad = (
        f"learning_rate_{rate}-squared_true-l2_normalize_false" for rate in ("0.005", "1e30")
    )
    assert statuses(parent) == {good: "finished", bad: "diverged"}
    assert re.search(rf"^{good}: finished in \d+ s \(\d of 2\)$", out, re.MULTILINE)
    assert re.search(rf"^{bad}: failed after \d+ s \(\d of 2\)$", out, re.MULTILINE)
    table = out[out.index(f"{parent}: 2 experiments") :]
    assert good in table and "finished" in table and "diverged" in table
    summary, reason = str(error.value).split("\n")
    assert summary == "1 of 2 failed:"
    assert reason.startswith(f"  {bad}: step ") and "the loss is" in reason
    assert reason.endswith(f"(exit code 3; {parent}/{bad}/train.log)")
    log = (parent / bad / "train.log").read_text()
    assert log.startswith("$ ") and "error: " in log
    progress = Experiment(parent / good).progress()
    assert (progress["step"], progress["max_steps"]) == (7, 7)  # 200 images, 32 a batch

    files = {path: path.stat().st_mtime_ns for path in parent.rglob("*")}
    with pytest.raises(SweepFailed, match="diverged in an earlier run, not run again"):
        run_sweep(parent, data_dir, *options)
    assert "2 already trained, 0 to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in parent.rglob("*")} == files

    make_parent(parent.parent, num_channels=5)
    with pytest.raises(UserError, match="num_channels: found 5, but 4 in its params.json"):
        run_sweep(parent, data_dir, *options)


def test_overwrite_removes_nothing_while_a_training_goes_on(parent, data_dir):
    kept = parent / "margin_1" / "metrics.json"
    kept.parent.mkdir()
    kept.write_text('{"status": "finished"}')
    with (
        one_writer(parent / "margin_2"),
        pytest.raises(UserError, match="margins/margin_2: in use by process"),
    ):
        run_sweep(parent, data_dir, "--param", "margin=1,2", "--overwrite")
    assert kept.exists()
    assert not (parent / "margin_1" / "params.json").exists()


@pytest.mark.parametrize("wrong", ["data_dir", "weights"])
def test_overwrite_removes_nothing_where_the_data_are_missing(parent, data_dir, tmp_path, wrong):
    kept = parent / "margin_1" / "metrics.json"
    kept.parent.mkdir()
    kept.write_text('{"status": "finished"}')
    if wrong == "data_dir":
        data_dir = tmp_path / "nowhere"
    else:
        make_parent(parent.parent, weights="nowhere.h5")
    with pytest.raises(UserError, match="nowhere"):
        run_sweep(parent, data_dir, "--param", "margin=1,2", "--overwrite")
    assert kept.exists()
    assert not (parent / "margin_1" / "params.json").exists()


def test_data_that_are_missing_are_named_before_anything_is_trained(parent, tmp_path):
    with pytest.raises(UserError) as error:
        run_sweep(parent, tmp_path / "nowhere", "--param", "margin=1,2")
    assert str(error.value).startswith(f"margin_1: {tmp_path}/nowhere/mnist, ")
    assert str(error.value).endswith("(and 1 more)") and "\n" not in str(error.value)
    assert list(parent.iterdir()) == [parent / "params.json"]


def make_pictures(folder):
    """Four classes of eight grey pictures each."""
    for label in range(4):
        for number in range(8):
            path = folder / f"class_{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.full((9, 9), 20 * label + number, np.uint8)
            Image.fromarray(pixels).save(path)


PICTURES = {"dataset": "image_folder", "image_size": 8, "image_mode": "L", "image_dir": "a"}


@pytest.mark.parametrize(
    ("param", "name", "reason"),
    [
        ("image_dir=a,b", "image_dir_b", "/b: No such file or directory"),
        ("image_csv=null,list.csv", "image_csv_list.csv", "list.csv: No such file or directory"),
        (
            'holdout_classes=null,["class_0","class_1"],["class_0","dog"]',
            "holdout_classes_class_0_dog",
            'holdout_classes: found "dog"',
        ),
        ("num_labels=4,7", "num_labels_7", "num_labels: found 7; accepted: "),
        ("dataset=image_folder,cifar10", "dataset_cifar10", "cifar10"),
        (
            "validation_fraction=0.5,0.01",
            "validation_fraction_0.01",
            "split validation: found 0 examples",
        ),
        ('extra_classes=[],["rot90"]', None, None),
    ],
)
@pytest.mark.parametrize("option", [["--overwrite"], []])
def test_the_data_of_every_child_are_looked_at_first(
    tmp_path, monkeypatch, param, name, reason, option
):
    """Whatever of its params says which data those are; where one lacks them, all are kept."""
    params = {key: value for key, value in PICTURES.items() if param.partition("=")[0] != key}
    if param.startswith("dataset="):  # where the others' keys are of no use
        params = {"image_size": 8}
    parent = make_parent(tmp_path, **params)
    make_pictures(tmp_path / "data" / ("image_folder" if "dataset=" in param else "a"))
    ran = []
    monkeypatch.setattr(
        sweep, "run_jobs", lambda jobs, launcher, **_: ran.extend(jobs) or Outcome()
    )
    kept = []
    for child in plan(parent, dict([parse_param(param)])):
        write_params(child)
        child.experiment.save_metrics({"status": "stopped", "splits": {}})
        kept.append(child.experiment.metrics_path)
    arguments = (parent, tmp_path / "data", "--param", param, *option)
    if reason is None:
        run_sweep(*arguments)
        assert len(ran) == len(kept)
        assert [path.exists() for path in kept] == [not option] * len(kept)
        return
    with pytest.raises(UserError) as error:
        run_sweep(*arguments)
    assert str(error.value).startswith(f"{name}: ") and reason in str(error.value)
    assert "\n" not in str(error.value)
    assert all(path.exists() for path in kept) and not ran


@pytest.mark.parametrize(
    ("dataset", "csv"),
    [
        *(("mnist", None), ("fashion_mnist", None), ("npz", None)),
        *(("image_folder", None), ("image_folder", "list.csv")),
    ],
)
def test_what_loading_reads_of_the_params_is_known(tmp_path, data_dir, dataset, csv):
    """Children that share these keys share their data: a key more, and some go unseen."""

    class Recorded:
        def __init__(self, params, keys):
            self._params, self._keys = params, keys

        def __getattr__(self, key):
            self._keys.add(key)
            return getattr(self._params, key)

    params = Params(**TINY)
    data = data_dir
    if dataset == "fashion_mnist":
        write_noise(tmp_path / "fashion_mnist")
        params, data = Params(**TINY, dataset=dataset), tmp_path
    if dataset == "npz":
        images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), np.uint8)
        np.savez(tmp_path / "a.npz", x=images, y=np.arange(60) % 3)
        params, data = Params(**TINY, dataset=dataset, npz_file="a.npz"), tmp_path
    if dataset == "image_folder":
        make_pictures(tmp_path / "a")
        names = [str(path.relative_to(tmp_path / "a")) for path in (tmp_path / "a").rglob("*.png")]
        lines = ["path,label", *(f"{name},{name[:7]}" for name in names)]
        (tmp_path / "a" / "list.csv").write_text("\n".join(lines))
        params, data = Params(**TINY, **PICTURES, image_csv=csv), tmp_path
    read = set()
    data_found = load_data(Recorded(params, read), data)
    assert read <= DATA_KEYS | {"seed"}
    if csv is None:
        of_facts = set()
        recorded = Recorded(params.model_copy(update={"holdout_classes": [0, 1]}), of_facts)
        with contextlib.suppress(UserError):
            check_facts(recorded, data_found.splits, tmp_path)
            check_training(recorded, hold_out(data_found.splits, recorded, tmp_path), tmp_path)
        of_warnings = {"batch_size", "is_offline", "best_metric", "seed"}
        of_warnings |= {"l2_normalize", "distance_name"}
        if "extra_per_batch" in of_facts:  # a property of two keys
            assert {"classes_per_batch", "extra_share"} <= FACT_KEYS
            of_facts.remove("extra_per_batch")
        assert of_facts <= DATA_KEYS | FACT_KEYS | of_warnings and "holdout_classes" in of_facts


def test_data_that_children_share_are_loaded_once(parent, data_dir, monkeypatch):
    loaded = []

    def load(params, data_dir, **options):
        loaded.append(params.validation_fraction)
        return load_data(params, data_dir, **options)

    monkeypatch.setattr(src.sweeping.plan, "load_data", load)
    swept = {"margin": [1, 2], "validation_fraction": [0.1, 0.2]}
    check_data(plan(parent, swept, 3), data_dir, afresh=False, keeps_splits=False)
    assert loaded == [0.1, 0.2]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files by /proc")
@pytest.mark.parametrize("option", [["--overwrite"], []])
def test_more_children_than_files_can_be_open(parent, data_dir, monkeypatch, option):
    import resource

    monkeypatch.setattr(sweep, "run_jobs", lambda jobs, launcher, **_: Outcome())
    for child in plan(parent, {}, 100):
        write_params(child)
        child.experiment.save_metrics({"status": "stopped", "splits": {}})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 40  # fewer than children
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        run_sweep(parent, data_dir, "--seeds", "100", *option)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(statuses(parent)) == (0 if option else 100)
    assert not list(parent.glob("*/train.lock"))


# A sweep that is killed, and two at once: with a small program as the train.py beside sweep.py

TRAINER = """
import json, sys, time
from pathlib import Path
from src.experiment.experiment import Experiment
from src.system.lock import one_writer
from src.params.reading import load_params
directory = Path(sys.argv[2])  # --model_dir DIR
experiment = Experiment(directory)
with one_writer(directory):
    if experiment.is_finished(load_params(experiment.params_path)):
        sys.exit()
    experiment.start(load_params(experiment.params_path))
    with open(directory / "trained", "a") as log:
        print("begun", file=log)
    while not (directory.parent / "go").exists():
        time.sleep(0.02)
    (directory / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
    experiment.save_metrics({"status": "finished", "global_step": 7, "splits": {}})
"""
SWEEP = """
import sys
import sweep
sweep.__file__ = sys.argv[1]
sweep.main(sys.argv[2:])
"""


@pytest.fixture
def start_stub(parent, data_dir, tmp_path):
    """`start_stub(*options)`: a sweep whose trainings wait for a file `go` in its directory."""
    started = []
    program = tmp_path / "sweep.py"
    program.with_name("train.py").write_text(TRAINER)

    def start(*options):
        process = subprocess.Popen(
            [sys.executable, "-c", SWEEP, program, "--parent_dir", parent, "--data_dir", data_dir]
            + [*options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        started.append(process)
        return process

    yield start
    (parent / "go").touch()
    for process in started:
        process.kill()
        process.wait()


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_trainings_that_are_left_run_on(parent, start_stub):
    process = start_stub("--param", "margin=1", "--on_interrupt", "leave")
    wait_until(lambda: (parent / "margin_1" / "trained").exists())
    process.send_signal(signal.SIGINT)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "SIGINT: 1 still run" in out
    (parent / "go").touch()
    wait_until(lambda: statuses(parent).get("margin_1") == "finished")


def test_options_of_another_launcher(parent, data_dir):
    with pytest.raises(UserError, match=r"--slurm: found --launcher local; accepted: --launcher"):
        run_sweep(parent, data_dir, "--param", "margin=1", "--slurm", "partition=main")


def test_what_a_killed_sweep_leaves_is_waited_for(parent, start_stub):
    options = ["--param", "margin=1,2,3", "--jobs", "2"]
    first = start_stub(*options)
    wait_until(lambda: len(list(parent.glob("*/trained"))) == 2)
    first.kill()
    first.communicate()
    second = start_stub(*options)
    for _ in range(3):
        line = second.stdout.readline()
    assert re.match(r"margin_2: in use by process \d+ on .*; waiting for it\n", line)
    (parent / "go").touch()
    out = second.communicate(timeout=60)[0]
    assert second.returncode == 0, out
    assert set(statuses(parent).values()) == {"finished"} and len(statuses(parent)) == 3
    assert [path.read_text() for path in parent.glob("*/trained")] == ["begun\n"] * 3
    assert "3 experiments" in out and "failed" not in out


def test_nothing_is_removed_of_what_a_killed_sweep_still_trains(parent, start_stub):
    first = start_stub("--param", "margin=1,2")
    wait_until(lambda: (parent / "margin_1" / "trained").exists())
    first.kill()
    second = start_stub("--param", "margin=1,2", "--overwrite")
    out = second.communicate(timeout=60)[0]
    assert second.returncode != 0 and "margin_1: in use by process" in out
    assert (parent / "margin_1" / "trained_params.json").exists()


def test_two_sweeps_at_once_train_each_once(parent, start_stub):
    options = ["--param", "margin=1,2,3,4", "--jobs", "2"]
    both = [start_stub(*options), start_stub(*options)]
    wait_until(lambda: len(list(parent.glob("*/trained"))) >= 2)
    (parent / "go").touch()
    for process in both:
        out = process.communicate(timeout=60)[0]
        assert process.returncode == 0, out
    assert [path.read_text() for path in parent.glob("*/trained")] == ["begun\n"] * 4


def start_sweep(parent, data_dir, *options):
    return subprocess.Popen(
        [sys.executable, "sweep.py", "--parent_dir", parent, "--data_dir", data_dir, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child):
    """Write what a finished training leaves, as far as a sweep reads it."""
    write_params(child)
    child.experiment.start(child.params)
    (child.experiment.model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"')
    child.experiment.save_metrics({"status": "finished", "global_step": 7, "splits": {}})


@pytest.mark.system
def test_interrupted_and_gone_on_with(tmp_path, data_dir):
    """A finished one is trained afresh, which is interrupted; then without --overwrite."""
    parent = make_parent(tmp_path)
    [child] = plan(parent, {"margin": [1]})
    finish(child)
    with start_sweep(parent, data_dir, "--param", "margin=1", "--overwrite") as process:
        deadline = time.monotonic() + 120
        while child.experiment.latest_step() != 0:  # the first checkpoint, no longer the seventh
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert f"{parent}: 1 in the sweep, 0 already trained, 1 to run, 1 at once\n" in out
    assert "SIGINT: waiting for 1 to stop" in out and "margin_1: stopped after" in out
    assert out.split("\n")[-2] == (
        f"stopped by SIGINT; to resume: python sweep.py --parent_dir {parent} "
        f"--data_dir {data_dir} --param margin=1"  # without --overwrite
    )
    assert statuses(parent) == {"margin_1": "stopped"}

    with start_sweep(parent, data_dir, "--param", "margin=1") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert statuses(parent) == {"margin_1": "finished"}
    assert err == ""


def test_the_help_fits_a_screen_and_explains_each_idea(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        sweep.main(["--help"])
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 45
    for idea in ("grid", "search", "Pruning", "budget", "launcher", "examples:", "searching.md"):
        assert idea in text
