"""Batch-semihard: for each anchor and positive, the nearest negative that is farther away."""

from functools import partial

import numpy as np

from model.estimator import tf
from model.mined_loss import mined_loss
from model.triplet_strategies import TripletLoss
from src.mining import Rows, Weights, sort_rows, unsort_rows


def batch_semihard(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over all anchors and positives.

    The negative n of (a, p) is the nearest one with d(a,n) > d(a,p); where there is none, the
    farthest negative. In O(B^2 log B) time and O(B^2) memory, by sorting.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D]. FaceNet's have length 1.
        margin: > 0, in units of the distance.
        distance: see `src.mining.mine`. FaceNet's is `squared_euclidean`.

    Returns:
        The loss, a mean over the pairs (a, p) that have a negative in the batch, also those of
        loss 0; the counts run over those pairs, one triplet each.

    Source:
        arXiv:1503.03832, section 3.2; with the farthest negative in place of none as in
        `triplet_semihard_loss` of TensorFlow 1 and TensorFlow Addons.
    """
    return mined_loss(partial(weigh, margin=margin), labels, embeddings, distance)


def weigh(rows: Rows, *, margin: float) -> Weights:
    """Choose each pair's negative, and count, for each distance, the positive triplets."""
    distances, same, anchors = rows
    # Strictly farther: of equal distances the positives come last.
    is_positive, columns = sort_rows(distances, same, anchors)
    row_starts = np.arange(len(columns))[:, None] * distances.shape[1]
    ordered = distances.reshape(-1)[columns + row_starts]  # [R, B - 1]
    # The place of the nearest negative behind each place, found from the right; where there is
    # none behind, that of the last negative.
    places = np.arange(columns.shape[1], dtype=np.int32)
    behind = np.where(is_positive, np.int32(len(places)), places)
    chosen = np.minimum.accumulate(behind[:, ::-1], axis=1)[:, ::-1]
    last = np.where(is_positive, np.int32(-1), places).max(axis=1, keepdims=True, initial=-1)
    row, place = np.nonzero(is_positive & (last >= 0))
    negative = np.minimum(chosen[row, place], last[row, 0])
    losses = ordered[row, place] - ordered[row, negative] + margin
    is_active = losses > 0

    weights = np.zeros(columns.shape, np.int32)
    weights[row, place] = is_active
    np.subtract.at(weights, (row[is_active], negative[is_active]), 1)
    return Weights(
        unsort_rows(weights, columns),
        loss_sum=float(losses[is_active].sum()),
        num_averaged_triplets=len(row),
        num_positive_triplets=int(np.count_nonzero(is_active)),
        num_valid_triplets=len(row),
    )
