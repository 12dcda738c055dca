"""The moving average of the weights: a loop in NumPy; and everything embeds with it."""

import json

import numpy as np
import pytest

import train
from model.embedder import Embedder
from model.estimator import estimator, tf
from model.input_fn import scale_pixels
from model.model_fn import model_fn
from model.network import build_network
from model.training.embedding import embed
from model.training.warm_start import read_warm_start
from src.data.split import Split
from src.errors import UserError
from src.experiment.data_record import load_recorded
from src.experiment.experiment import Experiment
from src.params.schema import Params

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 8, 8, 1)).astype(np.float32)
LABELS = (np.arange(12) % 3).astype(np.int32)
KEYS = {"num_channels": 4, "embedding_size": 5, "use_batch_norm": True, "learning_rate": 0.01}
AVERAGE = "moving_average/"


class Training:
    """The graph of a training, whose batches differ from step to step."""

    def __init__(self, **keys):
        with tf.Graph().as_default():
            tf.compat.v1.set_random_seed(0)
            tf.compat.v1.train.get_or_create_global_step()
            self.images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 1])
            self.spec = model_fn(
                self.images, tf.constant(LABELS), estimator.ModeKeys.TRAIN, Params(**KEYS, **keys)
            )
            self.variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
            self.saver = tf.compat.v1.train.Saver()
            self.session = tf.compat.v1.Session()
            self.session.run(tf.compat.v1.global_variables_initializer())

    def train(self, step):
        self.session.run(self.spec.train_op, {self.images: np.roll(IMAGES, step, axis=0)})
        return self.values()

    def scale_loss(self, scale):
        with self.session.graph.as_default():
            self.variables["loss_scaling/scale"].load(scale, self.session)

    def values(self):
        return self.session.run(self.variables)


def weights_of(values):
    """The averages, and the weights that they follow, by the weights' names."""
    averages = {n.removeprefix(AVERAGE): v for n, v in values.items() if n.startswith(AVERAGE)}
    return averages, {name: values[name] for name in averages}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("decay", [0.25, 0.999])
def test_the_average_is_that_of_a_loop(decay, dtype):
    training = Training(ema_decay=decay, compute_dtype=dtype)
    if dtype == "float16":
        training.scale_loss(64.0)  # no step is skipped
    expected, start = weights_of(training.values())
    for name, value in start.items():
        np.testing.assert_array_equal(expected[name], value)
    names = {name.split("/")[-1] for name in start}
    assert names == {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
    for step in range(5):
        found, weights = weights_of(training.train(step))
        kept = min(decay, (1 + step) / (10 + step))
        for name, weight in weights.items():
            expected[name] = kept * expected[name].astype(float) + (1 - kept) * weight
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-7)
    assert training.values().get("loss_scaling/skipped_steps", 0) == 0
    assert any(np.abs(found[name] - weights[name]).max() > 1e-4 for name in found)


def test_a_skipped_step_changes_no_average():
    training = Training(ema_decay=0.9, compute_dtype="float16")
    training.train(0)
    training.scale_loss(2.0**100)
    before, _ = weights_of(training.values())
    values = training.train(1)
    after, _ = weights_of(values)
    assert values["loss_scaling/skipped_steps"] == 1
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)


def test_a_resumed_training_continues_exactly(tmp_path):
    whole, first, again = (Training(ema_decay=0.9) for _ in range(3))
    for step in range(4):
        expected = whole.train(step)
    for step in range(2):
        first.train(step)
    with first.session.graph.as_default():
        saved = first.saver.save(first.session, str(tmp_path / "model"))
    with again.session.graph.as_default():
        again.saver.restore(again.session, saved)
    for step in range(2, 4):
        found = again.train(step)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def embeddings_of(checkpoint, params, images, prefix):
    """What the network embeds with the weights, or their averages, of a checkpoint: by Keras."""
    reader = tf.train.load_checkpoint(str(checkpoint))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = build_network(params, images.shape[1:])
        pixels = scale_pixels(tf.constant(images))
        # The second view is shifted by a pixel to the right.
        shifted = tf.concat([pixels[:, :, :1], pixels[:, :, :-1]], axis=2)
        embedded = (network(pixels, training=False) + network(shifted, training=False)) / 2
        for weight in network.weights:
            weight.load(reader.get_tensor(prefix + weight.op.name), session)
        return session.run(embedded)


def test_evaluation_export_and_queries_embed_with_the_average(make_experiment, data_dir):
    model_dir = make_experiment(
        num_epochs=2, use_batch_norm=True, ema_decay=0.9, l2_normalize=False, embed_views=2
    )
    train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
    experiment = Experiment(model_dir)
    params = experiment.trained_params()
    images = RNG.integers(0, 256, (5, 8, 8, 1), np.uint8)
    expected = embeddings_of(experiment.best_checkpoint, params, images, AVERAGE)
    latest = embeddings_of(experiment.best_checkpoint, params, images, "")
    assert np.abs(expected - latest).max() > 0.01

    split = Split(images, np.zeros(5, np.int32), tuple("0123456789"))
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(embed(experiment, params, split), expected, **close)
    embedder = Embedder(experiment, params, (8, 8, 1))
    np.testing.assert_allclose(embedder(images), expected, **close)
    embedder.close()
    (exported,) = (model_dir / "export" / "best").iterdir()
    serve = tf.saved_model.load(str(exported)).signatures["serving_default"]
    served = serve(images=tf.constant(images))["embeddings"].numpy()
    np.testing.assert_allclose(served, expected, **close)

    # The evaluation of the whole split, by what only the embeddings decide
    metrics = json.loads((model_dir / "metrics.json").read_text())
    loaded = load_recorded(params, data_dir, experiment, begins=False, keeps_splits=False)
    of_test = loaded.data.splits["test"].images[:]
    norms = {
        prefix: np.linalg.norm(
            embeddings_of(experiment.best_checkpoint, params, of_test, prefix), axis=1
        ).mean()
        for prefix in (AVERAGE, "")
    }
    found = metrics["splits"]["test"]["embedding_mean_norm"]
    assert found == pytest.approx(norms[AVERAGE], rel=1e-4)
    assert found != pytest.approx(norms[""], rel=1e-3)

    values, _ = read_warm_start(experiment, params, (8, 8, 1), experiment.params_path)
    reader = tf.train.load_checkpoint(str(experiment.best_checkpoint))
    for name, value in values.items():  # what another training starts from
        np.testing.assert_array_equal(value, reader.get_tensor(AVERAGE + name))

    changed = params.model_copy(update={"ema_decay": 0.5})
    with pytest.raises(UserError, match=r"ema_decay \(now 0.5, trained with 0.9\)"):
        experiment.check_resumable(changed)
