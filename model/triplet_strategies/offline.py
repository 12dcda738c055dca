"""Offline: the triplets are those of the sampler, stacked; the loss a mean over all of them."""

from model.estimator import tf
from model.mining.distances import paired_distances
from model.mining.loss import TripletLoss


def offline(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the triplets of the batch.

    Three inputs to one network with shared weights are one input three times as long: the batch is
    T anchors, then their positives, then their negatives.

    Args:
        labels: integer [3T] or [3T, 1].
        embeddings: float32 [3T, D], not necessarily of length 1.
        margin: > 0, in units of the distance.
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        The loss, a mean over all T triplets, also those of loss 0, and the counts of them. Left out
        is a row that is no triplet by its labels: see `src/mining/triplets.py`.
    """
    anchors, positives, negatives = tf.split(tf.reshape(labels, [-1]), 3)  # each [T]
    is_triplet = tf.logical_and(tf.equal(anchors, positives), tf.not_equal(anchors, negatives))
    # float64, as in model/mining/rectangle.py
    anchors, positives, negatives = tf.split(tf.cast(embeddings, tf.float64), 3)  # each [T, D]
    to_positives = paired_distances(anchors, positives, distance)
    losses = to_positives - paired_distances(anchors, negatives, distance) + margin  # [T]
    # NaN counts, so that it is not lost. (The graph's optimizer takes "not <= 0" to be "> 0".)
    is_positive = tf.logical_and(is_triplet, tf.logical_or(losses > 0, tf.math.is_nan(losses)))
    num_triplets = tf.math.count_nonzero(is_triplet)
    return TripletLoss(
        tf.reduce_sum(tf.where(is_positive, losses, 0.0)),
        num_averaged_triplets=num_triplets,
        num_positive_triplets=tf.math.count_nonzero(is_positive),
        num_valid_triplets=num_triplets,
    )
