"""From counts to a differentiable loss: what `src/mining.py` finds, as a TensorFlow op."""

from collections.abc import Callable

import numpy as np

from model.estimator import tf
from model.triplet_strategies import TripletLoss
from src.mining import Weights


def mined_loss(
    mine: Callable[..., Weights], labels: tf.Tensor, distances: tf.Tensor, margin: float
) -> TripletLoss:
    """Return the mean loss over the triplets that `mine` finds positive.

    The sum of their losses is linear in the distances, so that its gradient is the weights.

    Args:
        mine: of `src/mining.py`: (distances, labels, margin) -> Weights, in NumPy.
        labels: integer [B] or [B, 1]; any other number of labels raises.
        distances: float32 [B, B].
        margin: > 0, in units of the distance.

    Returns:
        The loss, a mean over the positive triplets, and the counts.
    """
    labels = tf.reshape(labels, tf.shape(distances)[:1])  # [B]

    def run(distances: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
        weights, loss_sum, num_positive, num_valid = mine(distances, labels, margin)
        mean = loss_sum / num_positive if num_positive else 0.0
        return weights, np.float32(mean), np.int64(num_positive), np.int64(num_valid)

    weights, mean, num_positive, num_valid = tf.numpy_function(
        run,
        [tf.stop_gradient(distances), labels],
        [tf.float32, tf.float32, tf.int64, tf.int64],
        stateful=False,
    )
    for scalar in (mean, num_positive, num_valid):
        scalar.set_shape([])

    @tf.custom_gradient
    def loss(distances: tf.Tensor) -> tf.Tensor:
        share = tf.math.divide_no_nan(1.0, tf.cast(num_positive, tf.float32))
        return tf.identity(mean), lambda upstream: upstream * share * weights

    return TripletLoss(
        loss=loss(distances),
        num_averaged_triplets=num_positive,
        num_positive_triplets=num_positive,
        num_valid_triplets=num_valid,
    )
