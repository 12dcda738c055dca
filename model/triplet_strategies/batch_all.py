"""Batch-all: every valid triplet of the batch, the loss a mean over the positive ones."""

from model.distances import pairwise_distances
from model.estimator import tf
from model.mined_loss import mined_loss
from model.triplet_strategies import TripletLoss
from src.mining import batch_all_weights


def batch_all(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the positive triplets.

    In O(B^2 log B) time and O(B^2) memory, by sorting: see `src/mining.py`.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], not necessarily of length 1.
        margin: > 0, in units of the distance.
        distance: see `pairwise_distances`.

    Returns:
        The loss, a mean over the valid triplets whose loss is > 0; the counts run over all valid
        triplets (a, p, n): a != p of one label, n of another.

    Source:
        arXiv:1703.07737, section 2, "batch all", in the variant L_BA!=0 that leaves out triplets
        of loss 0.
    """
    distances = pairwise_distances(embeddings, distance)
    return mined_loss(batch_all_weights, labels, distances, margin)
