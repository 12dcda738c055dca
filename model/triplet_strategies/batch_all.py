"""Batch-all: every valid triplet of the batch; the loss is the mean over the positive ones."""

from functools import partial

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from model.mining.sorting import TensorRows, add_at, sort_tensor_rows
from src.mining.rows import Rows, Slopes, sort_rows, unsort_rows


def batch_all(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    margin: float,
    distance: str,
    anchors: tf.Tensor | None = None,
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the positive triplets.

    Takes O(AC log C) time and O(AC) memory.

    Args:
        labels: integer [C] or [C, 1].
        embeddings: float32 [C, D], of any norm.
        margin: > 0, in units of the distance.
        distance: a key of `src.distance.DISTANCES`.
        anchors: integer [A], the positions of the anchors among the C examples; None for all.

    Returns:
        The loss: a mean over the valid triplets whose loss is > 0. The counts cover all valid
        triplets (a, p, n): a != p with the same label, n with another label.

    Source:
        arXiv:1703.07737, section 2, "batch all", in the variant L_BA!=0, which leaves out triplets
        of loss 0.
    """
    return mine(Rectangle(labels, embeddings, distance, anchors), margin)


def mine(rectangle: Rectangle, margin: float) -> TripletLoss:
    """Return the loss of given distances; see `batch_all`."""
    found = rectangle.find(
        lambda: enumerate_pairs(rectangle, margin),
        partial(sort, margin=margin),
        partial(sort_tensors, margin=margin),
        margin,
    )
    return rectangle.loss(
        found,
        num_averaged_triplets=found.num_positive_triplets,
        num_valid_triplets=rectangle.num_triplets,
    )


def enumerate_pairs(rectangle: Rectangle, margin: float) -> Slopes:
    """Count the positive triplets: compare each pair's threshold with its anchor's negatives."""
    pairs = rectangle.positive_pairs()  # [N, 2]
    rows = pairs[:, 0]
    thresholds = tf.gather_nd(rectangle.distances, pairs) + margin  # [N]
    negatives = tf.gather(rectangle.to_negatives, rows)  # [N, C]
    is_positive = tf.cast(negatives < thresholds[:, None], tf.float32)
    # A positive triplet adds 1 to its positive's slope and subtracts 1 from its negative's.
    counts = tf.reduce_sum(is_positive, axis=1)
    shape = tf.shape(rectangle.distances, out_type=tf.int64)
    by_negative = tf.math.segment_sum(is_positive, rows)  # up to the last row with a pair
    num_missing = shape[0] - tf.shape(by_negative, out_type=tf.int64)[0]
    slopes = tf.scatter_nd(pairs, counts, shape) - tf.pad(by_negative, [[0, num_missing], [0, 0]])
    num_positive = tf.reduce_sum(tf.cast(counts, tf.float64))
    # float64, because the sum of the losses is small compared to that of the distances.
    weighted = tf.cast(slopes, tf.float64) * tf.cast(rectangle.distances, tf.float64)
    loss_sum = tf.reduce_sum(weighted) + margin * num_positive
    return Slopes(slopes, loss_sum, tf.cast(num_positive, tf.int64))


def sort(rows: Rows, *, margin: float) -> Slopes:
    """Count, for each distance, the positive triplets: those with d(a,n) < d(a,p) + margin."""
    distances, same, anchors = rows
    # Sort the positives by d + margin, together with the negatives by d. A triplet is positive if
    # its positive stands after its negative. If both are equal its loss is 0, so negatives come
    # last.
    thresholds = same.astype(np.float32)
    thresholds *= margin
    thresholds += distances
    is_negative, places = sort_rows(thresholds, ~same, anchors)
    num_negatives = np.cumsum(is_negative, axis=1, dtype=np.int32)  # up to each place
    num_positives = np.arange(1, same.shape[1], dtype=np.int32) - num_negatives
    # A positive triplet adds 1 to its positive's slope and subtracts 1 from its negative's.
    counts = num_positives - num_positives[:, -1:]
    np.copyto(counts, num_negatives, where=~is_negative)
    slopes = unsort_rows(counts, places)
    # Each triplet is counted twice. An anchor has at most (C - 1)^2 / 4.
    of_row = np.int32 if same.shape[1] <= 1 << 16 else np.int64
    num_positive = int(np.abs(counts).sum(axis=1, dtype=of_row).sum(dtype=np.int64)) // 2
    # float64, because the sum of the losses is small compared to that of the distances.
    distance_sum = float(np.einsum("ij,ij->", slopes, distances, dtype=np.float64))
    return Slopes(slopes, distance_sum + margin * num_positive, num_positive)


def sort_tensors(rows: TensorRows, *, margin: float) -> tf.Tensor:
    """Return the slopes that `sort` finds, float32 [R, C], in TensorFlow ops."""
    distances, same, is_own = rows
    thresholds = tf.where(same, distances + margin, distances)
    is_negative, places = sort_tensor_rows(thresholds, tf.logical_not(same), is_own)
    num_negatives = tf.cumsum(is_negative, axis=1)  # up to each place
    num_positives = tf.cumsum(1.0 - is_negative, axis=1)  # without the anchor, which is last
    by_negative = num_positives - num_positives[:, -1:]
    return add_at(places, tf.where(is_negative > 0, by_negative, num_negatives))
