"""Supervised contrastive: each anchor's positives against all of its other candidates."""

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.similarities import Similarities


def supervised_contrastive(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float | str,
    distance: str,
    anchors: tf.Tensor | None = None,
    temperature: float = 0.1,
) -> TripletLoss:
    """Return the mean over anchors of the supervised contrastive loss.

    With cosine similarities s, the loss of an anchor is the mean over its positives of

        -log(exp(s(a,p) / temperature) / sum_j exp(s(a,j) / temperature))

    where j stands for every other candidate. Takes O(AC) time and memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm.
        margin: not used; the loss has none.
        distance: "cosine".
        anchors: integer [A], the positions of the anchors among the C examples; None for all.
        temperature: > 0.

    Returns:
        The loss: a mean over the anchors that have both a positive and a negative; others are left
        out. The counts cover the hardest triplet of each of these anchors. As under a soft margin,
        it counts as positive if its negative is not farther away than its positive.

    Raises:
        ValueError: the distance is not "cosine".

    Source:
        arXiv:2004.11362, equation 2: the sum over positives is outside of the logarithm.
    """
    # Long: the definition and its code belong side by side.
    pairs = Similarities(labels, embeddings, distance, anchors)
    is_positive = tf.cast(pairs.is_positive, tf.float32)
    is_other = tf.logical_or(pairs.is_positive, pairs.is_negative)  # all but the anchor itself
    distances = tf.where(is_other, pairs.distances, np.float32(np.inf))
    nearest = tf.reduce_min(distances, axis=1, keepdims=True)
    nearest = tf.where(pairs.has_triplet[:, None], nearest, 0.0)  # the only candidate has no other
    # -s = d - 1, and a constant changes nothing.
    exponentials = tf.exp((nearest - distances) / temperature)
    total = tf.reduce_sum(exponentials, axis=1, keepdims=True)
    shares = is_positive / tf.maximum(tf.reduce_sum(is_positive, axis=1, keepdims=True), 1.0)
    to_positives = tf.reduce_sum(shares * (pairs.distances - nearest), axis=1)
    return pairs.loss(
        to_positives / temperature + tf.math.log(total)[:, 0],
        (shares - exponentials / total) / temperature,
        is_positive=pairs.farthest >= pairs.nearest,
        num_averaged_triplets=pairs.num_triplets,
    )
