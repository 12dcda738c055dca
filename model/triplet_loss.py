"""The losses under the names and signatures that users of this code layout know.

For scripts that only need a loss. They import TensorFlow and nothing that changes it: no Keras, no
Estimator, no environment variable. Those of TensorFlow Addons, for Keras, are in
`model/keras_losses.py`.
"""

import math

import tensorflow as tf

from model.keras_losses import (
    TripletAllLoss,
    TripletHardLoss,
    TripletSemiHardLoss,
    triplet_all_loss,
    triplet_hard_loss,
    triplet_semihard_loss,
)
from model.triplet_strategies.batch_all import batch_all
from model.triplet_strategies.batch_hard import batch_hard
from src.errors import UserError

__all__ = [
    "TripletAllLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
    "batch_all_triplet_loss",
    "batch_hard_triplet_loss",
    "triplet_all_loss",
    "triplet_hard_loss",
    "triplet_semihard_loss",
]


def batch_all_triplet_loss(
    labels: tf.Tensor, embeddings: tf.Tensor, margin: float, squared: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the batch-all loss and the fraction of positive triplets.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D].
        margin: > 0, in units of the distance.
        squared: squared Euclidean distances instead of Euclidean.

    Returns:
        The loss and fraction_positive, float32 scalars; see `batch_all`.

    Raises:
        UserError: the margin is not a number above 0.

    Example:
        >>> from model.triplet_loss import batch_all_triplet_loss
        >>> import tensorflow as tf
        >>> labels = tf.constant([0, 0, 1, 1])
        >>> embeddings = tf.constant([[0.0], [1.0], [3.0], [5.0]])
        >>> loss, fraction_positive = batch_all_triplet_loss(labels, embeddings, margin=3.0)
        >>> print(f"{float(loss):.3f}, {float(fraction_positive):.3f}")  # of 8 triplets 5
        1.800, 0.625
    """
    margin = _checked(margin)
    triplets = batch_all(labels, embeddings, margin=margin, distance=_distance(squared))
    return triplets.loss, triplets.fraction_positive


def batch_hard_triplet_loss(
    labels: tf.Tensor, embeddings: tf.Tensor, margin: float | str, squared: bool = False
) -> tf.Tensor:
    """Return the batch-hard loss.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D].
        margin: > 0, in units of the distance; or "soft".
        squared: squared Euclidean distances instead of Euclidean.

    Returns:
        The loss, a float32 scalar; see `batch_hard`.

    Raises:
        UserError: the margin is neither a number above 0 nor "soft".

    Example:
        >>> from model.triplet_loss import batch_hard_triplet_loss
        >>> import tensorflow as tf
        >>> labels = tf.constant([0, 0, 1, 1])
        >>> embeddings = tf.Variable([[0.0], [1.0], [3.0], [5.0]])
        >>> with tf.GradientTape() as tape:
        ...     loss = batch_hard_triplet_loss(labels, embeddings, margin=3.0)
        >>> print(f"{float(loss):.3f}")
        1.750
        >>> tape.gradient(loss, embeddings).numpy().ravel().tolist()
        [-0.25, 1.25, -1.25, 0.25]
    """
    chosen = "soft" if margin == "soft" else _checked(margin, ' or "soft"')
    return batch_hard(labels, embeddings, margin=chosen, distance=_distance(squared)).loss


def _checked(margin: float | str, or_else: str = "") -> float:
    if isinstance(margin, str) or not 0 < margin < math.inf:
        raise UserError(f"margin: found {margin!r}; accepted: a number > 0{or_else}")
    return margin


def _distance(squared: bool) -> str:
    return "squared_euclidean" if squared else "euclidean"
