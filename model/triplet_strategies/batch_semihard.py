"""Batch-semihard: for each anchor-positive pair, the nearest negative that is farther away."""

from functools import partial

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from model.mining.sorting import TensorRows, add_at, sort_tensor_rows
from src.mining.rows import Rows, Slopes, sort_rows


def batch_semihard(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float,
    distance: str,
    anchors: tf.Tensor | None = None,
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over all anchor-positive pairs.

    The negative n of (a, p) is the nearest one with d(a,n) > d(a,p); if there is none, the farthest
    negative. Takes O(AC log C) time and O(AC) memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm. FaceNet's have length 1.
        margin: > 0, in units of the distance.
        distance: a key of `src.distance.DISTANCES`. FaceNet's is `squared_euclidean`.
        anchors: integer [A], the positions of the anchors among the C examples; None for all.

    Returns:
        The loss: a mean over the pairs (a, p) that have a negative, including pairs of loss 0. The
        counts cover these pairs, one triplet each.

    Source:
        arXiv:1503.03832, section 3.2. If no negative is farther away, the farthest is used, as in
        `triplet_semihard_loss` of TensorFlow 1 and TensorFlow Addons.
    """
    rectangle = Rectangle(labels, embeddings, distance, anchors)
    count = tf.where(rectangle.has_negatives, rectangle.num_pairs, np.int64(0))
    return rectangle.loss(
        find(rectangle, margin), num_averaged_triplets=count, num_valid_triplets=count
    )


def find(rectangle: Rectangle, margin: float) -> Slopes:
    """Return the slopes of given distances; 0 if there is one class only."""
    return rectangle.find(
        lambda: enumerate_pairs(rectangle, margin),
        partial(sort, margin=margin),
        partial(sort_tensors, margin=margin),
        margin,
    )


def enumerate_pairs(rectangle: Rectangle, margin: float) -> Slopes:
    """Choose each pair's negative among all negatives of its anchor."""
    pairs = rectangle.positive_pairs()  # [N, 2]
    rows, positives = pairs[:, 0], pairs[:, 1]
    to_positive = tf.gather_nd(rectangle.distances, pairs)
    infinity = np.float32(np.inf)
    negatives = tf.gather(rectangle.to_negatives, rows)  # [N, C]
    farther = tf.where(negatives > to_positive[:, None], negatives, infinity)
    nearest = tf.argmin(farther, axis=1)  # [N]
    has_farther = tf.gather(farther, nearest, batch_dims=1) < infinity
    farthest = tf.argmax(tf.where(rectangle.same, -1.0, rectangle.distances), axis=1)  # [A]
    chosen = tf.where(has_farther, nearest, tf.gather(farthest, rows))
    to_chosen = tf.gather_nd(rectangle.distances, tf.stack([rows, chosen], axis=1))

    # With a single class there is no negative to choose.
    has_negatives = tf.cast(rectangle.has_negatives, tf.float32)
    losses = tf.nn.relu((to_positive + margin) - to_chosen) * has_negatives  # [N]
    is_active = losses > 0
    return Slopes(
        rectangle.slopes_of(rows, positives, chosen, tf.cast(is_active, tf.float32)),
        loss_sum=tf.reduce_sum(tf.cast(losses, tf.float64)),
        num_positive_triplets=tf.math.count_nonzero(is_active),
    )


def sort(rows: Rows, *, margin: float) -> Slopes:
    """Choose each pair's negative, and count the positive triplets for each distance."""
    distances, same, anchors = rows
    # The negative must be strictly farther: of equal distances, the positives come last.
    is_positive, places = sort_rows(distances, same, anchors)
    ordered = distances.reshape(-1)[places]  # [R, C - 1]
    # The rank of the nearest negative behind each rank, found from the right. If there is none
    # behind, the rank of the last negative.
    num_ranks = places.shape[1]
    ranks = np.arange(num_ranks, dtype=np.int32)
    behind = np.where(is_positive, np.int32(num_ranks), ranks)
    np.minimum.accumulate(behind[:, ::-1], axis=1, out=behind[:, ::-1])
    last = np.where(is_positive, np.int32(-1), ranks).max(axis=1, initial=-1)
    row, rank = np.nonzero(is_positive & (last >= 0)[:, None])
    negative = np.minimum(behind[row, rank], last[row])
    losses = (ordered[row, rank] + np.float32(margin)) - ordered[row, negative]
    is_active = losses > 0

    slopes = np.zeros(distances.size, np.float32)
    slopes[places[row, rank]] = is_active
    np.subtract.at(slopes, places[row, negative][is_active], np.float32(1))
    return Slopes(
        slopes.reshape(distances.shape),
        loss_sum=float(losses[is_active].sum(dtype=np.float64)),
        num_positive_triplets=int(np.count_nonzero(is_active)),
    )


def sort_tensors(rows: TensorRows, *, margin: float) -> tf.Tensor:
    """Return the slopes that `sort` finds, float32 [R, C], in TensorFlow ops."""
    distances, same, is_own = rows
    is_positive, places = sort_tensor_rows(distances, same, is_own)
    # The columns of the negatives only, nearest first.
    is_negative = 1.0 - is_positive
    num_negatives = tf.cumsum(is_negative, axis=1)  # up to each rank
    negatives = add_at(_whole(num_negatives - 1.0), tf.cast(places, tf.float32) * is_negative)
    # The nearest negative behind each rank; if there is none behind, the last negative.
    behind = _whole(tf.minimum(num_negatives, num_negatives[:, -1:] - 1.0))
    chosen = _whole(tf.gather(negatives, behind, batch_dims=1))  # [R, C]
    # The anchor is no positive of its own.
    to_positive = tf.gather(tf.where(is_own, -np.inf, distances), places, batch_dims=1)
    losses = (to_positive + margin) - tf.gather(distances, chosen, batch_dims=1)
    has_negatives = num_negatives[:, -1:] > 0.0
    is_active = tf.logical_and(tf.logical_and(losses > 0, is_positive > 0), has_negatives)
    active = tf.cast(is_active, tf.float32)
    return add_at(places, active) - add_at(chosen, active)


def _whole(numbers: tf.Tensor) -> tf.Tensor:
    """Return float32 whole numbers as int32, and those below 0 as 0."""
    return tf.cast(tf.nn.relu(numbers), tf.int32)
