"""Random numbers for pairs of an anchor and a candidate, whichever anchors a worker has."""

import numpy as np
import tensorflow as tf


def uniform_by_pair(rows: tf.Tensor, num_columns: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return a random number for each of the given rows and each column, by row and column alone.

    TensorFlow's generators cannot draw arbitrary rows, so this hashes seed, step, row and column:
    rounds of multiplying and shifting 32 bits (github.com/skeeto/hash-prospector). Everything is
    int64, in which no product overflows.

    Args:
        rows: int64 [A], >= 0.
        num_columns: int64 scalar, C.
        seed: int64 [2], the seed of the run and the step, >= 0.

    Returns:
        float64 [A, C], in [0, 1): multiples of 2^-32.
    """
    seed = tf.cast(seed, tf.int64)
    of_step = _mixed(_mixed(seed[0]) ^ _low(seed[1]))
    of_rows = _mixed(of_step ^ _low(rows))  # [A]
    of_columns = _mixed(_low(tf.range(num_columns)) ^ _COLUMNS)  # [C]
    return tf.cast(_mixed(of_rows[:, None] ^ of_columns), tf.float64) * 2.0**-32


_LOW = 0xFFFFFFFF
_COLUMNS = 0x6A09E667  # so that a column is not mixed as the same row is


def _low(values: tf.Tensor) -> tf.Tensor:
    """Return the lower 32 bits."""
    return tf.bitwise.bitwise_and(values, np.int64(_LOW))


def _mixed(values: tf.Tensor) -> tf.Tensor:
    """Return 32 bits that each depend on all of the lower 32: a permutation of them."""
    values = _low(values)
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        values ^= tf.bitwise.right_shift(values, np.int64(shift))
        values = _low(values * factor)
    return values ^ tf.bitwise.right_shift(values, np.int64(15))
