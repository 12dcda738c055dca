"""Batch-semihard: for each anchor and positive, the nearest negative that is farther away."""

from model.distances import pairwise_distances
from model.estimator import tf
from model.mined_loss import mined_loss
from model.triplet_strategies import TripletLoss
from src.mining import batch_semihard_weights


def batch_semihard(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over all anchors and positives.

    The negative n of (a, p) is the nearest one with d(a,n) > d(a,p); where there is none, the
    farthest negative. In O(B^2 log B) time and O(B^2) memory, by sorting: see `src/mining.py`.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D]. FaceNet's have length 1.
        margin: > 0, in units of the distance.
        distance: see `pairwise_distances`. FaceNet's is `squared_euclidean`.

    Returns:
        The loss, a mean over the pairs (a, p) that have a negative in the batch, also those of
        loss 0; the counts run over those pairs, one triplet each.

    Source:
        arXiv:1503.03832, section 3.2; with the farthest negative in place of none as in
        `triplet_semihard_loss` of TensorFlow 1 and TensorFlow Addons.
    """
    distances = pairwise_distances(embeddings, distance)
    mined = mined_loss(batch_semihard_weights, labels, distances, margin)
    # The published loss divides by the pairs, not by the positive triplets among them.
    return mined._replace(
        loss=mined.loss * mined.fraction_positive,
        num_averaged_triplets=mined.num_valid_triplets,
    )
