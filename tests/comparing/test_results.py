"""What experiments have come to: every state that their files can be in."""

import errno
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.comparing.comparison import compare
from src.comparing.results import read_result, read_results
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.params.reading import save_params
from src.params.schema import Params
from src.system.lock import LOCK_FILE

FINISHED = {
    "status": "finished",
    "global_step": 782,
    "seconds": 12.5,
    "splits": {"train": {"loss": 0.25, "recall_at_1": 1}, "test": {"loss": 0.5}},
}


def make(path, params=None, metrics=None, trained=None):
    path.mkdir(parents=True)
    (path / "params.json").write_text(json.dumps(params or {}))
    if metrics is not None:
        (path / "metrics.json").write_text(json.dumps(metrics))
    if trained is not None:
        save_params(path / "trained_params.json", Params(**trained))
    return path


def test_finished(tmp_path):
    path = make(tmp_path / "x", {"margin": 1.0}, FINISHED, trained={"margin": 1.0})
    result = read_result(path)
    assert (result.model_dir, result.status, result.notes) == (path, "finished", ())
    assert result.params == Params(margin=1.0)
    assert result.metrics == {
        "global_step": 782,
        "seconds": 12.5,
        "train.loss": 0.25,
        "train.recall_at_1": 1,
        "test.loss": 0.5,
    }


def test_without_trained_params_those_that_the_user_wrote_count(tmp_path):
    assert read_result(make(tmp_path / "x", {"margin": 2.0}, FINISHED)).params.margin == 2.0


def test_params_that_have_changed_since(tmp_path):
    path = make(tmp_path / "x", {"margin": 2.0}, FINISHED, trained={"margin": 1.0})
    result = read_result(path)
    assert result.params.margin == 1.0  # those that the metrics belong to
    assert result.notes == (f"{path}/params.json: margin is 2 now; the training used 1",)


def test_changed_params_are_shown_as_json(tmp_path):
    now = {"augment": {"shift": 2}, "distance": "cosine", "extra_classes": ["rot90"]}
    path = make(tmp_path / "x", now, FINISHED, trained={"l2_normalize": True})
    notes = [note.partition("params.json: ")[2] for note in read_result(path).notes]
    assert notes[0] == "l2_normalize is false now; the training used true"
    assert "distance is cosine now; the training used null" in notes
    assert 'extra_classes is ["rot90"] now; the training used []' in notes
    assert any(note.startswith('augment is {"shift": 2, ') for note in notes)
    assert not [note for note in notes if "None" in note or "Augment(" in note or "True" in note]


def test_not_trained(tmp_path):
    result = read_result(make(tmp_path / "x"))
    assert (result.status, result.metrics, result.notes) == (Status.NOT_TRAINED, {}, ())


@pytest.mark.parametrize("status", ["diverged", "collapsed", "stopped", "of a later version"])
def test_a_status_is_handed_on_as_it_is(tmp_path, status):
    result = read_result(make(tmp_path / "x", metrics={"status": status, "splits": {}}))
    assert (result.status, result.metrics) == (status, {})


def test_a_training_that_has_died_shows_no_metrics_of_an_earlier_end(tmp_path):
    path = make(tmp_path / "x", metrics={**FINISHED, "status": "running"})
    progress = {"step": 40, "max_steps": 100, "loss": 0.5, "fraction_positive": None}
    Experiment(path).save_progress(progress)
    for file in path.iterdir():
        os.utime(file, (time.time() - 3 * 3600,) * 2)
    result = read_result(path)
    assert (result.status, result.metrics) == (Status.FAILED, {})
    assert result.notes == (
        f"{path}: the training was killed; train.py resumes it: last wrote 3 h ago, "
        "at step 40 of 100",
    )


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ({"pid": 1, "host": "elsewhere"}, Status.PERHAPS_RUNNING),
        ({"pid": 2**22 + 1, "host": socket.gethostname()}, Status.FAILED),
        ("", Status.PERHAPS_RUNNING),
    ],
)
def test_who_holds_the_lock_decides_whether_a_training_goes_on(tmp_path, record, status):
    path = make(tmp_path / "x", metrics={"status": "running"})
    (path / LOCK_FILE).write_text(json.dumps(record))
    assert read_result(path).status == status


def test_running_and_then_killed(tmp_path):
    path = make(tmp_path / "x", metrics={**FINISHED, "status": "running"})
    program = f"""
import pathlib, time
from src.system.lock import one_writer
with one_writer(pathlib.Path({str(path)!r})):
    print("locked", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        result = read_result(path)
        process.kill()
    assert (result.status, result.metrics) == (Status.RUNNING, {})
    (note,) = result.notes
    assert re.fullmatch(re.escape(str(path)) + r": training: last wrote \d+ s ago", note)
    assert read_result(path).status == Status.FAILED
    assert (path / LOCK_FILE).exists()  # nobody was left to remove it


def test_collapsed_at_the_end_of_its_training(tmp_path):
    result = read_result(make(tmp_path / "x", metrics={**FINISHED, "collapsed": True}))
    assert (result.status, result.metrics["test.loss"]) == (Status.COLLAPSED, 0.5)
    result = read_result(make(tmp_path / "y", metrics={**FINISHED, "collapsed": False}))
    assert result.status == "finished"


@pytest.mark.parametrize(
    ("age", "text"),
    [(0, "0 s"), (119, "119 s"), (600, "10 min"), (7260, "2 h"), (10**6, "12 days")],
)
def test_the_age_counts_from_the_newest_file(tmp_path, age, text):
    path = make(tmp_path / "x", metrics={"status": "running"})
    for file in path.iterdir():
        os.utime(file, (time.time() - 10**7,) * 2)
    (path / "events.out.tfevents.1").touch()
    os.utime(path / "events.out.tfevents.1", (time.time() - age + 0.4,) * 2)
    assert read_result(path).notes[0].endswith(f": last wrote {text} ago")


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("params.json", "{", r"x/params.json: line 1, column 2: .*"),
        ("params.json", '{"margn": 1}', r"x/params.json: unknown key 'margn'; did you mean .*"),
        ("params.json", "[]", r"x/params.json: found a list; .*"),
        ("metrics.json", '{"status": "fini', r"x/metrics.json: damaged; .*"),
        ("metrics.json", "{}", r"x/metrics.json: damaged; .*"),
        ("metrics.json", "[1]", r"x/metrics.json: damaged; .*"),
        ("trained_params.json", "", r"x/trained_params.json: line 1, column 1: .*"),
    ],
)
def test_damaged(tmp_path, file, content, expected):
    path = make(tmp_path / "x", metrics=FINISHED)
    (path / file).write_text(content)
    result = read_result(path)
    assert (result.status, result.params, result.metrics) == (Status.DAMAGED, None, {})
    [note] = result.notes
    assert re.search(expected, note)


def test_damaged_in_several_places_makes_a_note_each(tmp_path):
    path = make(tmp_path / "x", {"margin": -1, "seed": "a"})
    assert len(read_result(path).notes) == 2


def test_a_directory_in_place_of_a_file(tmp_path):
    path = make(tmp_path / "x")
    (path / "metrics.json").mkdir()
    result = read_result(path)
    assert result.status == Status.DAMAGED
    assert result.notes == (f"{path}/metrics.json: a directory; accepted: a regular file",)


def test_a_checkpoint_file_that_cannot_be_read_is_damage(tmp_path):
    path = make(tmp_path / "x")
    (path / "checkpoint").mkdir()
    [result] = read_results([tmp_path])
    assert result.status == Status.DAMAGED
    assert result.notes == (f"{path}/checkpoint: a directory; accepted: a regular file",)


@pytest.mark.parametrize(
    "splits",
    [[], None, 3, {"train": []}, {"train": {"loss": "high"}}, {"train": {"loss": {"deep": 1}}}],
)
def test_splits_of_another_form_are_damage(tmp_path, splits):
    metrics = {"status": "finished", "splits": splits}
    assert read_result(make(tmp_path / "x", metrics=metrics)).status == Status.DAMAGED


def test_what_is_no_number_is_no_metric(tmp_path):
    others = {"text": "high", "none": None, "list": [1], "flag": True, "deeper": {"n": 2, "t": ""}}
    metrics = {"status": "finished", "global_step": 1, "splits": {}, **others}
    assert read_result(make(tmp_path / "x", metrics=metrics)).metrics == {
        "global_step": 1,
        "deeper.n": 2,
    }


def test_a_metric_over_nothing_is_none(tmp_path):
    splits = {"test": {"map_at_r_within": None, "num_queries": 0, "loss": 0.5}}
    result = read_result(make(tmp_path / "x", metrics={**FINISHED, "splits": splits}))
    assert {path for path in result.metrics if path.startswith("test.")} == {
        "test.num_queries",
        "test.loss",
    }


def test_an_integer_too_large_to_reckon_with_is_infinite(tmp_path):
    path = make(tmp_path / "x")
    text = '{"status": "finished", "global_step": 1, "splits": {}, "n": {"a": 1%s, "b": -1%s}}'
    (path / "metrics.json").write_text(text % ("0" * 400, "0" * 400))
    metrics = read_result(path).metrics
    assert (metrics["n.a"], metrics["n.b"]) == (math.inf, -math.inf)


def test_numbers_that_are_not_finite_and_deeper_ones(tmp_path):
    path = make(tmp_path / "x")
    (path / "metrics.json").write_text(
        '{"status": "finished", "global_step": 3, "splits": {"test": {"loss": NaN, "eer": 1e999}}, '
        '"baselines": {"raw_pixels": {"test": {"map_at_r": 0.5}}}}'
    )
    assert read_result(path).metrics == {
        "global_step": 3,
        "baselines.raw_pixels.test.map_at_r": 0.5,
    }


def test_found_at_any_depth_each_once_in_order(tmp_path):
    for name in ("b", "a/deep/er", "a/x", ".hidden/x"):
        make(tmp_path / name)
    (tmp_path / "a" / "x" / "projector").mkdir()
    found = read_results([tmp_path, tmp_path / "a", tmp_path / "b", tmp_path / "." / "b"])
    assert [r.model_dir for r in found] == [
        tmp_path / "a/deep/er",
        tmp_path / "a/x",
        tmp_path / "b",
    ]


def test_the_directory_itself_can_be_the_experiment(tmp_path):
    assert [r.model_dir for r in read_results([make(tmp_path / "x")])] == [tmp_path / "x"]


def test_a_parent_without_a_training_of_its_own(tmp_path):
    parent = make(tmp_path / "margins")
    make(parent / "margin_1", metrics=FINISHED)
    make(parent / "margin_2")
    found = {r.model_dir.name: r for r in read_results([tmp_path])}
    assert {name: r.status for name, r in found.items()} == {
        "margins": Status.PARENT,
        "margin_1": "finished",
        "margin_2": Status.NOT_TRAINED,
    }
    assert found["margins"].notes == (f"{parent}: not trained itself; 2 experiments are below it",)


def test_a_parent_that_is_trained_is_an_experiment(tmp_path):
    parent = make(tmp_path / "margins", metrics=FINISHED)
    make(parent / "margin_1")
    assert [r.status for r in read_results([parent])] == ["finished", Status.NOT_TRAINED]


def test_parents_count_those_at_any_depth(tmp_path):
    for name in ("a", "a/b", "a/b/c", "a/b/d", "e"):
        make(tmp_path / name)
    found = {r.model_dir.name: r for r in read_results([tmp_path])}
    assert {name: r.status for name, r in found.items()} == {
        **dict.fromkeys("ab", Status.PARENT),
        **dict.fromkeys("cde", Status.NOT_TRAINED),
    }
    assert "3 experiments are below it" in found["a"].notes[0]
    assert "2 experiments are below it" in found["b"].notes[0]


def test_the_time_is_in_proportion_to_the_experiments(tmp_path):
    """A second for 1500; to look for the parents of each among all takes ten."""
    for i in range(1500):
        make(tmp_path / "sweep" / str(i))
    started = time.process_time()
    assert len(read_results([tmp_path])) == 1500
    assert time.process_time() - started < 4


@pytest.fixture
def shut(monkeypatch):
    """`shut(directory)`: the system does not let it be listed, whoever asks."""
    directories = set()
    scandir = os.scandir

    def refuse(path):
        if Path(path) in directories:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return directories.add


def test_directories_that_cannot_be_read_are_named(tmp_path, shut):
    make(tmp_path / "a")
    make(tmp_path / "z")
    shut(tmp_path / "z" / "deeper")
    shut(tmp_path / "x\x1b[31m")
    (tmp_path / "z" / "deeper").mkdir()
    (tmp_path / "x\x1b[31m").mkdir()
    found = read_results([tmp_path, tmp_path / "z"])  # named once, also if it is met twice
    assert [r.status for r in found] == [
        Status.NOT_TRAINED,
        Status.NOT_TRAINED,
        Status.UNREADABLE,
        Status.UNREADABLE,
    ]
    assert [r.notes for r in found[2:]] == [
        (f"{tmp_path}/x\\x1b[31m: Permission denied",),
        (f"{tmp_path}/z/deeper: Permission denied",),
    ]
    assert [row.name for row in compare(found).rows] == ["a", "z"]
    assert len(compare(found).notes) == 2


def test_nothing_but_what_cannot_be_read(tmp_path, shut):
    shut(tmp_path)
    with pytest.raises(UserError, match=r": Permission denied; accepted: an experiment, or"):
        read_results([tmp_path])


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: found no directory; accepted: "):
        read_results([make(tmp_path / "x"), tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: found no params.json; accepted: "):
        read_results([tmp_path / "empty"])


def test_checkpoints_without_metrics_are_a_training_that_was_cut_off(tmp_path):
    path = make(tmp_path / "x")
    assert read_result(path).status == Status.NOT_TRAINED
    (path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-12"\n')
    (path / "model.ckpt-12.index").write_bytes(b"")
    (path / "model.ckpt-12.data-00000-of-00001").write_bytes(b"")
    result = read_result(path)
    assert result.status == Status.FAILED and result.metrics == {}
    assert result.notes == (
        f"{path}/metrics.json: not found, but there is a checkpoint of step 12; train.py resumes "
        "or evaluates it",
    )
