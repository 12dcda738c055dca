"""Batch-hard: for each anchor its farthest positive and its nearest negative."""

from model.distances import pairwise_distances, positive_and_negative_masks
from model.estimator import tf
from model.triplet_strategies import TripletLoss


def batch_hard(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, squared: bool
) -> TripletLoss:
    """Return the mean over anchors of max(max_p d(a,p) - min_n d(a,n) + margin, 0).

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], not necessarily of length 1.
        margin: > 0, in units of the distance.
        squared: squared Euclidean distances instead of Euclidean.

    Returns:
        The loss, a mean over the anchors that have both a positive and a negative in the batch;
        others are left out (docs/decisions/0003-batch-hard-anchors.md). The counts run over those
        anchors' hardest triplets, one each.

    Source:
        arXiv:1703.07737, section 2, the equation of L_BH.
    """
    distances = pairwise_distances(embeddings, squared=squared)  # [B, B]
    is_positive, is_negative = positive_and_negative_masks(labels, embeddings)
    has_triplet = tf.logical_and(
        tf.reduce_any(is_positive, axis=1), tf.reduce_any(is_negative, axis=1)
    )  # [B]

    hardest_positive = tf.reduce_max(tf.where(is_positive, distances, 0.0), axis=1)  # [B]
    # A finite stand-in for "no negative": an infinite one would make the gradient 0 * inf.
    hardest_negative = tf.reduce_min(tf.where(is_negative, distances, tf.float32.max), axis=1)
    losses = tf.maximum(hardest_positive - hardest_negative + margin, 0.0)
    losses = tf.where(has_triplet, losses, 0.0)  # [B]

    num_anchors = tf.math.count_nonzero(has_triplet)
    return TripletLoss(
        loss=tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(num_anchors, tf.float32)),
        num_averaged_triplets=num_anchors,
        num_positive_triplets=tf.math.count_nonzero(losses > 0.0),
        num_valid_triplets=num_anchors,
    )
