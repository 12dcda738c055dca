"""What `src/mining.py` finds in NumPy, as a differentiable TensorFlow op."""

from collections.abc import Callable

import numpy as np

from model.estimator import tf
from model.triplet_strategies import TripletLoss
from src.mining import Rows, Weights, mine


def mined_loss(
    weigh: Callable[[Rows], Weights], labels: tf.Tensor, embeddings: tf.Tensor, distance: str
) -> TripletLoss:
    """Return the loss of a batch by the strategy that `weigh` is.

    Args:
        weigh: finds the weights in a block of rows; see `src/mining.py`.
        labels: integer [B] or [B, 1]; any other number of labels raises, for [B, 1] against [B]
            would broadcast to a wrong mask.
        embeddings: float32 [B, D].
        distance: see `src.mining.mine`.

    Returns:
        The loss, whose gradient reaches the embeddings, and the counts.
    """

    def run(labels: np.ndarray, embeddings: np.ndarray) -> tuple[np.ndarray, ...]:
        loss, gradient, *counts = mine(weigh, labels, embeddings, distance)
        return np.float32(loss), gradient, *map(np.int64, counts)

    loss, gradient, *counts = tf.numpy_function(
        run,
        [labels, tf.stop_gradient(embeddings)],
        [tf.float32, tf.float32, tf.int64, tf.int64, tf.int64],
        stateful=False,
    )
    gradient.set_shape(embeddings.shape)
    for scalar in (loss, *counts):
        scalar.set_shape([])

    @tf.custom_gradient
    def with_gradient(embeddings: tf.Tensor) -> tf.Tensor:
        return tf.identity(loss), lambda upstream: upstream * gradient

    return TripletLoss(with_gradient(embeddings), *counts)
