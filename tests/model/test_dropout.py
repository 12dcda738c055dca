"""Dropout against its definition, eagerly and in a v1 graph."""

import numpy as np
import pytest

from model.dropout import dropout
from model.estimator import tf

ONES = np.ones((50, 200), np.float32)


def dropped(run, rate, seed=(0, 0), draw=1, inputs=ONES):
    return run(lambda x: dropout(x, rate, tf.constant(seed, tf.int64), draw), inputs)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_share_is_0_and_the_rest_scaled_up(run, rate):
    outputs = dropped(run, rate)
    is_zero = outputs == 0
    # 10 000 draws: the share is within 0.02 of the rate in all but 1 of 15 000 such tests.
    assert is_zero.mean() == pytest.approx(rate, abs=0.02)
    np.testing.assert_allclose(outputs[~is_zero], 1 / (1 - rate), rtol=1e-6)
    # Neither whole examples nor whole units: the shares of these would be 0 or 1.
    assert is_zero.mean(axis=0).std() < 0.15
    assert is_zero.mean(axis=1).std() < 0.15


def test_rate_0_keeps_all(run):
    np.testing.assert_array_equal(dropped(run, 0.0), ONES)


def test_the_same_seed_step_and_draw_give_the_same_and_others_do_not(run):
    first = dropped(run, 0.5, (3, 7), 1)
    np.testing.assert_array_equal(dropped(run, 0.5, (3, 7), 1), first)
    for seed, draw in (((4, 7), 1), ((3, 8), 1), ((3, 7), 2), ((7, 3), 1)):
        other = dropped(run, 0.5, seed, draw)
        # Of independent halves, half agree.
        assert (other == first).mean() == pytest.approx(0.5, abs=0.03)


def test_the_gradient_goes_where_the_input_went(run):
    def output_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = dropout(x, 0.3, tf.constant([0, 0], tf.int64), 1)
        return y, tape.gradient(y, x)

    outputs, gradient = run(output_and_gradient, ONES)
    np.testing.assert_array_equal(gradient, outputs)
