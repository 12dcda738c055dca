"""What a strategy makes of a batch."""

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
