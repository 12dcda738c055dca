"""The losses under the names and signatures that users of this layout know.

Thin faces of `model/triplet_strategies/`, for scripts that call a loss by itself.
"""

from model.estimator import tf
from model.triplet_strategies.batch_all import batch_all
from model.triplet_strategies.batch_hard import batch_hard


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
    """
    triplets = batch_all(labels, embeddings, margin=margin, distance=_distance(squared))
    return triplets.loss, triplets.fraction_positive


def batch_hard_triplet_loss(
    labels: tf.Tensor, embeddings: tf.Tensor, margin: float, squared: bool = False
) -> tf.Tensor:
    """Return the batch-hard loss, a float32 scalar; arguments as above, see `batch_hard`."""
    return batch_hard(labels, embeddings, margin=margin, distance=_distance(squared)).loss


def _distance(squared: bool) -> str:
    return "squared_euclidean" if squared else "euclidean"
