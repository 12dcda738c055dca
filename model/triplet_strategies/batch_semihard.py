"""Batch-semihard: for each anchor and positive, the nearest negative that is farther away."""

from functools import partial

import numpy as np

from model.estimator import tf
from model.mining.distances import BatchDistances, Weights
from model.mining.loss import TripletLoss
from src.mining.rows import Rows, sort_rows
from src.mining.rows import Weights as RowWeights


def batch_semihard(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over all anchors and positives.

    The negative n of (a, p) is the nearest one with d(a,n) > d(a,p); where there is none, the
    farthest negative. In O(B^2 log B) time and O(B^2) memory.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D]. FaceNet's have length 1.
        margin: > 0, in units of the distance.
        distance: see `src.embeddings.pairs.paired_distances`. FaceNet's is `squared_euclidean`.

    Returns:
        The loss, a mean over the pairs (a, p) that have a negative in the batch, also those of
        loss 0; the counts run over those pairs, one triplet each.

    Source:
        arXiv:1503.03832, section 3.2; with the farthest negative in place of none as in
        `triplet_semihard_loss` of TensorFlow 1 and TensorFlow Addons.
    """
    batch = BatchDistances(labels, embeddings, distance)
    found = tf.cond(
        batch.has_few_pairs,
        lambda: weigh_pairs(batch, margin),
        lambda: batch.weigh_rows(partial(weigh_rows, margin=margin)),
    )
    has_negatives = tf.size(batch.class_sizes) > 1
    num_triplets = tf.where(has_negatives, batch.num_pairs, np.int64(0))
    return batch.loss(found, num_averaged_triplets=num_triplets, num_valid_triplets=num_triplets)


def weigh_pairs(batch: BatchDistances, margin: float) -> Weights:
    """Choose each pair's negative, looking at all of its anchor's."""
    pairs = batch.positive_pairs()  # [N, 2]
    anchors, positives = pairs[:, 0], pairs[:, 1]
    to_positive = tf.gather_nd(batch.distances, pairs)
    infinity = np.float32(np.inf)
    negatives = tf.gather(tf.where(batch.same, infinity, batch.distances), anchors)  # [N, B]
    farther = tf.where(negatives > to_positive[:, None], negatives, infinity)
    nearest = tf.argmin(farther, axis=1)  # [N]
    has_farther = tf.gather(farther, nearest, batch_dims=1) < infinity
    farthest = tf.argmax(tf.where(batch.same, -1.0, batch.distances), axis=1)  # [B]
    chosen = tf.where(has_farther, nearest, tf.gather(farthest, anchors))
    to_chosen = tf.gather_nd(batch.distances, tf.stack([anchors, chosen], axis=1))

    # In a batch of one class there is none to choose.
    has_negative = tf.cast(tf.size(batch.class_sizes) > 1, tf.float32)
    losses = tf.nn.relu((to_positive + margin) - to_chosen) * has_negative  # [N]
    is_active = losses > 0
    return Weights(
        batch.weights_of(anchors, positives, chosen, tf.cast(is_active, tf.float32)),
        loss_sum=tf.reduce_sum(tf.cast(losses, tf.float64)),
        num_positive_triplets=tf.math.count_nonzero(is_active),
    )


def weigh_rows(rows: Rows, *, margin: float) -> RowWeights:
    """Choose each pair's negative, and count, for each distance, the positive triplets."""
    distances, same, anchors = rows
    # Strictly farther: of equal distances the positives come last.
    is_positive, places = sort_rows(distances, same, anchors)
    ordered = distances.reshape(-1)[places]  # [R, B - 1]
    # The rank of the nearest negative behind each rank, found from the right; where there is
    # none behind, that of the last negative.
    num_ranks = places.shape[1]
    ranks = np.arange(num_ranks, dtype=np.int32)
    behind = np.where(is_positive, np.int32(num_ranks), ranks)
    np.minimum.accumulate(behind[:, ::-1], axis=1, out=behind[:, ::-1])
    last = np.where(is_positive, np.int32(-1), ranks).max(axis=1, initial=-1)
    row, rank = np.nonzero(is_positive & (last >= 0)[:, None])
    negative = np.minimum(behind[row, rank], last[row])
    losses = (ordered[row, rank] + np.float32(margin)) - ordered[row, negative]
    is_active = losses > 0

    weights = np.zeros(distances.size, np.float32)
    weights[places[row, rank]] = is_active
    np.subtract.at(weights, places[row, negative][is_active], np.float32(1))
    return RowWeights(
        weights.reshape(distances.shape),
        loss_sum=float(losses[is_active].sum(dtype=np.float64)),
        num_positive_triplets=int(np.count_nonzero(is_active)),
    )
