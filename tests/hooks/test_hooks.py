"""The hooks, in runs whose losses are scripted step by step, and in tiny real trainings."""

import io
import json
import math
from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from model.estimator import estimator, keras, tf
from model.hooks.alarms import CollapseAlarm, DivergenceGuard, FiniteCheckpoints
from model.hooks.progress import ProgressBar, ProgressFile
from model.hooks.report import EvaluationReport
from model.split_metrics import COUNTS, NAMES
from src.errors import TrainingDiverged
from src.experiment.experiment import Experiment
from src.experiment.tags import name_of
from src.mining.distances import PERCENTILES, percentiles_of_distances
from src.registry import TRIPLET_STRATEGIES, look_up

LOG2 = math.log(2)
NAN, INF = math.nan, math.inf


def scalars(model_dir, name):
    """{step: value} of a curve in the event files."""
    tf.compat.v1.summary.FileWriterCache.clear()  # closes, so flushes
    return {
        event.step: value.simple_value
        for path in sorted(model_dir.glob("events.out.tfevents.*"))
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if name_of(value.tag) == name
    }


def scripted_run(hooks, losses, medians=None, *, fractions=None, start=0, batch_size=4):
    """Run a step per loss, each seen by the hooks; return how many steps ran."""
    medians = medians or [1.0] * len(losses)
    with tf.Graph().as_default():
        step = tf.compat.v1.train.get_or_create_global_step()
        index = tf.identity(step) - start
        with tf.name_scope("progress"):
            loss = tf.gather(tf.constant(losses, tf.float32), index, name="loss")
            median = tf.gather(tf.constant(medians, tf.float32), index, name="median_distance")
            fractions = tf.constant(fractions or [0.25] * len(losses), tf.float32)
            tf.gather(fractions, index, name="fraction_positive")
            tf.constant(batch_size, name="batch_size")
        with tf.control_dependencies([loss, median]):
            train_op = step.assign_add(1).op
        # Where a run is resumed, its checkpoint says at which step.
        scaffold = tf.compat.v1.train.Scaffold(init_op=step.assign(start))
        ran = 0
        with tf.compat.v1.train.MonitoredSession(
            tf.compat.v1.train.ChiefSessionCreator(scaffold), hooks=hooks
        ) as session:
            while ran < len(losses) and not session.should_stop():
                session.run(train_op)
                ran += 1
    return ran


def alarm(margin=0.5, distance="euclidean", every_steps=1, **options):
    return CollapseAlarm(margin=margin, distance=distance, every_steps=every_steps, **options)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show_on_terminal(monkeypatch):
    """Put a terminal in the place of stderr, on which bars show at once, and each step."""
    monkeypatch.setattr("src.system.progress.DELAY", 0)
    monkeypatch.setattr("src.system.progress.tqdm", partial(tqdm, mininterval=0))
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    return terminal


class TestProgressBar:
    def test_summary_and_postfix(self, tmp_path, monkeypatch):
        terminal = show_on_terminal(monkeypatch)
        bar = ProgressBar("train", 40, seen=12, model_dir=str(tmp_path), save_summary_steps=2)
        scripted_run([bar], [0.5, 0.25, 0.125, 1.0, 2.0])
        *drawn, last = terminal.getvalue().rstrip("\r").split("\r")
        assert any("train:  40%" in text and "16.0/40.0" in text for text in drawn), drawn
        assert any("loss 0.2500, fraction_positive 0.2500" in text for text in drawn), drawn
        assert last.strip() == ""  # and is gone at the end
        speeds = scalars(tmp_path, "images_per_second")
        assert sorted(speeds) == [2, 4]
        assert all(speed > 0 for speed in speeds.values())

    def test_a_step_without_a_triplet_shows_a_dash(self, monkeypatch):
        terminal = show_on_terminal(monkeypatch)
        scripted_run([ProgressBar("train", 8)], [0.0, 0.5], fractions=[NAN, 0.75])
        assert "loss -, fraction_positive -" in terminal.getvalue()
        assert "loss 0.5000, fraction_positive 0.7500" in terminal.getvalue()

    def test_counts_images_from_the_step_of_the_checkpoint(self, tmp_path, monkeypatch):
        images = []
        monkeypatch.setattr("tqdm.tqdm.update", lambda bar, n: images.append(n))
        bar = ProgressBar("train", 40, seen=28, model_dir=str(tmp_path), save_summary_steps=2)
        scripted_run([bar], [0.5] * 3, start=7)
        assert images == [4, 4, 4]
        assert sorted(scalars(tmp_path, "images_per_second")) == [8, 10]

    def test_without_a_directory_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        scripted_run([ProgressBar("evaluate", 8)], [0.5, 0.5])
        assert list(tmp_path.rglob("*")) == []

    def test_close_where_a_run_breaks_off_or_never_began(self, monkeypatch):
        terminal = show_on_terminal(monkeypatch)
        bar = ProgressBar("train", 40)
        bar.close()
        assert terminal.getvalue() == ""
        with pytest.raises(TrainingDiverged):
            scripted_run([DivergenceGuard(), bar], [0.5, NAN])
        assert terminal.getvalue().split("\r")[-1].strip() != ""
        bar.close()
        bar.close()
        assert terminal.getvalue().rstrip("\r").split("\r")[-1].strip() == ""


class TestCollapseAlarm:
    @pytest.mark.parametrize(
        ("margin", "at_margin", "named"),
        [(0.5, 0.5, "the margin, 0.5"), (3.0, 3.0, "the margin, 3"), ("soft", LOG2, "log 2")],
    )
    def test_fires_where_all_embeddings_are_equal(self, tmp_path, capsys, margin, at_margin, named):
        hook = alarm(margin, model_dir=str(tmp_path))
        ran = scripted_run([hook], [1.1 * at_margin] + 7 * [at_margin], [0.8] + 7 * [0.0])
        assert ran == 8
        assert hook.collapsed
        assert scalars(tmp_path, "collapsed") == {1: 0, **{step: 1 for step in range(2, 9)}}
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("warning") == 1  # and not at each look
        first, second = err.splitlines()
        assert "step 4: the embeddings have collapsed to a point: median distance 0" in first
        assert named in first
        assert "stop" not in first
        for key in ("learning_rate", "triplet_strategy", "warmup_strategy", "margin"):
            assert key in second
        assert ("margin (a number)" in second) == (margin == "soft")

    def test_without_a_margin_the_distances_tell(self, capsys):
        hook = alarm(None, "cosine")
        scripted_run([hook], [3.0] * 6, [0.8, 0.1, 3e-4, 3e-4, 3e-4, 3e-4])
        assert hook.collapsed
        err = capsys.readouterr().err
        assert "median distance 0.0003, loss 3" in err
        assert "margin" not in err
        spread = alarm(None, "cosine")
        scripted_run([spread], [3.0] * 6, [0.8] + 5 * [0.003])  # 0.0025 of the start: 0.002
        assert not spread.collapsed

    def test_stop_ends_the_run(self, tmp_path, capsys):
        hook = alarm(model_dir=str(tmp_path), stop=True)
        assert scripted_run([hook], [0.6] + 20 * [0.5], [0.8] + 20 * [1e-4]) == 4
        assert hook.collapsed
        assert scalars(tmp_path, "collapsed") == {1: 0, 2: 1, 3: 1, 4: 1}
        assert "stopping, because stop_on_collapse is true" in capsys.readouterr().err

    def test_a_resumed_run_knows_of_a_collapse_and_warns_once_more(self, capsys):
        hook = alarm(had_collapsed=True)
        assert hook.collapsed
        scripted_run([hook], [0.5] * 3, [0.0] * 3)
        assert hook.collapsed and capsys.readouterr().err.count("warning") == 1
        recovered = alarm(had_collapsed=True)
        scripted_run([recovered], [0.4], [0.7])
        assert not recovered.collapsed

    def test_looks_at_the_first_step_and_every_so_many(self, tmp_path):
        scripted_run([alarm(every_steps=5, model_dir=str(tmp_path))], [0.4] * 12)
        assert sorted(scalars(tmp_path, "collapsed")) == [1, 5, 10]

    def test_fetches_the_median_only_to_look(self):
        asked = []

        class Recorded(CollapseAlarm):
            def before_run(self, run_context):
                args = super().before_run(run_context)
                asked.append(args is not None)
                return args

        hook = Recorded(margin=0.5, distance="euclidean", every_steps=3)
        scripted_run([hook], [0.4] * 7)
        assert asked == [True, False, True, False, False, True, False]

    @pytest.mark.parametrize(
        ("losses", "medians"),
        [
            # healthy: the loss falls, the distances grow
            (np.linspace(0.5, 0.1, 9), np.linspace(0.3, 1.2, 9)),
            # learnt: loss 0, classes as tight as points (yet most pairs are of two classes)
            ([0.4] + 8 * [0.0], [0.3] + 8 * [1.4]),
            # learnt, with as few classes as make the median a distance within one
            ([0.4] + 8 * [0.0], [0.3] + 8 * [1e-6]),
            ([0.4] + 8 * [0.2], [0.3] + 8 * [1e-6]),
            # a hard start: the loss stands at the margin, the embeddings are apart
            (9 * [0.5], [0.3] + 8 * [0.06]),
            # a dip that recovers, measured on MNIST with batch-hard
            (9 * [0.503], [0.41, 0.02, 0.0081, 0.0085, 0.0113, 0.0195, 0.04, 0.17, 0.3]),
            # small from the start, as the mean over many dimensions is beside the margin
            (9 * [0.5], 9 * [1e-5]),
            # NaN is not collapse
            (9 * [NAN], 8 * [NAN] + [0.5]),
        ],
    )
    def test_keeps_quiet(self, tmp_path, capsys, losses, medians):
        hook = alarm(model_dir=str(tmp_path), stop=True)
        assert scripted_run([hook], list(losses), list(medians)) == 9
        assert not hook.collapsed
        assert capsys.readouterr().err == ""
        assert len(scalars(tmp_path, "collapsed")) >= 1

    def test_a_batch_of_one_image_is_passed_over(self, tmp_path, capsys):
        """It has no distance, at the first step and in a collapse as well."""
        medians = [NAN, 0.8, 0.0, NAN, 0.0, 0.0]
        hook = alarm(model_dir=str(tmp_path), stop=True)
        assert scripted_run([hook], [0.0, 0.6, 0.5, 0.0, 0.5, 0.5], medians) == 6
        assert hook.collapsed
        assert scalars(tmp_path, "collapsed") == {2: 0, 3: 1, 5: 1, 6: 1}

    def test_once_per_collapse(self, tmp_path, capsys):
        medians = [0.8] + 5 * [0.0] + [0.7] + 4 * [0.0] + [0.7]
        hook = alarm(model_dir=str(tmp_path))
        scripted_run([hook], [0.5] * 12, medians)
        assert not hook.collapsed
        assert capsys.readouterr().err.count("warning") == 2
        assert scalars(tmp_path, "collapsed")[7] == 0

    def test_a_batch_without_a_triplet_is_passed_over(self, tmp_path):
        hook = alarm(model_dir=str(tmp_path), stop=True)
        assert scripted_run([hook], [0.6, 0.5, 0.0, 0.5, 0.0, 0.5, 0.5], [0.8] + 6 * [0.0]) == 6
        assert sorted(scalars(tmp_path, "collapsed")) == [1, 2, 4, 6]

    def test_a_strategy_that_finds_no_triplets_in_an_exact_collapse(self, tmp_path):
        """Of easy_positive, none is farther away than the positive if all are at 0."""
        losses, medians = [0.6, 0.0, 0.0, 0.0, 0.0], [0.8, 1e-9, 0.0, 0.0, 0.0]
        hook = alarm(model_dir=str(tmp_path), stop=True, has_loss_in_collapse=False)
        assert scripted_run([hook], losses, medians) == 5
        assert hook.collapsed and scalars(tmp_path, "collapsed") == {1: 0, 3: 1, 4: 1, 5: 1}

    @pytest.mark.parametrize(
        ("distance", "medians", "fires"),
        [
            # 0.02 and 0.05 as lengths: 0.01 of a margin of 0.5, and 0.04 of a start of 0.8
            ("euclidean", (0.8, 0.009), True),
            ("euclidean", (0.8, 0.011), False),
            ("euclidean", (0.1, 0.006), False),
            # their squares: 2e-4 of the margin, and 0.0025 of the start
            *((name, (0.8, 1.9e-4), True) for name in ("squared_euclidean", "cosine")),
            *((name, (0.8, 2.1e-4), False) for name in ("squared_euclidean", "cosine")),
            ("mean_squared", (4e-3, 9e-6), True),
            ("mean_squared", (4e-3, 1.1e-5), False),
        ],
    )
    def test_shares(self, distance, medians, fires):
        hook = alarm(distance=distance)
        scripted_run([hook], [0.5] * 6, [medians[0]] + 5 * [medians[1]])
        assert hook.collapsed == fires

    def test_a_run_resumed_in_collapse(self, tmp_path):
        hook = alarm(every_steps=5, model_dir=str(tmp_path), stop=True)
        assert scripted_run([hook], [0.5] * 40, [1e-3] * 40, start=12) == 13
        assert sorted(scalars(tmp_path, "collapsed")) == [15, 20, 25]


def batches(seed=0, *, can_be_learnt=True):
    """Images of noise, of four classes; where these can be learnt, a part of each is brighter."""

    def generate():
        rng = np.random.default_rng(seed)
        while True:
            labels = rng.permutation(32).astype(np.int32) % 4
            images = rng.random((32, 4, 4), np.float32)
            if can_be_learnt:
                images[np.arange(32), labels] += 1.0
            yield images.reshape(32, 16), labels

    signature = (tf.TensorSpec([32, 16], tf.float32), tf.TensorSpec([32], tf.int32))
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def triplet_model(features, labels, mode, params):
    """A real training: two dense layers, a strategy, Adam."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(8)])
    embeddings = network(features)
    strategy = look_up(TRIPLET_STRATEGIES, params["strategy"])
    triplets = strategy(labels, embeddings, margin=params["margin"], distance=params["distance"])
    percentiles = tf.numpy_function(
        partial(percentiles_of_distances, distance=params["distance"]), [embeddings], tf.float32
    )
    with tf.name_scope("progress"):
        loss = tf.identity(triplets.loss, name="loss")
        tf.identity(percentiles[PERCENTILES.index(50)], name="median_distance")
    optimizer = tf.compat.v1.train.AdamOptimizer(params["learning_rate"])
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_or_create_global_step())
    return estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@pytest.mark.parametrize(
    ("margin", "distance"),
    [("soft", "euclidean"), (0.5, "squared_euclidean"), ("soft", "mean_squared")],
)
def test_a_training_that_collapses_is_stopped(tmp_path, capsys, margin, distance):
    # Where classes cannot be told apart, a point is the best that batch-hard can do.
    params = {
        "strategy": "batch_hard",
        "margin": margin,
        "distance": distance,
        "learning_rate": 0.01,
    }
    hook = alarm(margin, distance, every_steps=5, model_dir=str(tmp_path), stop=True)
    config = estimator.RunConfig(str(tmp_path), save_checkpoints_steps=1000)
    trained = estimator.Estimator(triplet_model, config=config, params=params)
    trained.train(partial(batches, can_be_learnt=False), hooks=[hook], max_steps=400)
    step = int(trained.get_variable_value("global_step"))
    assert hook.collapsed
    assert step < 400
    assert f"warning: step {step}: the embeddings have collapsed" in capsys.readouterr().err
    assert list(scalars(tmp_path, "collapsed").values())[-3:] == [1, 1, 1]


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "mean_squared", "cosine"])
def test_a_training_that_learns_is_let_alone(tmp_path, capsys, distance):
    params = {
        "strategy": "batch_all",
        "margin": 0.5,
        "distance": distance,
        "learning_rate": 0.01,
    }
    hook = alarm(0.5, distance, every_steps=5, model_dir=str(tmp_path), stop=True)
    config = estimator.RunConfig(str(tmp_path), save_checkpoints_steps=1000, save_summary_steps=5)
    trained = estimator.Estimator(triplet_model, config=config, params=params)
    trained.train(batches, hooks=[hook], max_steps=150)
    assert not hook.collapsed
    assert int(trained.get_variable_value("global_step")) == 150
    assert set(scalars(tmp_path, "collapsed").values()) == {0}
    losses = list(scalars(tmp_path, "loss").values())
    assert losses[-1] < 0.5 * losses[0]
    assert "collapse" not in capsys.readouterr().err


def breaking_model(features, labels, mode, params):
    """Training whose named part is spoilt by the update of step `params["step"]`.

    Its loss is finite at that step and NaN at the next one, as by an infinite gradient; with
    `params["spoil"]` "loss" it is the loss alone.
    """
    step = tf.compat.v1.train.get_or_create_global_step()
    weights = tf.compat.v1.get_variable("weights", [3])
    statistics = tf.compat.v1.get_variable(
        "moving_mean", [2], trainable=False, initializer=tf.compat.v1.zeros_initializer()
    )
    is_due = tf.equal(step + 1, params["step"])
    spoil, value = params["spoil"], params["value"]
    loss = tf.reduce_sum(tf.square(weights))
    if spoil == "loss":
        loss = tf.where(is_due, value, loss)
    with tf.name_scope("progress"):
        tf.identity(loss, name="loss")
    optimizer = tf.compat.v1.train.AdamOptimizer(0.01)
    gradient = 2.0 * weights if spoil != "weights" else tf.where(is_due, value, 2.0 * weights)
    moved = statistics.assign(
        tf.where(is_due, value, statistics) if spoil == "moving_mean" else statistics
    )
    with tf.control_dependencies([moved, loss]):
        train_op = optimizer.apply_gradients([(gradient, weights)], step)
    return estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def train_until_broken(model_dir, *, max_steps=30, save_steps=10, **params):
    """Train as `train.py` does; return the error."""
    guard = DivergenceGuard(str(model_dir))
    config = estimator.RunConfig(
        str(model_dir), save_checkpoints_steps=save_steps, save_summary_steps=1
    )
    trained = estimator.Estimator(breaking_model, config=config, params=params)
    train_spec = estimator.TrainSpec(
        batches,
        max_steps=max_steps,
        hooks=[guard],
        saving_listeners=[FiniteCheckpoints(guard)],
    )
    eval_spec = estimator.EvalSpec(batches, steps=1, start_delay_secs=0, throttle_secs=0)
    with pytest.raises(TrainingDiverged) as error:
        estimator.train_and_evaluate(trained, train_spec, eval_spec)
    return error.value


def checkpoint_steps(model_dir):
    """The steps of the checkpoints on disk, all of whose numbers are finite; the latest last."""
    state = tf.train.get_checkpoint_state(str(model_dir))
    for path in state.all_model_checkpoint_paths:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            assert np.isfinite(reader.get_tensor(name)).all(), (path, name)
    assert state.model_checkpoint_path == state.all_model_checkpoint_paths[-1]
    on_disk = {int(path.stem.split("-")[1]) for path in model_dir.glob("model.ckpt-*.index")}
    steps = [int(path.rsplit("-", 1)[1]) for path in state.all_model_checkpoint_paths]
    assert on_disk == set(steps)
    return steps


class TestDivergence:
    @pytest.mark.parametrize("value", [NAN, INF])
    def test_weights_break_at_the_step_of_a_checkpoint(self, tmp_path, value):
        # The loss of step 20 is still finite: nothing but a look at the weights can know.
        error = train_until_broken(tmp_path, spoil="weights", step=20, value=value)
        assert str(error).startswith("step 20: weights")
        assert "is not finite after a loss of" in str(error)
        assert "learning_rate" in str(error)
        assert "\n" not in str(error)
        assert checkpoint_steps(tmp_path) == [0, 10]

    def test_weights_break_between_checkpoints(self, tmp_path):
        error = train_until_broken(tmp_path, spoil="weights", step=15, value=INF)
        assert str(error).startswith("step 16: the loss is nan after a loss of")
        assert checkpoint_steps(tmp_path) == [0, 10]

    def test_weights_break_just_before_a_checkpoint(self, tmp_path):
        # At step 20 the loss is NaN, but the Estimator saves before it looks at the loss.
        error = train_until_broken(tmp_path, spoil="weights", step=19, value=NAN)
        assert str(error).startswith("step 20: ")
        assert checkpoint_steps(tmp_path) == [0, 10]

    def test_weights_break_at_the_last_step(self, tmp_path):
        error = train_until_broken(tmp_path, spoil="weights", step=25, value=INF, max_steps=25)
        assert str(error).startswith("step 25: weights")
        assert checkpoint_steps(tmp_path) == [0, 10, 20]

    def test_moving_statistics_break(self, tmp_path):
        error = train_until_broken(tmp_path, spoil="moving_mean", step=13, value=NAN)
        assert str(error).startswith("step 20: moving_mean is not finite")
        assert checkpoint_steps(tmp_path) == [0, 10]

    @pytest.mark.parametrize(
        ("value", "step", "kept"),
        [(NAN, 15, [0, 10]), (INF, 15, [0, 10]), (INF, 20, [0, 10, 20]), (NAN, 1, [0])],
    )
    def test_loss_breaks(self, tmp_path, value, step, kept):
        error = train_until_broken(tmp_path, spoil="loss", step=step, value=value)
        assert str(error).startswith(f"step {step}: the loss is {value}")
        assert ("after a loss of" in str(error)) == (step > 1)
        assert checkpoint_steps(tmp_path) == kept

    def test_the_curves_up_to_there_are_on_disk(self, tmp_path):
        train_until_broken(tmp_path, spoil="loss", step=7, value=INF)
        losses = {
            event.step: found.simple_value
            for path in tmp_path.glob("events.out.tfevents.*")
            for event in tf.compat.v1.train.summary_iterator(str(path))
            for found in event.summary.value
            if name_of(found.tag) == "loss"
        }
        assert sorted(losses) == list(range(1, 8))
        assert not math.isfinite(losses[7])


def test_a_finite_run_is_let_alone(tmp_path):
    guard = DivergenceGuard(str(tmp_path))
    config = estimator.RunConfig(str(tmp_path), save_checkpoints_steps=10)
    params = {"spoil": "loss", "step": -1, "value": NAN}
    trained = estimator.Estimator(breaking_model, config=config, params=params)
    trained.train(batches, hooks=[guard], saving_listeners=[FiniteCheckpoints(guard)], max_steps=25)
    assert checkpoint_steps(tmp_path) == [0, 10, 20, 25]


def test_training_goes_on_from_the_checkpoint_that_was_kept(tmp_path):
    train_until_broken(tmp_path, spoil="weights", step=15, value=NAN)
    error = train_until_broken(tmp_path, spoil="weights", step=17, value=NAN)
    assert str(error).startswith("step 18: the loss is nan")
    assert checkpoint_steps(tmp_path)[-1] == 10


def test_progress_is_written_for_others_to_read(tmp_path, monkeypatch):
    """Each step takes a second; it is written every 2 s, and at the end."""
    written = []
    clock = iter(range(100))
    monkeypatch.setattr("model.hooks.progress.time.perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(Experiment, "save_progress", lambda self, p: written.append(p))
    scripted_run([ProgressFile(Experiment(tmp_path), 15, 2.0)], [5.0, 4.0, 3.0, 2.0, 1.0], start=10)
    assert [(p["step"], p["loss"]) for p in written] == [
        (11, 5.0),  # the first step: a sign of life
        (13, 3.0),
        (15, 1.0),
        (15, 1.0),  # the end
    ]
    assert {p["max_steps"] for p in written} == {15}
    assert {p["fraction_positive"] for p in written} == {0.25}
    # 4 images a step, a step a second; the first one pays for the start of the graph.
    assert [p.get("images_per_second") for p in written] == [None, 4.0, 4.0, 4.0]


def test_progress_file_can_be_read_back(tmp_path):
    experiment = Experiment(tmp_path)
    scripted_run([ProgressFile(experiment, 3)], [0.5, 0.25, 0.125])
    progress = experiment.progress()
    assert (progress["step"], progress["max_steps"], progress["loss"]) == (3, 3, 0.125)
    assert progress["images_per_second"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_progress_of_a_step_without_a_triplet_has_null(tmp_path):
    experiment = Experiment(tmp_path)
    scripted_run([ProgressFile(experiment, 2)], [0.5, 0.0], fractions=[0.5, NAN])
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert (progress["step"], progress["loss"], progress["fraction_positive"]) == (2, None, None)
    assert experiment.progress() == progress


def results_of(**values):
    """An evaluation as the Estimator hands it over: NaN is not defined."""
    results = {name: np.float64(values.get(name, NAN)) for name in NAMES}
    return {**results, "loss": np.float32(values.get("loss", 0)), "global_step": np.int64(30)}


def test_the_line_of_an_evaluation_has_a_dash_for_what_is_not_defined(tmp_path, capsys):
    experiment = Experiment(tmp_path)
    experiment.save_metrics({"status": "running"})
    report = EvaluationReport(20, experiment)
    counts = {name: 0 for name in COUNTS}
    report.export(None, "", "", results_of(**counts), False)
    assert capsys.readouterr().out == (
        "epoch 1.5  step 30  validation: map_at_r_within -  recall_at_1_within -  loss -  "
        "fraction_positive -\n"
    )
    report.export(
        None, "", "", results_of(**counts | {"num_valid_triplets": 5}, recall_at_1_within=0.5), True
    )
    assert capsys.readouterr().out == (
        "epoch 1.5  step 30  validation: map_at_r_within -  recall_at_1_within 0.5  loss 0  "
        "fraction_positive -\n"
    )
    noted = experiment.latest_evaluation()["validation"]
    assert (noted["map_at_r_within"], noted["recall_at_1_within"], noted["loss"]) == (None, 0.5, 0)
    assert noted["num_queries_within"] == 0 and noted["global_step"] == 30
