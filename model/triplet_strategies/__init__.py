"""The triplet strategies, a file each: which triplets of a batch count; see src/registry.py.

Each is a pure function `(labels, embeddings, *, margin, distance) -> TripletLoss`:

- labels: integer [B] or [B, 1]; embeddings: float32 [B, D], not necessarily of length 1. Those of
  src.registry.OFFLINE_STRATEGIES take T triplets for a batch: B is 3T, anchors first, then
  positives, then negatives.
- margin: > 0, in units of the distance, or "soft" (src.registry.SOFT_MARGIN_STRATEGIES); distance:
  see `src.embeddings.pairs.paired_distances`.
- A batch without a triplet (one class, all labels distinct, one example) has loss 0 and a
  gradient of 0; the gradient is finite where embeddings coincide.
"""

from typing import NamedTuple

from model.estimator import tf


class TripletLoss(NamedTuple):
    """What a strategy makes of a batch: scalars.

    The counts let an evaluation be exact over a whole split: means of batch means are not.

    Attributes:
        loss: float32, the mean over `num_averaged_triplets`, 0 where there is none.
        num_averaged_triplets: int64, how many triplets the loss is the mean of.
        num_positive_triplets: int64, the triplets looked at whose loss is > 0.
        num_valid_triplets: int64, the triplets looked at.
    """

    loss: tf.Tensor
    num_averaged_triplets: tf.Tensor
    num_positive_triplets: tf.Tensor
    num_valid_triplets: tf.Tensor

    @property
    def fraction_positive(self) -> tf.Tensor:
        """The share of the valid triplets that are positive, float32, 0 where there is none."""
        return tf.cast(
            tf.math.divide_no_nan(
                tf.cast(self.num_positive_triplets, tf.float64),
                tf.cast(self.num_valid_triplets, tf.float64),
            ),
            tf.float32,
        )
