"""The best checkpoint: which is kept, over restarts too, and when patience ends."""

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest

from model.estimator import estimator, tf
from model.hooks.best_checkpoint import BestCheckpoint
from model.hooks.stopping import StopAfterEvaluation
from model.split_metrics import NAMES
from model.training.build import build_estimator
from model.training.embedding import embed
from src.data.split import Split
from src.errors import UserError
from src.experiment.experiment import Best, Experiment
from src.params.schema import Params

NAN = float("nan")


@pytest.fixture
def experiment(tmp_path):
    return Experiment(tmp_path)


class Kept:
    """A `BestCheckpoint` whose evaluations are given, without exports."""

    def __init__(self, experiment, monkeypatch, **params):
        self.experiment, self.stops, self.exports = experiment, 0, []
        exporter = lambda **options: self  # noqa: E731
        monkeypatch.setattr("model.hooks.best_checkpoint.estimator.BestExporter", exporter)
        params = Params(**params)
        self.best = BestCheckpoint(experiment, params, None, stop=self._stop)
        self.metric = params.best_metric

    def _stop(self):
        self.stops += 1

    def export(self, estimator, export_path, checkpoint_path, eval_result, **options):
        self.exports.append(eval_result["global_step"])

    def evaluate(self, step, value, loss=1.0, num_triplets=9):
        path = self.experiment.model_dir / f"model.ckpt-{step}"
        for ending in ("index", "data-00000-of-00001", "meta"):
            path.with_name(f"{path.name}.{ending}").write_text(f"{step}")
        results = {**dict.fromkeys(NAMES, 0.5), "loss": loss, "global_step": step}
        results |= {"num_valid_triplets": num_triplets, self.metric: value}
        self.best.export(None, "", str(path), results, False)

    def files(self):
        return sorted(path.name for path in self.experiment.best_dir.glob("model.ckpt-*"))


def names_of(step):
    return [f"model.ckpt-{step}.{end}" for end in ("data-00000-of-00001", "index", "meta")]


def test_the_highest_is_kept(experiment, monkeypatch):
    kept = Kept(experiment, monkeypatch)
    for step, value in ((10, 0.5), (20, 0.75), (30, 0.7), (40, 0.6)):
        kept.evaluate(step, value, loss=1 / step)  # which decides between equals alone
    assert experiment.best() == Best("map_at_r_within", 0.75, 20, 40, 2, 1 / 20)
    assert kept.files() == names_of(20)
    assert experiment.best_checkpoint.with_name("model.ckpt-20.index").read_text() == "20"
    assert kept.exports == [10, 20]
    assert kept.stops == 0


@pytest.mark.parametrize("metric", ["map_at_r_within", "eer"])
def test_of_equals_that_of_the_lower_loss_and_then_the_later(experiment, monkeypatch, metric):
    kept = Kept(experiment, monkeypatch, best_metric=metric)
    best = []
    for step, loss in ((10, 0.5), (20, 0.6), (30, 0.4), (40, 0.4), (50, NAN), (60, 0.41)):
        kept.evaluate(step, 0.75, loss)
        best.append(experiment.best().step)
    assert best == [10, 10, 30, 40, 40, 40]
    assert experiment.best() == Best(metric, 0.75, 40, 60, 5, 0.4)  # a tie betters nothing
    assert kept.files() == names_of(40)


def test_of_equals_without_a_loss_the_later(experiment, monkeypatch):
    kept = Kept(experiment, monkeypatch)
    for step, loss in ((10, NAN), (20, NAN), (30, 2.0), (40, NAN)):
        kept.evaluate(step, 0.75, loss)
    assert (experiment.best().step, experiment.best().loss) == (30, 2.0)


def test_patience_ends_a_training_whose_metric_is_saturated(experiment, monkeypatch):
    kept = Kept(experiment, monkeypatch, patience_evaluations=3)
    for step in (10, 20, 30):
        kept.evaluate(step, 1.0, loss=1 / step)
    assert kept.stops == 0 and experiment.best().step == 30
    again = Kept(experiment, monkeypatch, patience_evaluations=3)  # a restart in between
    again.evaluate(40, 1.0, loss=0.01)
    assert again.stops == 1 and experiment.best() == Best("map_at_r_within", 1.0, 40, 40, 3, 0.01)


@pytest.mark.parametrize("metric", ["loss", "map_at_r_within", "roc_auc", "eer"])
def test_where_the_metric_is_not_defined_the_latest_counts(experiment, monkeypatch, metric):
    kept = Kept(experiment, monkeypatch, best_metric=metric, patience_evaluations=2)
    for step in (10, 20, 30, 40):
        kept.evaluate(step, NAN, **({} if metric == "loss" else {"loss": step}))
        best = experiment.best()
        assert (best.value, best.step, best.num_evaluations_since) == (None, step, 0)
        assert kept.files() == names_of(step)
    assert kept.stops == 0
    assert json.loads((experiment.best_dir / "best.json").read_text())["value"] is None
    again = Kept(experiment, monkeypatch, best_metric=metric, patience_evaluations=2)
    again.evaluate(50, NAN)
    assert experiment.best().step == 50 and again.exports == [50]


def test_a_loss_over_no_triplet_is_not_the_lowest(experiment, monkeypatch):
    """The Estimator's own is 0 there."""
    kept = Kept(experiment, monkeypatch, best_metric="loss")
    for step in (10, 20):
        kept.evaluate(step, 0.0, num_triplets=0)
    assert experiment.best() == Best("loss", None, 20, 20, 0, None)


@pytest.mark.parametrize("metric", ["loss", "eer"])
def test_of_a_loss_the_lowest(experiment, monkeypatch, metric):
    kept = Kept(experiment, monkeypatch, best_metric=metric)
    for step, value in ((10, 0.5), (20, 0.75), (30, 0.25)):
        kept.evaluate(step, value)
    assert (experiment.best().step, experiment.best().value) == (30, 0.25)


@pytest.mark.parametrize("metric", ["loss", "map_at_r_within"])
def test_what_is_not_a_number_is_never_better(experiment, monkeypatch, metric):
    kept = Kept(experiment, monkeypatch, best_metric=metric)
    for step, value in ((10, NAN), (20, 0.5), (30, NAN), (40, math.inf), (50, -math.inf)):
        kept.evaluate(step, value)
    assert experiment.best() == replace(experiment.best(), value=0.5, step=20)
    assert experiment.best().num_evaluations_since == 3


def test_a_restart_goes_on_with_what_was_best(experiment, monkeypatch):
    kept = Kept(experiment, monkeypatch)
    kept.evaluate(10, 0.75)
    kept.evaluate(20, 0.5)
    again = Kept(experiment, monkeypatch)
    again.evaluate(20, 0.5)  # evaluated a second time: counts once
    again.evaluate(30, 0.7)
    assert experiment.best() == Best("map_at_r_within", 0.75, 10, 30, 2, 1.0)
    assert again.exports == [] and again.files() == names_of(10)


def test_patience(experiment, monkeypatch, capsys):
    kept = Kept(experiment, monkeypatch, patience_evaluations=2)
    for step, value in ((10, 0.5), (20, 0.4), (30, 0.6), (40, 0.55)):
        kept.evaluate(step, value)
    assert kept.stops == 0 and capsys.readouterr().err == ""
    kept.evaluate(50, 0.1)
    assert kept.stops == 1
    assert capsys.readouterr().err == (
        "step 50: stopping, because 2 evaluations in a row did not improve map_at_r_within 0.6\n"
    )


def test_a_copy_that_broke_off_leaves_the_old_one_in_force(experiment, monkeypatch):
    kept = Kept(experiment, monkeypatch)
    kept.evaluate(10, 0.5)

    def broken(source, target):
        target.write(b"some")
        raise OSError("no space left")

    monkeypatch.setattr("model.hooks.best_checkpoint.shutil.copyfileobj", broken)
    with pytest.raises(UserError, match=r"model.ckpt-20.*: cannot be written; accepted"):
        kept.evaluate(20, 0.75)
    assert experiment.best().step == 10
    assert kept.files() == names_of(10)


def test_an_older_export_does_not_stay_if_a_clock_went_back(experiment, monkeypatch, tmp_path):
    """TensorFlow Serving takes the largest number for the newest version."""
    kept = Kept(experiment, monkeypatch)
    folder = tmp_path / "export" / "best"

    def export(estimator, export_path, checkpoint_path, results, **options):
        path = folder / str(1800000000 - results["global_step"])
        path.mkdir(parents=True)
        return os.fsencode(path)

    kept.export = export
    for step, value in ((10, 0.5), (20, 0.75)):
        path = experiment.model_dir / f"model.ckpt-{step}"
        for ending in ("index", "data-00000-of-00001", "meta"):
            path.with_name(f"{path.name}.{ending}").write_text(f"{step}")
        results = {**dict.fromkeys([*NAMES, "loss"], 0.5), "global_step": step}
        results["num_valid_triplets"] = 9
        kept.best.export(None, str(folder), str(path), results | {kept.metric: value}, False)
    assert os.listdir(folder) == ["1799999980"]


def test_stopping_ends_a_run_at_the_step_that_was_evaluated(tmp_path):
    """In a real `train_and_evaluate`, whose evaluations come every 5 steps."""
    evaluated = []
    stop = StopAfterEvaluation()

    class Third(estimator.Exporter):
        name = "third"

        def export(self, estimator, export_path, checkpoint_path, eval_result, **options):
            evaluated.append(int(eval_result["global_step"]))
            if len(evaluated) == 3:
                stop()

    def model(features, labels, mode):
        weight = tf.compat.v1.get_variable("weight", [])
        loss = tf.square(weight - tf.reduce_mean(features))
        train_op = tf.compat.v1.train.GradientDescentOptimizer(0.1).minimize(
            loss, tf.compat.v1.train.get_global_step()
        )
        return estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    def batches():
        return tf.data.Dataset.from_tensors((np.ones(3, np.float32), np.ones(3))).repeat()

    config = estimator.RunConfig(str(tmp_path), save_checkpoints_steps=5)
    trained = estimator.Estimator(model, config=config)
    estimator.train_and_evaluate(
        trained,
        estimator.TrainSpec(batches, max_steps=50, hooks=[stop]),
        estimator.EvalSpec(
            batches, steps=1, exporters=Third(), start_delay_secs=0, throttle_secs=0
        ),
    )
    assert evaluated == [5, 10, 15]
    assert Experiment(tmp_path).latest_step() == 15


def test_the_exported_model_takes_pixels_and_gives_the_best_embeddings(
    make_experiment, data_dir, monkeypatch
):
    import train

    model_dir = make_experiment(num_epochs=2, best_metric="loss")
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    experiment = Experiment(model_dir)
    params = experiment.trained_params()
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    split = Split(images, np.zeros(5, np.int32), tuple("0123456789"))

    (exported,) = (model_dir / "export" / "best").iterdir()
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    served = serve(images=tf.constant(images))["embeddings"].numpy()
    np.testing.assert_allclose(served, embed(experiment, params, split), rtol=1e-5, atol=1e-6)

    metrics = json.loads((model_dir / "metrics.json").read_text())
    assert metrics["best"]["step"] == metrics["evaluated_step"] == experiment.best().step
    assert metrics["splits"]["validation"]["loss"] == pytest.approx(metrics["best"]["value"])
    assert build_estimator(experiment, params).latest_checkpoint().endswith("model.ckpt-14")
