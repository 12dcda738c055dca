"""The random numbers of distance-weighted sampling."""

import numpy as np
import reference

from model.estimator import tf
from model.mining.draws import uniform_by_pair


def test_the_numbers_of_pairs_depend_on_row_and_column_alone():
    rows = np.array([5, 0, 2**33, 1])
    found = uniform_by_pair(tf.constant(rows), tf.constant(6, tf.int64), tf.constant([3, 2**40]))
    expected = [[reference.uniform(3, 2**40, int(row), c) for c in range(6)] for row in rows]
    # A row beyond 32 bits is that of its lower bits; a batch has fewer.
    expected[2] = [reference.uniform(3, 2**40, 0, c) for c in range(6)]
    np.testing.assert_array_equal(found, expected)


def test_the_numbers_of_pairs_are_uniform_and_unrelated():
    def numbers(seed, step):
        return uniform_by_pair(
            tf.range(400, dtype=tf.int64), tf.constant(400, tf.int64), (seed, step)
        ).numpy()

    found = numbers(0, 0)
    counts, _ = np.histogram(found, 100, (0, 1))
    assert np.square(counts - 1600).sum() / 1600 < 160  # chi-squared, 99 degrees: 4 deviations
    others = [numbers(1, 0), numbers(0, 1), found.T, np.roll(found, 1, 0), np.roll(found, 1, 1)]
    for other in others:
        assert abs(np.corrcoef(found.ravel(), other.ravel())[0, 1]) < 0.01  # 4 deviations
