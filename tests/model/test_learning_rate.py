"""The learning rate against the formula, step by step."""

import math

import numpy as np
import pytest

from model.estimator import tf
from model.learning_rate import learning_rate
from src.params.schema import Params


def rates(params, num_steps):
    """The rate of every step, in a v1 graph as in the Estimator's."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.placeholder(tf.int64, [])
        rate = learning_rate(params, step, num_steps)
        return [session.run(rate, {step: done}) for done in range(num_steps)]


def test_constant():
    assert rates(Params(learning_rate=0.25), 5) == [0.25] * 5


def test_cosine():
    found = rates(Params(learning_rate=0.5, learning_rate_schedule="cosine"), 8)
    expected = [0.5 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[0] == 0.5 and found[4] == pytest.approx(0.25)
    assert found == sorted(found, reverse=True) and found[-1] > 0


def test_warm_up():
    found = rates(Params(learning_rate=1.0, learning_rate_warmup_steps=4), 7)
    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 1, 1, 1])


def test_warm_up_and_cosine():
    params = Params(
        learning_rate=1.0, learning_rate_schedule="cosine", learning_rate_warmup_steps=4
    )
    found = rates(params, 12)
    np.testing.assert_allclose(found[:5], [0.25, 0.5, 0.75, 1, 1])
    expected = [(1 + math.cos(math.pi * (step - 4) / 8)) / 2 for step in range(4, 12)]
    np.testing.assert_allclose(found[4:], expected, rtol=1e-5)


def test_a_warm_up_longer_than_the_training():
    params = Params(
        learning_rate=1.0, learning_rate_schedule="cosine", learning_rate_warmup_steps=10
    )
    np.testing.assert_allclose(rates(params, 4), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


def test_after_the_last_step_it_is_0():
    params = Params(learning_rate_schedule="cosine")
    assert learning_rate(params, tf.constant(8), 8).numpy() == 0
    assert learning_rate(params, tf.constant(80), 8).numpy() == 0


def test_drops():
    """As torch.optim.lr_scheduler.MultiStepLR: from the step on that follows so many steps."""
    drops = {"learning_rate_drop_steps": [3, 4, 7], "learning_rate_drop_factor": 0.5}
    params = Params(learning_rate=0.8, learning_rate_schedule="steps", **drops)
    expected = [0.8, 0.8, 0.8, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1]
    np.testing.assert_allclose(rates(params, 9), expected, rtol=1e-6)
    warmed = params.model_copy(update={"learning_rate_warmup_steps": 4})
    expected = [0.2, 0.4, 0.6, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1]
    np.testing.assert_allclose(rates(warmed, 9), expected, rtol=1e-6)
