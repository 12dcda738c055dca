"""Batch-all: every valid triplet of the batch, the loss a mean over the positive ones."""

from functools import partial

import numpy as np

from model.estimator import tf
from model.mined_loss import mined_loss
from model.triplet_strategies import TripletLoss
from src.mining import Rows, Weights, sort_rows, unsort_rows


def batch_all(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the positive triplets.

    In O(B^2 log B) time and O(B^2) memory, by sorting.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], not necessarily of length 1.
        margin: > 0, in units of the distance.
        distance: see `src.mining.mine`.

    Returns:
        The loss, a mean over the valid triplets whose loss is > 0; the counts run over all valid
        triplets (a, p, n): a != p of one label, n of another.

    Source:
        arXiv:1703.07737, section 2, "batch all", in the variant L_BA!=0 that leaves out triplets
        of loss 0.
    """
    return mined_loss(partial(weigh, margin=margin), labels, embeddings, distance)


def weigh(rows: Rows, *, margin: float) -> Weights:
    """Count, for each distance, the positive triplets: those with d(a,n) < d(a,p) + margin."""
    distances, same, anchors = rows
    # Sort the positives by d + margin among the negatives by d: a triplet is positive where its
    # positive stands after its negative. Where both are equal its loss is 0: negatives come last.
    is_negative, columns = sort_rows(distances + same * margin, ~same, anchors)
    num_negatives = np.cumsum(is_negative, axis=1, dtype=np.int32)  # up to each place
    num_positives = np.arange(1, same.shape[1], dtype=np.int32) - num_negatives
    all_positives, all_negatives = num_positives[:, -1:], num_negatives[:, -1:]
    counts = np.where(is_negative, num_positives - all_positives, num_negatives)
    weights = unsort_rows(counts, columns)
    # A positive triplet adds 1 to its positive's weight and takes 1 from its negative's.
    num_positive = int(np.abs(counts).sum(dtype=np.int64)) // 2
    distance_sum = float(np.einsum("ij,ij->", weights, distances))
    return Weights(
        weights,
        loss_sum=distance_sum + margin * num_positive,
        num_averaged_triplets=num_positive,
        num_positive_triplets=num_positive,
        num_valid_triplets=int(np.vdot(all_positives.astype(np.int64), all_negatives)),
    )
