"""The files in an experiment's directory: refuse or resume, finished or not, overwrite."""

import json
import os

import pytest
from experiment_files import FOREIGN, GENERATED, files, write_checkpoint

from src.errors import UserError
from src.experiment import experiment as experiment_module
from src.experiment.experiment import Best, Experiment
from src.params.reading import load_params, save_params
from src.params.schema import MAY_CHANGE_KEYS, Augment, ExtraDataset, Params


@pytest.fixture
def experiment(tmp_path):
    model_dir = tmp_path / "experiment"
    model_dir.mkdir()
    (model_dir / "params.json").write_text("{}")
    return Experiment(model_dir)


def train(experiment, params, step=782, seconds=1.0, finish=True):
    """Write what `train.py` writes, up to the end or up to its being killed."""
    experiment.start(params)
    write_checkpoint(experiment, step)
    if finish:
        experiment.save_metrics(
            {"status": "finished", "global_step": step, "seconds": seconds, "splits": {}}
        )


def refusal(experiment, params):
    with pytest.raises(UserError) as caught:
        experiment.check_resumable(params)
    text = str(caught.value)
    assert "\n" not in text and "accepted: " in text and "--overwrite" in text
    return text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_files(tmp_path):
    experiment = Experiment(tmp_path)
    assert experiment.params_path == tmp_path / "params.json"
    assert experiment.trained_params_path == tmp_path / "trained_params.json"
    assert experiment.metrics_path == tmp_path / "metrics.json"
    assert experiment.progress_path == tmp_path / "progress.json"
    assert experiment.log_path == tmp_path / "tensorflow.log"
    assert experiment.projector_dir("test") == tmp_path / "projector" / "test"


def test_no_checkpoint(experiment):
    assert experiment.latest_step() is None
    assert Experiment(experiment.model_dir / "nothing").latest_step() is None


@pytest.mark.parametrize("prefix", ["", "/home/me/runs-12/margin_0.5-3/", "../model.ckpt-9/", "./"])
@pytest.mark.parametrize("step", [0, 1, 782, 1234567])
def test_latest_step(experiment, step, prefix):
    write_checkpoint(experiment, step, prefix)
    assert experiment.latest_step() == step


def test_the_latest_step_is_the_one_named_first_not_the_highest(experiment):
    (experiment.model_dir / "checkpoint").write_text(
        'model_checkpoint_path: "model.ckpt-782"\n'
        'all_model_checkpoint_paths: "model.ckpt-0"\n'
        'all_model_checkpoint_paths: "model.ckpt-782"\n'
        'all_model_checkpoint_paths: "model.ckpt-9000"\n'
        "all_model_checkpoint_timestamps: 1795351884.12-5\n"
    )
    assert experiment.latest_step() == 782


def test_latest_step_of_an_empty_state(experiment):
    (experiment.model_dir / "checkpoint").write_text("")
    assert experiment.latest_step() is None


def test_fresh_directory_is_resumable(experiment):
    experiment.check_resumable(Params())


def test_same_params_are_resumable(experiment):
    train(experiment, Params(margin=2.0))
    experiment.check_resumable(Params(margin=2.0))
    experiment.check_resumable(Params(margin=2))


def test_defaults_written_out_are_the_same_params(experiment):
    train(experiment, Params())
    experiment.check_resumable(Params(margin=0.5, dataset="mnist", seed=0))


@pytest.mark.parametrize("key", sorted(MAY_CHANGE_KEYS))
def test_changed_durations_are_resumable(experiment, key):
    # A copy is not checked: some keys go with one dataset only.
    others = {"image_cache": "elsewhere", "live_figures": ("progress",)}
    changed = Params().model_copy(update={key: others.get(key, 7)})
    train(experiment, Params())
    experiment.check_resumable(changed)


def test_changed_params_are_refused(experiment):
    train(experiment, Params(margin=0.5, triplet_strategy="batch_all"), finish=False)
    text = refusal(experiment, Params(margin=1.5, triplet_strategy="batch_hard", num_epochs=7))
    assert text.startswith(f"{experiment.params_path}: ")
    assert "margin (now 1.5, trained with 0.5)" in text
    assert 'triplet_strategy (now "batch_hard", trained with "batch_all")' in text
    assert "num_epochs" not in text and "seed" not in text


LETTERS = (ExtraDataset(dataset="npz", npz_file="letters.npz"),)


@pytest.mark.parametrize("key", sorted(set(Params.model_fields) - MAY_CHANGE_KEYS))
def test_every_other_key_makes_another_experiment(experiment, key):
    old = getattr(Params(), key)
    new = {bool: not old, int: 3, float: 0.25, str: "another"}.get(type(old), "another")
    new = {
        "augment": Augment(shift=1),
        "extra_classes": ("rot90",),
        "extra_data": LETTERS,
        "hidden_sizes": (64,),
        "holdout_classes": [1, 2],
        "classes_per_batch": 3,
        "examples_per_class": 3,
        "input_size": 64,
    }.get(key, new)
    train(experiment, Params())
    changed = Params().model_copy(update={key: new})
    as_json = {
        Augment(shift=1): '{"shift": 1}',
        Augment(): "{}",
        LETTERS: '[{"dataset": "npz", "npz_file": "letters.npz"}]',
    }
    new, old = (
        as_json[value] if value in (Augment(shift=1), Augment(), LETTERS) else json.dumps(value)
        for value in (new, old)
    )
    assert f": {key} (now {new}, trained with {old});" in refusal(experiment, changed)


def test_checkpoints_of_another_program_are_refused(experiment):
    write_checkpoint(experiment, 782)
    text = refusal(experiment, Params())
    assert text.startswith(f"{experiment.model_dir}: ") and "trained_params.json" in text


def test_params_without_a_checkpoint_bind_nobody(experiment):
    # Killed before the first checkpoint.
    experiment.start(Params(margin=0.5))
    experiment.check_resumable(Params(margin=1.5))


BEST = Best("map_at_r_within", 0.75, step=391, latest_step=782, num_evaluations_since=2)


def test_the_best_is_evaluated_and_else_the_latest(experiment):
    assert experiment.evaluated_step() is experiment.best() is experiment.best_checkpoint is None
    write_checkpoint(experiment, 782)
    assert experiment.evaluated_step() == 782
    experiment.save_best(BEST)
    assert experiment.best() == BEST
    assert experiment.evaluated_step() == 391
    assert experiment.best_checkpoint == experiment.model_dir / "best" / "model.ckpt-391"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"step": 1}', '{"metric"'])
def test_a_damaged_best_is_named(experiment, content):
    experiment.best_dir.mkdir()
    (experiment.best_dir / "best.json").write_text(content)
    with pytest.raises(UserError, match="best.json: damaged; accepted: "):
        experiment.best()


@pytest.mark.parametrize(
    ("patience", "finished"), [(1, True), (2, True), (3, False), (None, False)]
)
def test_stopped_early_is_finished_unless_there_is_more_patience(experiment, patience, finished):
    train(experiment, Params(num_epochs=10, patience_evaluations=2))
    experiment.save_best(BEST)
    experiment.save_metrics({**experiment.metrics(), "stopped_early": True})
    params = Params(num_epochs=10, patience_evaluations=patience)
    assert experiment.stopped_early(params) == finished
    assert experiment.is_finished(params) == finished


def test_metrics_are_written_with_a_row_of_a_matrix_on_a_line(experiment):
    metrics = {
        "status": "running",
        "confusions": {"test": {"knn": [[980, 0], [-1, 1.5e-3]]}},
        "names": ["[1,\n 2]"],
        "empty": [],
    }
    experiment.save_metrics(metrics)
    assert experiment.metrics() == metrics
    assert "[ 980, 0 ]" in experiment.metrics_path.read_text()


def test_damaged_trained_params_are_named(experiment):
    train(experiment, Params())
    experiment.trained_params_path.write_text('{"margin": ')
    with pytest.raises(UserError, match="trained_params.json: line 1, column "):
        experiment.check_resumable(Params())


def test_untouched_is_not_finished(experiment):
    assert not experiment.is_finished(Params())


def test_finished(experiment):
    train(experiment, Params(num_epochs=10))
    assert experiment.is_finished(Params(num_epochs=10))


def test_with_fewer_epochs_it_is_still_finished(experiment):
    train(experiment, Params(num_epochs=10))
    assert experiment.is_finished(Params(num_epochs=9))


def test_with_more_epochs_it_is_not_finished(experiment):
    train(experiment, Params(num_epochs=10))
    assert not experiment.is_finished(Params(num_epochs=11))


def test_killed_while_running_is_not_finished(experiment):
    train(experiment, Params(), finish=False)
    assert not experiment.is_finished(Params())


def test_killed_in_the_second_run_is_not_finished(experiment):
    train(experiment, Params(num_epochs=10))
    train(experiment, Params(num_epochs=20), finish=False)
    assert not experiment.is_finished(Params(num_epochs=20))
    assert not experiment.is_finished(Params(num_epochs=10))


def test_without_its_checkpoints_it_is_not_finished(experiment):
    train(experiment, Params())
    (experiment.model_dir / "checkpoint").unlink()
    assert not experiment.is_finished(Params())


def test_without_metrics_it_is_not_finished(experiment):
    train(experiment, Params())
    experiment.metrics_path.unlink()
    assert not experiment.is_finished(Params())


@pytest.mark.parametrize("content", ["", '{"status": "fini', "[]", "{}", "null", "\x00\x00"])
def test_damaged_metrics(experiment, content):
    train(experiment, Params())
    experiment.metrics_path.write_text(content)
    for use in (experiment.is_finished, experiment.start):
        with pytest.raises(UserError) as caught:
            use(Params())
        text = str(caught.value)
        assert text.startswith(f"{experiment.metrics_path}: ") and "\n" not in text


def test_metrics_round_trip(experiment):
    assert experiment.metrics() is None
    metrics = {"status": "stopped", "seconds": 0.1, "splits": {"test": {"loss": 1e-9}}}
    experiment.save_metrics(metrics)
    assert experiment.metrics() == metrics
    assert json.loads(experiment.metrics_path.read_text()) == metrics


def test_start_notes_params_and_state(experiment):
    assert experiment.start(Params(margin=2.0)) == 0
    assert experiment.metrics()["status"] == "running"
    write_checkpoint(experiment, 0)
    assert experiment.trained_params() == Params(margin=2.0)
    assert experiment.params_path.read_text() == "{}"


def test_start_keeps_the_seconds(experiment):
    train(experiment, Params(num_epochs=10), seconds=12.5)
    assert experiment.start(Params(num_epochs=20)) == 12.5
    assert experiment.metrics()["seconds"] == 12.5
    assert experiment.start(Params(num_epochs=20)) == 12.5  # killed in between


def test_a_start_that_is_interrupted_does_not_make_a_longer_training_finished(
    experiment, monkeypatch
):
    train(experiment, Params(num_epochs=10))
    longer = Params(num_epochs=20)
    for function in ("save_metrics", "save_params"):
        with monkeypatch.context() as patch:
            of = Experiment if function == "save_metrics" else experiment_module
            patch.setattr(of, function, lambda *_: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                experiment.start(longer)
        assert not experiment.is_finished(longer)


def test_what_is_known_of_a_checkpoint(experiment):
    """Metrics of an earlier run, or of another checkpoint, are not those of the one shown."""
    assert experiment.evaluation_of(5) == {}
    ended = {"status": "finished", "global_step": 9, "seconds": 1.0, "splits": {"test": {}}}
    experiment.save_metrics(ended)  # by a version that did not note the step
    assert experiment.evaluation_of(5) == ended
    for status in ("finished", "collapsed"):
        content = {**ended, "status": status, "evaluated_step": 5}
        experiment.save_metrics(content)
        assert experiment.evaluation_of(5) == content and experiment.evaluation_of(7) == {}
    for status in ("running", "stopped"):
        experiment.save_metrics({**ended, "status": status, "evaluated_step": 5})
        assert experiment.evaluation_of(5) == {}
        noted = {"global_step": 7, "map_at_r_within": 0.5}
        experiment.note_evaluation(noted)
        assert experiment.evaluation_of(5) == {}
        assert experiment.evaluation_of(7) == {"splits": {"validation": noted}}


def test_start_creates_the_directory(tmp_path):
    experiment = Experiment(tmp_path / "a" / "b")
    experiment.start(Params())
    assert names(experiment.model_dir) == ["metrics.json", "trained_params.json"]


def test_trained_params_round_trip(experiment):
    params = Params(margin=0.1 + 0.2, squared=True, image_size=28, num_epochs=3)
    train(experiment, params)
    assert experiment.trained_params() == params
    assert set(json.loads(experiment.trained_params_path.read_text())) == set(Params.model_fields)


def test_trained_params_of_nothing_trained(experiment):
    save_params(experiment.trained_params_path, Params())
    with pytest.raises(UserError, match="no checkpoint found; accepted: ") as caught:
        experiment.trained_params()
    assert f"train.py --model_dir {experiment.model_dir}" in str(caught.value)


# The names as a run left them.
def test_overwrite_removes_what_a_run_writes_and_nothing_else(experiment):
    for name in GENERATED + FOREIGN:
        path = experiment.model_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    experiment.overwrite()
    assert files(experiment.model_dir) == sorted(FOREIGN)
    assert not (experiment.model_dir / "projector").exists()
    assert not (experiment.model_dir / "eval_test").exists()


def test_overwrite_does_not_follow_links_out_of_the_directory(experiment, tmp_path):
    outside = tmp_path / "outside"
    (outside / "test").mkdir(parents=True)
    (outside / "test" / "precious").write_text("kept")
    links = {
        "projector": outside,
        "eval_test": outside / "test",
        "events.out.tfevents.1.vm": outside / "test" / "precious",
    }
    for name, target in links.items():
        (experiment.model_dir / name).symlink_to(target)
    (experiment.model_dir / "eval_train").mkdir()
    (experiment.model_dir / "eval_train" / "link").symlink_to(outside)
    experiment.overwrite()
    assert names(experiment.model_dir) == ["params.json"]
    assert (outside / "test" / "precious").read_text() == "kept"


def test_overwrite_removes_links_that_lead_nowhere(experiment, tmp_path):
    link = experiment.model_dir / "model.ckpt-1.index"
    link.symlink_to(tmp_path / "nothing")
    experiment.overwrite()
    assert not os.path.lexists(link)


@pytest.mark.parametrize(
    "name",
    [
        *["m[1]", "m]", "m*", "m?", "a\\b", "a\nb", "a\tb", "\udcff", "\0"],
        *["a\x1b[2J", "a\u202eb", "a\u2066b", "a\u2028b", "a\x9bb"],
    ],
)
def test_a_path_that_tensorflow_cannot_open_is_refused(tmp_path, name):
    for path in (tmp_path / name, tmp_path / name / "experiment"):
        with pytest.raises(UserError) as caught:
            Experiment(path)
        text = str(caught.value)
        assert "accepted: " in text and "\n" not in text
        text.encode()


OPENED = ["a b", "a,b", "a:b", "\u00fc\u65e5", "{a}", "$HOME", "a'b", '"', "#&%"]


@pytest.mark.parametrize("name", OPENED)
def test_other_paths_are_not(tmp_path, name):
    assert Experiment(tmp_path / name).metrics_path == tmp_path / name / "metrics.json"


def test_a_file_is_no_experiment(tmp_path):
    (tmp_path / "params.json").write_text("{}")
    with pytest.raises(UserError, match="json: found a file; accepted: a directory with a params"):
        Experiment(tmp_path / "params.json")


def test_below_a_file_there_is_no_experiment_either(tmp_path):
    (tmp_path / "file").write_text("{}")
    with pytest.raises(UserError, match="file/x/params.json: Not a directory; accepted: "):
        load_params(Experiment(tmp_path / "file" / "x").params_path)


def test_overwrite_of_nothing(experiment):
    experiment.overwrite()
    assert names(experiment.model_dir) == ["params.json"]


def test_after_overwrite_all_is_as_if_never_run(experiment):
    train(experiment, Params(margin=0.5), seconds=99.0)
    experiment.overwrite()
    experiment.check_resumable(Params(margin=1.5))
    assert not experiment.is_finished(Params(margin=0.5))
    assert experiment.latest_step() is None
    assert experiment.start(Params(margin=1.5)) == 0


def test_progress(experiment):
    assert experiment.progress() is None
    progress = {"step": 3, "max_steps": 9, "loss": 1.5, "fraction_positive": 0.25}
    experiment.save_progress(progress)
    assert experiment.progress() == progress
    experiment.overwrite()
    assert experiment.progress() is None


WRONG_PROGRESS = [
    *("", "{", "[]", "3", "\xff", "{}", '{"step": 1}', "[" * 10**5),
    '{"step": true, "max_steps": 9, "loss": 1, "fraction_positive": 0}',
    '{"step": 1, "max_steps": "9", "loss": 1, "fraction_positive": 0}',
    '{"step": 1, "max_steps": 9, "loss": 1, "fraction_positive": 0, "images_per_second": "x"}',
]


@pytest.mark.parametrize("content", WRONG_PROGRESS)
def test_progress_that_cannot_be_read_is_none(experiment, content):
    experiment.progress_path.write_bytes(content.encode("latin-1"))
    assert experiment.progress() is None


def test_checkpoints_are_listed_by_step_the_untrained_first(tmp_path):
    experiment = Experiment(tmp_path)
    assert experiment.checkpoints() == {}
    for name in ("model.ckpt-30", "model.ckpt-4", "untrained/model.ckpt-0", "best/model.ckpt-8"):
        path = tmp_path / f"{name}.index"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert experiment.checkpoints() == {
        0: tmp_path / "untrained" / "model.ckpt-0",
        4: tmp_path / "model.ckpt-4",
        8: tmp_path / "best" / "model.ckpt-8",
        30: tmp_path / "model.ckpt-30",
    }
