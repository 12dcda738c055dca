"""The result of a triplet strategy: the loss sum and the counts of triplets."""

from typing import NamedTuple

import tensorflow as tf


class TripletLoss(NamedTuple):
    """The loss of some anchors, as scalars: a sum and counts.

    If the anchors are split into parts, the parts' fields add up to those of the whole; means do
    not.

    Attributes:
        loss_sum: float64, the sum of the triplets' losses. Its gradient reaches the embeddings.
        num_averaged_triplets: int64, the number of triplets over which the loss is a mean.
        num_positive_triplets: int64, the number of considered triplets whose loss is > 0.
        num_valid_triplets: int64, the number of considered triplets.
    """

    loss_sum: tf.Tensor
    num_averaged_triplets: tf.Tensor
    num_positive_triplets: tf.Tensor
    num_valid_triplets: tf.Tensor

    @property
    def loss(self) -> tf.Tensor:
        """The mean over `num_averaged_triplets`, float32; 0 if there are none."""
        # Not divide_no_nan: if embeddings are not finite, there are no triplets, and the sum is
        # NaN.
        divisor = tf.cast(tf.maximum(self.num_averaged_triplets, 1), tf.float64)
        return tf.cast(self.loss_sum / divisor, tf.float32)

    @property
    def fraction_positive(self) -> tf.Tensor:
        """The share of valid triplets that are positive, float32; 0 if there are none."""
        return tf.cast(
            tf.math.divide_no_nan(
                tf.cast(self.num_positive_triplets, tf.float64),
                tf.cast(self.num_valid_triplets, tf.float64),
            ),
            tf.float32,
        )
