"""Random numbers by row: a part of the batch gets those of its rows in the whole."""

import numpy as np
import pytest

from model.augment.batch import augment
from model.dropout import dropout
from model.estimator import tf
from model.rows import Rows, normal_by_row, rows_of_batch, uniform_by_row
from src.params.schema import Augment

# Offline batches have three ranges; one may be empty. A block of the generator is 4 numbers.
SOME = Rows([2, 9, 15], [3, 0, 5])
INDICES = [2, 3, 4, 15, 16, 17, 18, 19]


@pytest.mark.parametrize("width", [[], [1], [7], [4, 4, 2]])
def test_rows_get_what_they_get_in_the_whole_batch(run, width):
    def draw(seed):
        with rows_of_batch(SOME):
            parts = uniform_by_row([8, *width], seed), normal_by_row([8, *width], seed)
        return *parts, uniform_by_row([20, *width], seed), normal_by_row([20, *width], seed)

    uniform, normal, all_uniform, all_normal = run(draw, np.array([3, 5]))
    np.testing.assert_array_equal(uniform, all_uniform[INDICES])
    np.testing.assert_array_equal(normal, all_normal[INDICES])
    assert len(np.unique(all_uniform)) == all_uniform.size


def test_a_part_of_rows(run):
    def parts(start):
        return SOME.indices, SOME.part(start, 4).indices, SOME.part(start, 0).indices

    whole, part, none = run(parts, np.array(2))
    assert whole.tolist() == INDICES
    assert part.tolist() == INDICES[2:6]
    assert none.size == 0


def test_dropout_and_augmentation_are_by_row(run):
    images = np.random.default_rng(0).random((20, 9, 9, 1)).astype(np.float32)
    changes = Augment(
        **{"shift": 2, "rotation": 20, "flip": True, "crop": 0.7, "elastic": 2.0, "erasing": 0.5},
        **{"fill": "reflect", "brightness": 0.4, "contrast": 0.4, "blur": 1.5},
    )

    def change(given, seed):
        return augment(dropout(given, 0.3, seed, 1), seed, changes)

    def of_part(given, seed):
        with rows_of_batch(SOME):
            return change(given, seed)

    whole = run(change, images, np.array([0, 7]))
    part = run(of_part, images[INDICES], np.array([0, 7]))
    np.testing.assert_array_equal(part, whole[INDICES])
    assert not np.allclose(run(change, images[INDICES], np.array([0, 7])), part)


def test_the_counter_carries(monkeypatch):
    """The start of a draw is anywhere in 128 bits: one near the end of its lower word."""
    last = np.uint64(2**64 - 1)
    start = type("Start", (), {})()
    start.key, start.counter = tf.constant([1], tf.uint64), tf.constant([last, 5], tf.uint64)
    monkeypatch.setattr(tf.raw_ops, "StatelessRandomGetKeyCounter", lambda seed: start)
    whole = tf.raw_ops.StatelessRandomUniformV2(
        shape=[12], key=start.key, counter=start.counter, alg=1, dtype=tf.float32
    )
    with rows_of_batch(Rows([6], [6])):
        part = uniform_by_row([6], tf.constant([0, 0]))
    np.testing.assert_array_equal(part, whole[6:])
