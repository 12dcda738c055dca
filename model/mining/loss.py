"""What a strategy makes of anchors and their candidates."""

from typing import NamedTuple

from model.estimator import tf


class TripletLoss(NamedTuple):
    """The loss of some anchors, as a sum and counts: scalars.

    The fields of several parts add up to those of the whole; means of parts do not.

    Attributes:
        loss_sum: float64, the sum of the triplets' losses. Its gradient reaches the embeddings.
        num_averaged_triplets: int64, how many triplets the loss is the mean of.
        num_positive_triplets: int64, the triplets looked at whose loss is > 0.
        num_valid_triplets: int64, the triplets looked at.
    """

    loss_sum: tf.Tensor
    num_averaged_triplets: tf.Tensor
    num_positive_triplets: tf.Tensor
    num_valid_triplets: tf.Tensor

    @property
    def loss(self) -> tf.Tensor:
        """The mean over `num_averaged_triplets`, float32; 0 if there is none."""
        # Not divide_no_nan: if the embeddings are not finite, there is none, and the sum is NaN.
        divisor = tf.cast(tf.maximum(self.num_averaged_triplets, 1), tf.float64)
        return tf.cast(self.loss_sum / divisor, tf.float32)

    @property
    def fraction_positive(self) -> tf.Tensor:
        """The share of the valid triplets that are positive, float32; 0 if there is none."""
        return tf.cast(
            tf.math.divide_no_nan(
                tf.cast(self.num_positive_triplets, tf.float64),
                tf.cast(self.num_valid_triplets, tf.float64),
            ),
            tf.float32,
        )
