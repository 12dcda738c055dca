"""Multi-similarity: the pairs near an error, each weighed against the anchor's other pairs."""

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.similarities import Similarities


def multi_similarity(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float | str,
    distance: str,
    anchors: tf.Tensor | None = None,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    epsilon: float = 0.1,
) -> TripletLoss:
    """Return the mean over anchors of the multi-similarity loss, after its pair mining.

    With cosine similarities s, the loss of an anchor is

        log(1 + sum_p exp(-alpha (s(a,p) - base))) / alpha
        + log(1 + sum_n exp(beta (s(a,n) - base))) / beta

    over the positives with s(a,p) - epsilon < max_n s(a,n) and the negatives with
    s(a,n) + epsilon > min_p s(a,p). Takes O(AC) time and memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm.
        margin: not used; `epsilon` is the margin of the mining.
        distance: "cosine".
        anchors: integer [A], the positions of the anchors among the C examples; None for all.
        alpha: > 0, how much more an anchor's farther positives count.
        beta: > 0, how much more its nearer negatives count.
        base: the similarity that positives are pulled above, and negatives pushed below.
        epsilon: >= 0. An anchor whose positives are all nearer than its negatives, by at least
            this, has no pair.

    Returns:
        The loss: a mean over all A anchors, also those without a pair. The counts cover the hardest
        triplet of each anchor that has one; it is positive if the anchor has a pair, that is if
        d(a,p) - d(a,n) + epsilon > 0.

    Raises:
        ValueError: the distance is not "cosine".

    Source:
        arXiv:1904.06627, sections 4.1 and 4.2. There, base (lambda) is 1; the authors' program and
        pytorch-metric-learning use 0.5.
    """
    # Long: the definition and its code belong side by side.
    pairs = Similarities(labels, embeddings, distance, anchors)
    distances = pairs.distances
    is_hard = tf.logical_and(pairs.is_positive, distances + epsilon > pairs.nearest)
    # s - base = (1 - base) - d
    to_positives, by_positives = log_of_sum(alpha * (distances - (1.0 - base)), is_hard)
    is_hard = tf.logical_and(pairs.is_negative, distances < pairs.farthest + epsilon)
    to_negatives, by_negatives = log_of_sum(beta * ((1.0 - base) - distances), is_hard)
    return pairs.loss(
        to_positives / alpha + to_negatives / beta,
        by_positives - by_negatives,
        is_positive=pairs.farthest + epsilon > pairs.nearest,
        num_averaged_triplets=pairs.num_anchors,
    )


def log_of_sum(values: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return log(1 + sum of exp) over each row's values under the mask, and its derivative.

    Args:
        values: float32 [A, C].
        mask: bool [A, C].

    Returns:
        float32 [A], and float32 [A, C].
    """
    values = tf.where(mask, values, np.float32(-np.inf))
    largest = tf.nn.relu(tf.reduce_max(values, axis=1, keepdims=True))  # [A, 1], 0 for the 1
    exponentials = tf.exp(values - largest)
    total = tf.reduce_sum(exponentials, axis=1, keepdims=True)
    logarithm = largest + tf.math.log1p(total + tf.math.expm1(-largest))
    return logarithm[:, 0], exponentials / (total + tf.exp(-largest))
