"""Distances that somebody else's function computes, in place of those of `src/distance.py`."""

import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from src.mining.rows import Slopes


class GivenDistances(Rectangle):
    """A rectangle whose distances are given as a matrix; TensorFlow differentiates it.

    Strategies need distances >= 0 and use only differences of them. So a matrix with negative
    numbers (a similarity, or -1e-8 where 0 is meant) is shifted up.

    Attributes:
        distances: float32 [C, C], >= 0; axes: anchor, candidate. It need not be symmetric.
        stays_on_device: see `Rectangle`.
    """

    def __init__(self, labels: tf.Tensor, matrix: tf.Tensor) -> None:
        """Store the matrix.

        Args:
            labels: integer [C] or [C, 1].
            matrix: float [C, C], the distance of each anchor to each candidate.
        """
        self._matrix = tf.cast(matrix, tf.float32)
        self._place(labels, self._matrix, None)
        fixed = tf.stop_gradient(self._matrix)
        self._all_finite = tf.reduce_all(tf.math.is_finite(fixed))
        self.distances = fixed - tf.minimum(tf.reduce_min(fixed), 0.0)

    def loss(
        self, found: Slopes, *, num_averaged_triplets: tf.Tensor, num_valid_triplets: tf.Tensor
    ) -> TripletLoss:
        """Return the counts and the loss sum; its gradient reaches what computed the matrix.

        Args and Returns as of `Rectangle.loss`; sum and gradient are NaN if a distance is not
        finite.
        """
        return self._with_gradient(
            self._matrix, found.slopes, found, num_averaged_triplets, num_valid_triplets
        )
