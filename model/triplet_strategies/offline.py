"""Offline: the triplets come stacked from the sampler; the loss is the mean over all of them."""

import tensorflow as tf

from model.mining.distances import paired_distances
from model.mining.loss import TripletLoss


def offline(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the triplets of the batch.

    Three inputs to one network with shared weights equal one input three times as long. The batch
    holds T anchors, then their positives, then their negatives.

    Args:
        labels: integer [3T] or [3T, 1].
        embeddings: float32 [3T, D], of any norm.
        margin: > 0, in units of the distance.
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        The loss: a mean over all T triplets, including those of loss 0, and their counts. Rows
        whose labels form no triplet are left out: see `src/mining/triplets.py`.
    """
    anchors, positives, negatives = tf.split(tf.reshape(labels, [-1]), 3)  # each [T]
    is_triplet = tf.logical_and(tf.equal(anchors, positives), tf.not_equal(anchors, negatives))
    # float64, as in model/mining/rectangle.py
    anchors, positives, negatives = tf.split(tf.cast(embeddings, tf.float64), 3)  # each [T, D]
    to_positives = paired_distances(anchors, positives, distance)
    losses = to_positives - paired_distances(anchors, negatives, distance) + margin  # [T]
    # Count NaN, so that it is not lost. "not <= 0" fails: TensorFlow's graph optimizer turns it
    # into "> 0".
    is_positive = tf.logical_and(is_triplet, tf.logical_or(losses > 0, tf.math.is_nan(losses)))
    num_triplets = tf.math.count_nonzero(is_triplet)
    return TripletLoss(
        tf.reduce_sum(tf.where(is_positive, losses, 0.0)),
        num_averaged_triplets=num_triplets,
        num_positive_triplets=tf.math.count_nonzero(is_positive),
        num_valid_triplets=num_triplets,
    )
