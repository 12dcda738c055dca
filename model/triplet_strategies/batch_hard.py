"""Batch-hard: for each anchor its farthest positive and its nearest negative."""

from functools import partial

import numpy as np

from model.estimator import tf
from model.mined_loss import mined_loss
from model.triplet_strategies import TripletLoss
from src.mining import Rows, Weights


def batch_hard(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float | str, distance: str
) -> TripletLoss:
    """Return the mean over anchors of max(max_p d(a,p) - min_n d(a,n) + margin, 0).

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], not necessarily of length 1.
        margin: > 0, in units of the distance; or "soft", for softplus(max_p d(a,p) - min_n d(a,n)),
            which pulls on however well separated an anchor is.
        distance: see `src.mining.mine`.

    Returns:
        The loss, a mean over the anchors that have both a positive and a negative in the batch;
        others are left out (docs/decisions/0003-batch-hard-anchors.md). The counts run over those
        anchors' hardest triplets, one each; under a soft margin a triplet counts as positive where
        its negative is not farther than its positive.

    Source:
        arXiv:1703.07737, section 2, the equation of L_BH, and "soft-margin" below it.
    """
    return mined_loss(partial(weigh, margin=margin), labels, embeddings, distance)


def weigh(rows: Rows, *, margin: float | str) -> Weights:
    """Find each anchor's hardest triplet, and the slope of its loss."""
    distances, same, anchors = rows
    each = np.arange(len(distances))
    positives = np.where(same, distances, -1.0)
    positives[each, anchors] = -1
    farthest = positives.argmax(axis=1)  # [R]
    nearest = np.where(same, np.inf, distances).argmin(axis=1)  # [R]
    has_triplet = (positives[each, farthest] >= 0) & ~same[each, nearest]
    row, farthest, nearest = each[has_triplet], farthest[has_triplet], nearest[has_triplet]
    differences = distances[row, farthest] - distances[row, nearest]
    if margin == "soft":
        losses = np.logaddexp(0.0, differences)  # softplus
        slopes = np.exp(differences - losses)  # its derivative, the logistic function
        is_positive = differences >= 0
    else:
        losses = np.maximum(differences + margin, 0.0)
        is_positive = losses > 0
        slopes = is_positive.astype(np.float64)

    weights = np.zeros(distances.shape, np.float32)
    weights[row, farthest] = slopes
    weights[row, nearest] = -slopes
    return Weights(
        weights,
        loss_sum=float(losses.sum()),
        num_averaged_triplets=len(row),
        num_positive_triplets=int(np.count_nonzero(is_positive)),
        num_valid_triplets=len(row),
    )
