"""Optimizers and clipping, against their definitions as loops in NumPy; resumed exactly."""

import math

import numpy as np
import pytest

from model import loss_scaling
from model.distribution import Distribution
from model.estimator import estimator, tf
from model.loss_scaling import LossScaling
from model.model_fn import model_fn
from model.optimizers import training_step
from src.params.schema import Params
from src.registry import OPTIMIZERS

RNG = np.random.default_rng(0)
SHAPES = {"kernel": (3, 2), "bias": (2,)}
START = {name: RNG.normal(size=shape) for name, shape in SHAPES.items()}
GRADIENTS = [{name: RNG.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(6)]
RATES = [0.1, 0.1, 0.05, 0.05, 0.05, 0.025]
DROPS = {
    "learning_rate": 0.1,
    "learning_rate_schedule": "steps",
    "learning_rate_drop_steps": [2, 5],
    "learning_rate_drop_factor": 0.5,
}


class Training:
    """Two weights, whose gradients are fed."""

    def __init__(self, keys, scaled=False):
        with tf.Graph().as_default() as graph:
            self.step = tf.compat.v1.train.get_or_create_global_step()
            self.weights = {
                name: tf.compat.v1.get_variable(
                    name, initializer=value.astype(np.float32), use_resource=True
                )
                for name, value in START.items()
            }
            self.fed = {name: tf.compat.v1.placeholder(tf.float32, s) for name, s in SHAPES.items()}
            scaling = LossScaling() if scaled else None
            gradients = list(self.fed.values())
            if scaling:
                gradients = [scaling.scaled(gradient) for gradient in gradients]
            weights = list(self.weights.values())
            self.op = training_step(gradients, weights, Params(**keys), 6, scaling)
            self.summary = tf.compat.v1.summary.merge_all()
            self.session = tf.compat.v1.Session(graph=graph)
            self.session.run(tf.compat.v1.global_variables_initializer())

    def run(self, gradients):
        feed = {self.fed[name]: gradient for name, gradient in gradients.items()}
        self.session.run(self.op, feed)
        return self.session.run(self.weights)


def by_adam(rates, gradients, weight, decay=0.0, epsilon=1e-8):
    """As the papers and torch.optim.AdamW write it."""
    m, v = np.zeros_like(weight), np.zeros_like(weight)
    for t, (rate, g) in enumerate(zip(rates, gradients, strict=True), start=1):
        weight = weight - rate * decay * weight
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        weight = weight - rate * m_hat / (np.sqrt(v_hat) + epsilon)
    return weight


def by_sgd(rates, gradients, weight, momentum):
    """As torch.optim.SGD writes it, without dampening."""
    direction = np.zeros_like(weight)
    for rate, g in zip(rates, gradients, strict=True):
        direction = momentum * direction + g
        weight = weight - rate * direction
    return weight


DEFINITIONS = {
    "adam": ({}, by_adam, {"kernel": {}, "bias": {}}),
    "adamw": ({"weight_decay": 0.3}, by_adam, {"kernel": {"decay": 0.3}, "bias": {}}),
    "sgd": ({}, by_sgd, dict.fromkeys(SHAPES, {"momentum": 0.9})),
    "sgd without momentum": ({"momentum": 0.0}, by_sgd, dict.fromkeys(SHAPES, {"momentum": 0.0})),
}


def test_every_optimizer_has_a_definition():
    assert {name.split()[0] for name in DEFINITIONS} == set(OPTIMIZERS)


@pytest.mark.parametrize("clip_norm", [None, 2.0])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_steps_are_those_of_the_definition(name, scaled, clip_norm):
    """With a rate that drops twice, with and without a scaled loss and clipping."""
    keys, define, arguments = DEFINITIONS[name]
    training = Training(
        {"optimizer": name.split()[0], "clip_norm": clip_norm, **keys, **DROPS}, scaled
    )
    gradients = GRADIENTS
    if clip_norm is not None:
        norms = [math.sqrt(sum((g**2).sum() for g in step.values())) for step in GRADIENTS]
        assert min(norms) < clip_norm < max(norms)
        gradients = [
            {key: g * min(1, clip_norm / norm) for key, g in step.items()}
            for step, norm in zip(GRADIENTS, norms, strict=True)
        ]
    for step in GRADIENTS:
        found = training.run(step)
    for key in SHAPES:
        of_key = [step[key] for step in gradients]
        expected = define(RATES, of_key, START[key], **arguments[key])
        np.testing.assert_allclose(found[key], expected, rtol=2e-5, atol=1e-6)
        assert np.abs(found[key] - START[key]).min() > 1e-3  # all have moved
    assert training.session.run(training.step) == 6


def test_a_step_whose_gradient_is_not_finite_is_skipped_with_a_scaled_loss():
    """Clipping must not make it finite; the averages of the optimizer stay."""
    training = Training({"optimizer": "adamw", "clip_norm": 1.0}, scaled=True)
    training.run(GRADIENTS[0])
    with training.session.graph.as_default():
        variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
    before = training.session.run(variables)
    training.run({**GRADIENTS[1], "bias": np.array([1.0, np.inf])})
    after = training.session.run(variables)
    assert after.pop("global_step") == before.pop("global_step") + 1
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    names = ("scale", "good_steps", "skipped_steps")
    assert changed == {f"loss_scaling/{name}" for name in names}
    assert after["loss_scaling/scale"] == loss_scaling._FIRST_SCALE / 2


def test_clipping_shows_the_norm_and_survives_squares_beyond_float32():
    training = Training({"optimizer": "sgd", "momentum": 0.0, "clip_norm": 0.5})
    huge = {"kernel": np.full((3, 2), 1e30), "bias": np.zeros(2)}
    found = training.run(huge)
    expected = START["kernel"] - 1e-3 * 0.5 / math.sqrt(6)
    np.testing.assert_allclose(found["kernel"], expected, rtol=1e-6)
    feed = {training.fed[name]: value for name, value in huge.items()}
    summary = tf.compat.v1.Summary.FromString(training.session.run(training.summary, feed))
    values = {value.tag.split("/")[-1]: value.simple_value for value in summary.value}
    assert values["gradient_norm"] == pytest.approx(1e30 * math.sqrt(6), rel=1e-5)


def test_a_gradient_that_is_not_longer_is_not_changed():
    kept, clipped = (Training({"clip_norm": limit}) for limit in (None, 1e6))
    for step in GRADIENTS:
        one, other = kept.run(step), clipped.run(step)
    for name in SHAPES:
        np.testing.assert_array_equal(one[name], other[name])


IMAGES = RNG.random((13, 4, 4, 1)).astype(np.float32)
LABELS = (np.arange(13) % 3).astype(np.int32)


class Network:
    """The training of a small network, in a graph of its own."""

    def __init__(self, keys, num_replicas=1):
        devices = tuple(f"/device:CPU:{i}" for i in range(num_replicas))
        with tf.Graph().as_default():
            tf.compat.v1.set_random_seed(0)
            tf.compat.v1.train.get_or_create_global_step()
            params = Params(network="mlp", hidden_sizes=[6], embedding_size=4, **keys)
            spec = model_fn(
                tf.constant(IMAGES),
                tf.constant(LABELS),
                estimator.ModeKeys.TRAIN,
                params,
                distribution=Distribution(devices=devices if num_replicas > 1 else ("",)),
            )
            self.variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
            self.train_op, self.saver = spec.train_op, tf.compat.v1.train.Saver()
            config = tf.compat.v1.ConfigProto(device_count={"CPU": 2})
            self.session = tf.compat.v1.Session(config=config)
            self.session.run(tf.compat.v1.global_variables_initializer())

    def train(self, steps):
        for _ in range(steps):
            self.session.run(self.train_op)
        return self.session.run(self.variables)

    def trained(self, steps):
        """The kernels as one vector.

        Without the biases: no distance depends on the embedding's, so that Adam follows rounding.
        """
        values = self.train(steps)
        names = [name for name in sorted(values) if name.endswith("kernel")]
        return np.concatenate([values[name].ravel() for name in names])


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_resumed_training_continues_exactly(optimizer, tmp_path):
    keys = {"optimizer": optimizer, "clip_norm": 0.1, "learning_rate": 0.01}
    expected = Network(keys).train(5)
    first = Network(keys)
    first.train(2)
    with first.session.graph.as_default():
        saved = first.saver.save(first.session, str(tmp_path / "model"))
    again = Network(keys)
    with again.session.graph.as_default():
        again.saver.restore(again.session, saved)
    found = again.train(3)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_parts_of_a_batch_and_replicas_make_the_same_steps(optimizer):
    keys = {"optimizer": optimizer, "clip_norm": 0.1, "learning_rate": 0.01}
    start, expected = (Network(keys).trained(steps) for steps in (0, 8))
    for other in (Network({**keys, "micro_batch_size": 5}), Network(keys, num_replicas=2)):
        difference = np.linalg.norm(other.trained(8) - expected)
        assert difference <= 1e-3 * np.linalg.norm(expected - start)
