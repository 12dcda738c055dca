"""Batch-all: every valid triplet of the batch, the loss a mean over the positive ones.

The definition runs over B^3 triplets. The same numbers need only counts: the sum over the positive
triplets of d(a,p) - d(a,n) + margin holds each d(a,p) once for every negative that is nearer than
d(a,p) + margin, and each d(a,n) once for every such positive. One sort of each anchor's row gives
all the counts, so O(B^2 log B) time and O(B^2) memory; and since the counts are piecewise constant,
the sum is linear in the distances and its gradient is the counts themselves.
"""

from model.distances import pairwise_distances, positive_and_negative_masks
from model.estimator import tf
from model.triplet_strategies import TripletLoss


def batch_all(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, squared: bool
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the positive triplets.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], not necessarily of length 1.
        margin: > 0, in units of the distance.
        squared: squared Euclidean distances instead of Euclidean.

    Returns:
        The loss, a mean over the valid triplets whose loss is > 0; the counts run over all valid
        triplets (a, p, n): a != p of one label, n of another.

    Source:
        arXiv:1703.07737, section 2, "batch all", in the variant L_BA!=0 that leaves out triplets
        of loss 0.
    """
    distances = pairwise_distances(embeddings, squared=squared)  # [B, B]
    is_positive, is_negative = positive_and_negative_masks(labels, embeddings)

    # In each anchor's row, sort its positives by d + margin among its negatives by d. A triplet
    # is positive where its positive stands after its negative. Where both are equal its loss is
    # 0: a relative 2^-40, below float32's 2^-24, puts such a negative behind the positive.
    keys = tf.where(
        is_positive,
        tf.cast(distances + margin, tf.float64),
        tf.cast(distances, tf.float64) * (1 + 2**-40),
    )
    order = tf.argsort(keys, axis=1)  # [B, B]
    positives = tf.cast(tf.gather(is_positive, order, batch_dims=1), tf.int32)
    negatives = tf.cast(tf.gather(is_negative, order, batch_dims=1), tf.int32)
    num_nearer_negatives = positives * tf.cumsum(negatives, axis=1)
    num_farther_positives = negatives * tf.cumsum(positives, axis=1, reverse=True)

    sorted_distances = tf.cast(tf.gather(distances, order, batch_dims=1), tf.float64)
    num_positive_triplets = tf.reduce_sum(tf.cast(num_nearer_negatives, tf.int64))
    count = tf.cast(num_positive_triplets, tf.float64)
    # The two sums nearly cancel where the losses are small beside the distances: float64.
    weights = tf.cast(num_nearer_negatives - num_farther_positives, tf.float64)
    total = tf.reduce_sum(weights * sorted_distances) + margin * count

    num_valid_triplets = tf.reduce_sum(
        tf.math.count_nonzero(is_positive, axis=1) * tf.math.count_nonzero(is_negative, axis=1)
    )
    return TripletLoss(
        loss=tf.cast(tf.math.divide_no_nan(total, count), tf.float32),
        num_averaged_triplets=num_positive_triplets,
        num_positive_triplets=num_positive_triplets,
        num_valid_triplets=num_valid_triplets,
    )
