"""Batch-hard: for each anchor its farthest positive and its nearest negative."""

from model.distances import pairwise_distances, positive_and_negative_masks
from model.estimator import tf
from model.triplet_strategies import TripletLoss


def batch_hard(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float | str, distance: str
) -> TripletLoss:
    """Return the mean over anchors of max(max_p d(a,p) - min_n d(a,n) + margin, 0).

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], not necessarily of length 1.
        margin: > 0, in units of the distance; or "soft", for softplus(max_p d(a,p) - min_n d(a,n)),
            which pulls on however well separated an anchor is.
        distance: see `pairwise_distances`.

    Returns:
        The loss, a mean over the anchors that have both a positive and a negative in the batch;
        others are left out (docs/decisions/0003-batch-hard-anchors.md). The counts run over those
        anchors' hardest triplets, one each; under a soft margin a triplet counts as positive where
        its negative is not farther than its positive.

    Source:
        arXiv:1703.07737, section 2, the equation of L_BH, and "soft-margin" below it.
    """
    distances = pairwise_distances(embeddings, distance)  # [B, B]
    is_positive, is_negative = positive_and_negative_masks(labels, embeddings)
    has_triplet = tf.logical_and(
        tf.reduce_any(is_positive, axis=1), tf.reduce_any(is_negative, axis=1)
    )  # [B]

    hardest_positive = tf.reduce_max(tf.where(is_positive, distances, 0.0), axis=1)  # [B]
    # A finite stand-in for "no negative": an infinite one would make the gradient 0 * inf.
    hardest_negative = tf.reduce_min(tf.where(is_negative, distances, tf.float32.max), axis=1)
    # Anchors left out get a finite difference before the loss, so that its gradient is finite too.
    difference = tf.where(has_triplet, hardest_positive - hardest_negative, 0.0)
    if margin == "soft":
        losses, is_active = tf.math.softplus(difference), difference >= 0.0
    else:
        losses = tf.maximum(difference + margin, 0.0)
        is_active = losses > 0.0
    losses = tf.where(has_triplet, losses, 0.0)  # [B]

    num_anchors = tf.math.count_nonzero(has_triplet)
    return TripletLoss(
        loss=tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(num_anchors, tf.float32)),
        num_averaged_triplets=num_anchors,
        num_positive_triplets=tf.math.count_nonzero(tf.logical_and(has_triplet, is_active)),
        num_valid_triplets=num_anchors,
    )
