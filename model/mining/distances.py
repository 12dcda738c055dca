"""The distances of `src/distance.py`, in TensorFlow."""

import numpy as np
import tensorflow as tf

from src.distance import DISTANCES


def comparable(embeddings: tf.Tensor, distance: str) -> tf.Tensor:
    """Return vectors whose squared Euclidean distances are the input of `from_squared`.

    Args:
        embeddings: float32 or float64 [N, D].
        distance: a key of DISTANCES.

    Returns:
        The embeddings, or float64 vectors of length 1. A zero vector stays zero and gets no
        gradient.
    """
    if not DISTANCES[distance].compares_directions:
        return embeddings
    vectors = tf.cast(embeddings, tf.float64)
    squared = tf.reduce_sum(tf.square(vectors), axis=1, keepdims=True)
    is_nonzero = tf.not_equal(squared, 0.0)  # NaN is; at 0 the root's gradient is infinite
    return vectors / tf.where(is_nonzero, tf.sqrt(tf.where(is_nonzero, squared, 1.0)), np.inf)


def from_squared(squared: tf.Tensor, distance: str, num_dimensions: int) -> tf.Tensor:
    """Return the distances, given the squared Euclidean distances of `comparable` vectors.

    Args:
        squared: float of any shape, >= 0. Its gradient at 0 may be infinite.
        distance: a key of DISTANCES.
        num_dimensions: D.
    """
    divisor = DISTANCES[distance].divisor
    return tf.sqrt(squared) if divisor is None else squared * (1 / divisor(num_dimensions))


def pulls(slopes: tf.Tensor, distances: tf.Tensor, distance: str, num_dimensions: int) -> tf.Tensor:
    """Return each pair's pull: the derivative of slope * d(x, y) by x is pull * (x - y).

    Args:
        slopes: float32, any shape.
        distances: the same type and shape.
        distance: a key of DISTANCES.
        num_dimensions: D.

    Returns:
        The same type and shape; 0 at Euclidean distance 0, where the gradient does not exist.
    """
    divisor = DISTANCES[distance].divisor
    if divisor is None:  # the derivative of |x - y| is (x - y) / |x - y|
        return tf.math.divide_no_nan(slopes, distances)
    return slopes * (2 / divisor(num_dimensions))  # the derivative of |x - y|^2 is 2 (x - y)


def paired_distances(x: tf.Tensor, y: tf.Tensor, distance: str) -> tf.Tensor:
    """Return the distance between each row of `x` and the same row of `y`, with a gradient.

    Args:
        x: float64 [T, D].
        y: float64 [T, D].
        distance: a key of DISTANCES.

    Returns:
        float64 [T]; NaN if outside the range of float32. The gradient at distance 0 is 0.
    """
    differences = comparable(x, distance) - comparable(y, distance)
    squared = tf.reduce_sum(tf.square(differences), axis=1)
    is_nonzero = tf.not_equal(squared, 0.0)  # NaN is; at 0 the root's gradient is infinite
    distances = from_squared(tf.where(is_nonzero, squared, 1.0), distance, x.shape[1])
    distances = tf.where(is_nonzero, distances, 0.0)
    return tf.where(distances < tf.float32.max, distances, np.nan)
