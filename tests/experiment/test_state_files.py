"""What a run notes of itself, read back from anybody: typed, bounded, and never a traceback."""

import json
import os
import random

import pytest

from src.errors import UserError
from src.experiment.checkpoint_files import write_state
from src.experiment.experiment import Best, Experiment
from src.experiment.state_files import MAX_BYTES
from src.params.reading import save_params
from src.params.schema import Params

BEST = {
    "metric": "loss",
    "value": 1.5,
    "step": 8,
    "latest_step": 16,
    "num_evaluations_since": 1,
    "loss": 1.5,
}
METRICS = {
    "status": "finished",
    "stopped_early": False,
    "global_step": 16,
    "seconds": 9.5,
    "images_per_second": 100.0,
    "best": {"metric": "loss", "value": 1.5, "step": 8},
    "collapsed": False,
    "evaluated_step": 8,
    "splits": {"test": {"loss": 1.5, "num_examples": 60, "roc_auc": None}},
    "baselines": {"raw_pixels": {"test": {"recall_at_1": 0.5}}},
    "confusions": {"test": {"knn": [[0, 1, 12]]}},
    "thresholds": {"distance": "euclidean", "at": {"eer": {"threshold": None, "why": "no pair"}}},
    "open_set": {
        **{"class_by": "nearest", "distance": "euclidean", "auroc": 0.5},
        **{"calibrated_on": "unseen classes", "num_known": 3, "num_strangers": 2},
        "at": {"fpir_1e-1": {"threshold": 1.5, "reported": {"fpir": 0.0, "dir": 0.5}}},
        "curve": {"fpir": [0.5, 1.0], "dir": [0.0, 1.0]},
        "histograms": {"edges": [0.0, 1.0], "known": [3], "unknown": [2]},
    },
    "class_names": ["a", "b"],
}


@pytest.fixture
def experiment(tmp_path):
    (tmp_path / "best").mkdir()
    return Experiment(tmp_path)


def write_best(experiment, content):
    (experiment.best_dir / "best.json").write_text(json.dumps(content))


def write_metrics(experiment, content):
    experiment.metrics_path.write_text(json.dumps(content))


def test_what_a_run_writes(experiment):
    write_best(experiment, BEST)
    assert experiment.best() == Best(**BEST)
    write_best(experiment, {key: BEST[key] for key in BEST if key != "loss"})  # as of before
    assert experiment.best() == Best("loss", 1.5, 8, 16, 1, None)
    write_metrics(experiment, METRICS)
    assert experiment.metrics() == METRICS
    for best in (Best("eer", None, 0, 0, 0), Best("eer", 1, 2**53, 2**53, 0, loss=0.25)):
        experiment.save_best(best)
        assert experiment.best() == best


WRONG_BEST = {
    "step": ["/../../../victim/x", "8", 8.0, 8.5, -1, 2**53 + 1, True, None, [8], {}, 10**400],
    "latest_step": ["16", -1, True, None, 1e300],
    "num_evaluations_since": ["1", -1, False, None],
    "value": ["1", True, [], {}, 10**400],
    "metric": ["", "accuracy", 1, None, ["loss"], "\x1b[2J", "loss\0"],
    "loss": ["1", True, []],
    "another": [1],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG_BEST.items() for value in values]
)
def test_a_best_that_no_run_writes(experiment, key, value):
    write_best(experiment, {**BEST, key: value})
    with pytest.raises(UserError, match=r"best/best.json: damaged; accepted: .*remove the folder"):
        experiment.best()


@pytest.mark.parametrize("key", sorted(set(BEST) - {"loss"}))
def test_a_best_that_lacks_a_key(experiment, key):
    write_best(experiment, {name: value for name, value in BEST.items() if name != key})
    with pytest.raises(UserError, match="damaged"):
        experiment.best()


WRONG_METRICS = {
    "status": [1, None, "", "x" * 100, "\x1b[31m", "finished\n", ["finished"]],
    "stopped_early": ["no", 1, None],
    "collapsed": ["no", 0],
    "global_step": ["16", 16.0, -1, True, 2**60, "/../x"],
    "evaluated_step": ["8", True],
    "seconds": ["9", -1, None, True, 10**400],
    "images_per_second": ["1", []],
    "best": [[], "x", {"step": "1"}, {"metric": "loss", "value": "1", "step": 1}],
    "splits": [[], None, {"test": 1}, {"test": {"loss": "1"}}, {"test": {"loss": {}}}],
    "thresholds": [[], {}, {"distance": 1, "at": {}}, {"distance": "x", "at": {"eer": 1}}],
    "open_set": [
        *([], {}, {**METRICS["open_set"], "auroc": "1"}, {**METRICS["open_set"], "histograms": {}}),
        {**METRICS["open_set"], "at": {"fpir_1e-1": {"threshold": 1.5}}},
    ],
    "baselines": [[], {"raw": 1}, {"raw": {"test": 1}}, {"raw": {"test": {"loss": "1"}}}],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG_METRICS.items() for value in values]
)
def test_metrics_that_no_run_writes(experiment, key, value):
    write_metrics(experiment, {**METRICS, key: value})
    for use in (experiment.metrics, lambda: experiment.is_finished(Params())):
        with pytest.raises(UserError, match=r"metrics.json: damaged; accepted: .*run it again"):
            use()


@pytest.mark.parametrize("key", ["splits", "global_step"])
def test_without_what_is_shown_of_it_a_training_is_not_finished(experiment, key):
    save_params(experiment.trained_params_path, Params())
    write_state(experiment.model_dir, [16])
    write_metrics(experiment, METRICS)
    assert not experiment.is_finished(Params())  # what was evaluated is not there
    write_best(experiment, BEST)
    assert experiment.is_finished(Params())
    write_metrics(experiment, {name: value for name, value in METRICS.items() if name != key})
    assert not experiment.is_finished(Params())


def test_what_is_not_finite_is_null(experiment):
    nan, infinity = float("nan"), float("inf")
    experiment.save_metrics({**METRICS, "splits": {"test": {"loss": nan, "eer": -infinity}}})
    assert "NaN" not in experiment.metrics_path.read_text()
    assert experiment.metrics()["splits"] == {"test": {"loss": None, "eer": None}}
    experiment.save_best(Best("loss", nan, 1, 1, 0))
    assert experiment.best() == Best("loss", None, 1, 1, 0)
    # As earlier versions wrote it.
    experiment.metrics_path.write_text(
        '{"status": "stopped", "splits": {"test": {"loss": NaN, "eer": -Infinity, "ami": 1e999}}}'
    )
    assert experiment.metrics()["splits"]["test"] == {"loss": None, "eer": None, "ami": None}


FILES = {"best.json": "best", "metrics.json": "metrics", "progress.json": "progress"}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_other_kind(experiment, tmp_path, name):
    path = (experiment.best_dir if name == "best.json" else tmp_path) / name
    makers = [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)]
    makers += [lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40)]
    for make in makers:
        make(path)
        read = getattr(experiment, FILES[name])
        if name == "progress.json":
            assert read() is None
        else:
            with pytest.raises(UserError) as caught:
                read()
            assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
        path.rmdir() if path.is_dir() else path.unlink()
    assert getattr(experiment, FILES[name])() is None


def test_metrics_of_ten_thousand_classes_fit(experiment):
    splits = ("train", "validation", "test")
    confused = [[9999, 8888, 100]] * 10_000  # more images are not asked about
    metrics = {
        **METRICS,
        "class_names": [f"a name of a class as long as it may be {n}" for n in range(10_000)],
        "confusions": {split: {"knn": confused, "class_mean": confused} for split in splits},
    }
    experiment.save_metrics(metrics)
    assert experiment.metrics() == metrics
    assert experiment.metrics_path.stat().st_size < MAX_BYTES["metrics.json"] / 4


def test_damaged_ones_are_set_aside_and_a_training_goes_on(experiment):
    write_best(experiment, {**BEST, "step": "/../../../victim/x"})
    experiment.metrics_path.write_bytes(b'{"stat')
    assert experiment.set_damaged_aside() == [
        f"{experiment.metrics_path}: damaged; set aside in {experiment.model_dir}/damaged; "
        "train.py writes a new one at the end",
        f"{experiment.best_dir}/best.json: damaged; set aside in {experiment.model_dir}/damaged; "
        "the best later checkpoint is kept",
    ]
    assert experiment.metrics() is None and experiment.best() is None
    assert sorted(os.listdir(experiment.model_dir / "damaged")) == ["best", "metrics.json"]
    assert experiment.set_damaged_aside() == []


def test_any_damage_is_one_line(experiment):
    """Each of a thousand files with bits flipped, parts cut out or repeated."""
    rng = random.Random(0)
    write_best(experiment, BEST)
    write_metrics(experiment, METRICS)
    for path, read in (
        (experiment.best_dir / "best.json", experiment.best),
        (experiment.metrics_path, experiment.metrics),
    ):
        content = path.read_bytes()
        for _ in range(500):
            changed = bytearray(content)
            for _ in range(rng.randint(1, 3)):
                start, length = rng.randrange(len(changed)), rng.randint(0, 6)
                changed[start : start + length] = rng.choice(
                    [b"", bytes([rng.randrange(256)]), changed[start : start + 1] * 9, b"[" * 3000]
                )
            path.write_bytes(changed)
            try:
                read()
            except UserError as error:
                assert str(error).startswith(f"{path}: damaged; ") and "\n" not in str(error)
