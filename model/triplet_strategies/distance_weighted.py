"""Distance-weighted: for each anchor-positive pair, a negative drawn evenly by its distance."""

import numpy as np
import tensorflow as tf

from model.mining.draws import uniform_by_pair
from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from model.mining.sorting import add_at
from src.mining.rows import Slopes


def distance_weighted(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float,
    distance: str,
    anchors: tf.Tensor | None = None,
    seed: tf.Tensor | tuple[int, int] = (0, 0),
    cutoff: float = 0.5,
    farthest: float = 1.4,
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over anchor-positive pairs.

    The negative n of each pair (a, p) is drawn with a probability proportional to 1 / q(r), where
    r is the Euclidean distance of a and n after scaling them to length 1, at least `cutoff`, and
    q is the density of such distances between random points of the sphere in D dimensions:

        q(r) = r^(D-2) (1 - r^2 / 4)^((D-3) / 2)

    Negatives from `farthest` on are not drawn. Takes O(AC log C) time and O(AC) memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm. The paper's have length 1.
        margin: > 0, in units of the distance.
        distance: a key of `src.distance.DISTANCES`, of the loss.
        anchors: integer [A], the positions of the anchors among the C examples; None for all.
        seed: int64 [2], the seed of the run and the step. The draw of (a, p) depends on it, on the
            positions of a and p, and on the distances of a.
        cutoff: > 0, so that the few nearest negatives do not get all of the weight.
        farthest: <= 2, because farther negatives rarely have a loss.

    Returns:
        The loss: a mean over the pairs (a, p) of anchors that have a negative nearer than
        `farthest`, including pairs of loss 0. The counts cover these pairs, one triplet each.

    Source:
        arXiv:1706.07567, section 4, with the triplet loss; both limits are those of the authors'
        program.
    """
    # Long: the definition and its code belong side by side.
    rectangle = Rectangle(labels, embeddings, distance, anchors)
    directions = rectangle
    if distance != "cosine":
        directions = Rectangle(labels, embeddings, "cosine", anchors)
    same, distances, num_dimensions = rectangle.same, rectangle.distances, embeddings.shape[1]
    halved = tf.maximum(directions.distances, cutoff**2 / 2)  # r^2 / 2, [A, C]
    log_density = 0.5 * (num_dimensions - 2) * tf.math.log(halved)
    log_density += 0.5 * (num_dimensions - 3) * tf.math.log1p(-0.5 * halved)
    is_drawable = tf.logical_and(tf.logical_not(same), directions.distances < farthest**2 / 2)
    weights = tf.where(is_drawable, -log_density, -np.float32(np.inf))
    has_negative = tf.reduce_any(is_drawable, axis=1, keepdims=True)  # [A, 1]
    weights -= tf.where(has_negative, tf.reduce_max(weights, axis=1, keepdims=True), 0.0)
    # float64, so that the draw does not depend on the order in which numbers are added.
    sums = tf.cumsum(tf.cast(tf.exp(weights), tf.float64), axis=1)
    draws = uniform_by_pair(rectangle.positions, tf.shape(sums, out_type=tf.int64)[1], seed)
    # The first place whose sum exceeds the draw; columns of weight 0 never are.
    thresholds = draws * sums[:, -1:]
    chosen = tf.searchsorted(sums, thresholds, side="right", out_type=tf.int64)  # [A, C]

    is_triplet = tf.logical_and(rectangle.to_positives >= 0, has_negative)  # [A, C]
    chosen = tf.where(is_triplet, chosen, np.int64(0))
    losses = tf.nn.relu(distances + margin - tf.gather(distances, chosen, batch_dims=1))
    losses = tf.where(is_triplet, losses, 0.0)
    active = tf.cast(losses > 0, tf.float32)
    num_triplets = tf.math.count_nonzero(is_triplet)
    return rectangle.loss(
        Slopes(
            active - add_at(chosen, active),
            tf.reduce_sum(tf.cast(losses, tf.float64)),
            tf.math.count_nonzero(losses > 0),
        ),
        num_averaged_triplets=num_triplets,
        num_valid_triplets=num_triplets,
    )
