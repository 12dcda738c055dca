"""Easy positive: for each anchor, its nearest positive and a hard or semi-hard negative."""

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from src.mining.rows import Slopes


def easy_positive(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float | str,
    distance: str,
    anchors: tf.Tensor | None = None,
    negative: str = "semihard",
    temperature: float = 0.1,
) -> TripletLoss:
    """Return the mean over anchors of max(min_p d(a,p) - d(a,n) + margin, 0).

    The positive p is the nearest one. The negative n is the nearest with d(a,n) > d(a,p), or the
    nearest. Takes O(AC) time and memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm.
        margin: > 0, in units of the distance; or "soft" for softplus((d(a,p) - d(a,n)) /
            temperature), which is the paper's loss if the distance is "cosine".
        distance: a key of `src.distance.DISTANCES`.
        anchors: integer [A], the positions of the anchors among the C examples; None for all.
        negative: "semihard" or "hard".
        temperature: > 0, of the soft margin.

    Returns:
        The loss: a mean over the anchors that have both a positive and a negative; others are left
        out, also those that have no negative farther away than the positive, with "semihard". The
        counts cover one triplet for each of these anchors. Under a soft margin, it counts as
        positive if the anchor's nearest negative is not farther away than its nearest positive.

    Source:
        arXiv:1904.04370, section 3: EPHN (hard) and EPSHN (semihard). The temperature is that of
        the authors' program.
    """
    # Long: the definition and its code belong side by side.
    rectangle = Rectangle(labels, embeddings, distance, anchors)
    same, distances, infinity = rectangle.same, rectangle.distances, np.float32(np.inf)  # [A, C]
    positives = rectangle.with_own(tf.where(same, distances, infinity), infinity)
    to_positive = tf.reduce_min(positives, axis=1)  # [A]
    negatives = rectangle.to_negatives
    is_wrong = tf.reduce_min(negatives, axis=1) <= to_positive
    if negative == "semihard":
        negatives = tf.where(negatives > to_positive[:, None], negatives, infinity)
    to_negative = tf.reduce_min(negatives, axis=1)
    has_triplet = tf.logical_and(to_positive < infinity, to_negative < infinity)
    differences = tf.where(has_triplet, to_positive - to_negative, 0.0)
    if margin == "soft":
        is_positive = is_wrong
        losses = tf.math.softplus(differences / temperature)
        slopes = tf.sigmoid(differences / temperature) / temperature
    else:
        losses = tf.nn.relu(differences + margin)
        is_positive = losses > 0
        slopes = tf.cast(is_positive, tf.float32)
    is_triplet = tf.cast(has_triplet, tf.float32)
    num_triplets = tf.math.count_nonzero(has_triplet)
    chosen = tf.argmin(positives, axis=1), tf.argmin(negatives, axis=1)
    rows = tf.range(tf.size(chosen[0], tf.int64))
    return rectangle.loss(
        Slopes(
            rectangle.slopes_of(rows, *chosen, slopes * is_triplet),
            loss_sum=tf.reduce_sum(tf.cast(losses * is_triplet, tf.float64)),
            num_positive_triplets=tf.math.count_nonzero(tf.logical_and(is_positive, has_triplet)),
        ),
        num_averaged_triplets=num_triplets,
        num_valid_triplets=num_triplets,
    )
