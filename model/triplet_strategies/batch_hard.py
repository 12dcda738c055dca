"""Batch-hard: for each anchor, its farthest positive and its nearest negative."""

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from src.mining.rows import Slopes


def batch_hard(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float | str,
    distance: str,
    anchors: tf.Tensor | None = None,
) -> TripletLoss:
    """Return the mean over anchors of max(max_p d(a,p) - min_n d(a,n) + margin, 0).

    Takes O(AC) time and memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm.
        margin: > 0, in units of the distance; or "soft" for softplus(max_p d(a,p) - min_n d(a,n)).
            A soft margin keeps pulling, however well separated an anchor is.
        distance: a key of `src.distance.DISTANCES`.
        anchors: integer [A], the positions of the anchors among the C examples; None for all.

    Returns:
        The loss: a mean over the anchors that have both a positive and a negative; others are left
        out (docs/decisions/0003-batch-hard-anchors.md). The counts cover one triplet, the hardest,
        for each of these anchors. Under a soft margin, a triplet counts as positive if its negative
        is not farther away than its positive.

    Source:
        arXiv:1703.07737, section 2, the equation of L_BH, and "soft-margin" below it.
    """
    # Long: the definition and its code belong side by side.
    rectangle = Rectangle(labels, embeddings, distance, anchors)
    positives, negatives = rectangle.to_positives, rectangle.to_negatives  # [A, C]
    farthest, nearest = tf.argmax(positives, axis=1), tf.argmin(negatives, axis=1)  # each [A]
    to_positive = tf.gather(positives, farthest, batch_dims=1)
    to_negative = tf.gather(negatives, nearest, batch_dims=1)
    has_triplet = tf.logical_and(to_positive >= 0, to_negative < np.inf)
    if margin == "soft":
        differences = tf.where(has_triplet, to_positive - to_negative, 0.0)
        is_positive = differences >= 0
        losses, slopes = tf.math.softplus(differences), tf.sigmoid(differences)
    else:
        losses = tf.nn.relu((to_positive + margin) - to_negative)
        is_positive = losses > 0
        slopes = tf.cast(is_positive, tf.float32)
    is_triplet = tf.cast(has_triplet, tf.float32)
    num_triplets = tf.math.count_nonzero(has_triplet)
    rows = tf.range(tf.size(farthest, tf.int64))
    return rectangle.loss(
        Slopes(
            rectangle.slopes_of(rows, farthest, nearest, slopes * is_triplet),
            loss_sum=tf.reduce_sum(tf.cast(losses * is_triplet, tf.float64)),
            num_positive_triplets=tf.math.count_nonzero(tf.logical_and(is_positive, has_triplet)),
        ),
        num_averaged_triplets=num_triplets,
        num_valid_triplets=num_triplets,
    )
