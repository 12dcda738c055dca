"""Networks that compute in half precision: dtypes, equal embeddings, the scaled loss."""

from functools import cache

import numpy as np
import pytest
import reference
from small_application import shorten_lite0, small_application

from model import loss_scaling
from model.estimator import estimator, keras, tf
from model.model_fn import model_fn
from model.network import build_network
from src.params.schema import Params
from src.registry import NETWORKS, OFFLINE_STRATEGIES, TRIPLET_STRATEGIES

RNG = np.random.default_rng(0)
IMAGES = RNG.random((12, 8, 8, 1)).astype(np.float32)
LABELS = (np.arange(12) % 3).astype(np.int32)
HALF = ["bfloat16", "float16"]
SMALL = {
    "naive_cnn": {"num_channels": 4, "use_batch_norm": True},
    "mlp": {"hidden_sizes": [8], "dropout": 0.2, "use_batch_norm": True},
    "keras_application": {"application": "MobileNet", "input_size": 32},
    "efficientnet_lite0": {"input_size": 32},
}


def params_of(network, dtype, **keys):
    return Params(
        network=network, compute_dtype=dtype, embedding_size=5, **{**SMALL[network], **keys}
    )


@pytest.fixture(autouse=True)
def _small_application(monkeypatch):
    monkeypatch.setattr(keras.applications, "MobileNet", small_application)
    shorten_lite0(monkeypatch)


class Training:
    """The graph of a training, with random weights or those of another one."""

    def __init__(self, params, values=None):
        with tf.Graph().as_default():
            tf.compat.v1.set_random_seed(0)
            self.step = tf.compat.v1.train.get_or_create_global_step()
            self.images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 1])
            self.labels = tf.compat.v1.placeholder(tf.int32, [None])
            self.spec = model_fn(self.images, self.labels, estimator.ModeKeys.TRAIN, params)
            self.variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
            self.session = tf.compat.v1.Session()
            self.session.run(tf.compat.v1.global_variables_initializer())
            self.start = {**self.values(), **(values or {})}
            self.load(values or {})

    def load(self, values):
        with self.session.graph.as_default():
            for name, value in values.items():
                self.variables[name].load(value, self.session)

    def run(self, what, images=IMAGES, labels=LABELS):
        return self.session.run(what, {self.images: images, self.labels: labels})

    def values(self):
        return self.session.run(self.variables)


@pytest.fixture(scope="module")
def training_of():
    """`training_of(network, dtype)`: a training without dropout, built once."""

    @cache
    def build(network, dtype):
        keys = {"dropout": 0.0} if network == "mlp" else {}
        return Training(params_of(network, dtype, **keys))

    return build


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_network_is_half_and_all_else_float32(network, dtype):
    with tf.Graph().as_default():
        built = build_network(params_of(network, dtype, l2_normalize=True), (8, 8, 1))
    *_, embedding, normalized = built.layers
    assert built.output.dtype == embedding.dtype == normalized.dtype == tf.float32
    assert {weight.dtype for weight in built.weights} == {tf.float32}
    has_application = network in ("efficientnet_lite0", "keras_application")
    inner = built.get_layer("application").layers if has_application else built.layers
    computed = [layer.compute_dtype for layer in inner if layer.weights and layer != embedding]
    assert computed
    assert set(computed) == {dtype}
    assert keras.mixed_precision.global_policy().name == "float32"  # as before


@pytest.mark.parametrize("network", NETWORKS)
def test_checkpoints_have_the_same_variables(network, training_of):
    def shapes(dtype):
        variables = training_of(network, dtype).variables
        return {name: (v.shape, v.dtype) for name, v in variables.items()}

    float32 = shapes("float32")
    assert shapes("bfloat16") == float32
    extra = {f"loss_scaling/{name}" for name in ("scale", "good_steps", "skipped_steps")}
    assert shapes("float16").keys() - float32.keys() == extra


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_is_near_that_of_float32(network, dtype, training_of):
    """From the same weights: the loss, and the direction of the change."""
    exact, half = training_of(network, "float32"), training_of(network, dtype)
    before = exact.start
    exact.load(before)
    half.load(before)
    loss, half_loss = exact.run(exact.spec.loss), half.run(half.spec.loss)
    assert half_loss == pytest.approx(loss, rel=0.02)
    assert half_loss != loss
    for training in (exact, half):
        for _ in range(3):
            training.run(training.spec.train_op)
    moved, half_moved = (
        np.concatenate(
            [
                (training.values()[name] - before[name]).ravel()
                for name in before
                if name.endswith("kernel")
            ]
        )
        for training in (exact, half)
    )
    cosine = moved @ half_moved / np.linalg.norm(moved) / np.linalg.norm(half_moved)
    assert cosine > 0.8
    assert half.values()["global_step"] == 3


# Each pair of a dtype, a strategy and whether embeddings have length 1.
PAIRS = [
    (HALF[(number + l2_normalize) % 2], strategy, l2_normalize)
    for number, strategy in enumerate(sorted(TRIPLET_STRATEGIES.keys() - OFFLINE_STRATEGIES))
    for l2_normalize in (False, True)
]


@pytest.mark.parametrize(("dtype", "strategy", "l2_normalize"), PAIRS)
def test_nothing_is_nan_where_embeddings_coincide(dtype, strategy, l2_normalize):
    keys = reference.keys_of(strategy, l2_normalize=l2_normalize)
    params = params_of("naive_cnn", dtype, **keys)
    training = Training(params)
    images = np.repeat(IMAGES[:1], 12, axis=0)
    images[6:9] = 0  # with zero biases, these have length 0 at first
    for _ in range(2):
        assert np.isfinite(training.run(training.spec.loss, images))
        training.run(training.spec.train_op, images)
    values = training.values()
    assert all(np.isfinite(value).all() for value in values.values())


@pytest.mark.parametrize("dtype", HALF)
def test_predictions_are_float32(dtype):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        spec = model_fn(
            tf.constant(IMAGES), None, estimator.ModeKeys.PREDICT, params_of("naive_cnn", dtype)
        )
        session.run(tf.compat.v1.global_variables_initializer())
        assert session.run(spec.predictions["embeddings"]).dtype == np.float32


class TestLossScaling:
    """One weight, whose gradient is `slope`, trained with momentum."""

    def training(self, monkeypatch, steps_to_double=3):
        monkeypatch.setattr(loss_scaling, "_STEPS_TO_DOUBLE", steps_to_double)
        step = tf.compat.v1.train.get_or_create_global_step()
        weight = tf.compat.v1.get_variable("weight", initializer=1.0, use_resource=True)
        slope = tf.compat.v1.placeholder(tf.float32, [])
        # The gradient passes through float16, as in a network's last layer.
        loss = tf.cast(tf.cast(weight, tf.float16) * tf.cast(slope, tf.float16), tf.float32)
        optimizer = tf.compat.v1.train.MomentumOptimizer(1.0, 0.5)
        scaling = loss_scaling.LossScaling()
        gradients = tf.gradients(loss, [weight], scaling.scaled(tf.ones_like(loss)))
        gradients = scaling.unscaled(gradients)
        op = scaling.step(
            lambda: optimizer.apply_gradients(zip(gradients, [weight], strict=True)),
            gradients,
            step,
        )
        session = tf.compat.v1.Session()
        session.run(tf.compat.v1.global_variables_initializer())
        return session, op, slope, step, weight

    def test_small_gradients_are_kept_and_large_ones_skipped(self, monkeypatch):
        with tf.Graph().as_default():
            session, op, slope, step, weight = self.training(monkeypatch)
            counts = [
                v for v in tf.compat.v1.global_variables() if v.op.name.startswith("loss_scaling")
            ]

            def train(value):
                session.run(op, {slope: value})
                scale, good, skipped = session.run(counts)
                return scale / 2**15, good, skipped

            assert train(1.0) == (1, 1, 0)
            assert session.run(weight) == 0.0
            momentum = [v for v in tf.compat.v1.global_variables() if "Momentum" in v.op.name]
            before = session.run([weight, momentum])
            assert train(4.0) == (0.5, 0, 1)  # in float16, 4 times 2^15 is infinite
            assert session.run([weight, momentum]) == before
            assert session.run(step) == 2
            assert [train(0.25) for _ in range(3)] == [(0.5, 1, 1), (0.5, 2, 1), (1, 0, 1)]
            assert session.run(step) == 5
            assert np.isfinite(session.run(weight))

    def test_the_scale_never_falls_below_1_and_then_nothing_is_skipped(self, monkeypatch):
        """What is not finite without a scale is divergence: it must show in the weights."""
        with tf.Graph().as_default():
            session, op, slope, _, weight = self.training(monkeypatch)
            for _ in range(15):
                session.run(op, {slope: np.inf})
                assert session.run(weight) == 1.0
            session.run(op, {slope: np.inf})
            assert not np.isfinite(session.run(weight))
            (scale,) = [
                v for v in tf.compat.v1.global_variables() if v.op.name == "loss_scaling/scale"
            ]
            assert session.run(scale) == 1.0

    def test_a_resumed_training_goes_on_exactly(self, tmp_path):
        """With a step skipped before, and Adam's moments: 4 steps, or 2 and 2 more."""
        params = params_of("naive_cnn", "float16", use_batch_norm=False)
        whole = Training(params)
        whole.load({"loss_scaling/scale": 2.0**40})
        resumed = Training(params, whole.values())
        for _ in range(4):
            whole.run(whole.spec.train_op)
        for _ in range(2):
            resumed.run(resumed.spec.train_op)
        with resumed.session.graph.as_default():
            saved = tf.compat.v1.train.Saver().save(resumed.session, str(tmp_path / "model"))
        again = Training(params)
        with again.session.graph.as_default():
            tf.compat.v1.train.Saver().restore(again.session, saved)
        for _ in range(2):
            again.run(again.spec.train_op)
        expected, found = whole.values(), again.values()
        assert expected["loss_scaling/skipped_steps"] > 0
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)
