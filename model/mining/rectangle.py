"""The rectangle of anchors and candidates, and the loss that slopes of its distances make.

A triplet loss, the sum over triplets of f(d(a,p) - d(a,n)), has a *slope* for each distance: its
derivative by it. For max(d(a,p) - d(a,n) + margin, 0) that is the number of positive triplets that
hold the distance, positive for d(a,p) and negative for d(a,n). A strategy only has to find the
slopes; the gradient follows from them, and nothing need be differentiated. It finds them either in
TensorFlow, by enumerating, or in NumPy, by sorting rows (`src/mining/rows.py`).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf
from model.mining.anchors import AllAnchors, SomeAnchors
from model.mining.distances import comparable, from_squared, pulls
from model.mining.loss import TripletLoss
from src.mining.rows import Rows, Slopes, find_in_blocks

# Squared distances below this share of |x|^2 + |y|^2 are rounding: the two vectors are equal.
_ROUNDING = 1e-14

# Up to this many positives an anchor, on average, enumerating its pairs takes less time than
# sorting its row; and this is how many numbers are made for it, at 9 bytes each.
_MAX_POSITIVES_TO_ENUMERATE = 12
_MAX_NUMBERS_TO_ENUMERATE = 1 << 26


class Rectangle:
    """The distances of A anchors to C candidates, of which the anchors are some.

    On one machine the batch is both: A = C. Several workers share the anchors of a batch, and each
    has all of it as candidates; a memory adds candidates that are no anchors.

    |x - y|^2 = |x|^2 - 2 x.y + |y|^2 takes O(AC) memory but cancels for near vectors: in float32
    two equal ones come out up to 1e-3 apart. So it is computed in float64, in which equal vectors
    are exactly 0 apart. All else that can be is float32.

    Attributes:
        distances: float32 [A, C], >= 0.
    """

    def __init__(
        self,
        labels: tf.Tensor,
        embeddings: tf.Tensor,
        distance: str,
        anchors: tf.Tensor | None = None,
    ) -> None:
        """Compute the distances.

        Args:
            labels: integer [C] or [C, 1], of the candidates. Any other number of labels raises,
                because [C, 1] against [C] would broadcast to a wrong mask.
            embeddings: float32 [C, D], of any length.
            distance: a key of `src.distance.DISTANCES`.
            anchors: integer [A], the anchors' places among the candidates; None for all.
        """
        self._labels = tf.reshape(labels, tf.shape(embeddings)[:1])
        self._anchors = (
            AllAnchors(self._labels) if anchors is None else SomeAnchors(anchors, self._labels)
        )
        _, classes, self._class_sizes = tf.unique_with_counts(self._labels, out_idx=tf.int64)
        self._anchors_of_class = self._anchors.count(classes, self._class_sizes)

        self._distance, self._num_dimensions = distance, embeddings.shape[1]
        self._vectors = comparable(embeddings, distance)
        points = tf.cast(tf.stop_gradient(self._vectors), tf.float64)
        # Distances stay what they are; what cancels in them, and in the gradient, becomes less.
        points -= tf.reduce_mean(points, axis=0)
        squares = tf.reduce_sum(tf.square(points), axis=1, keepdims=True)  # [C, 1]
        # A squared distance is at most 4 times the largest square. NaN is not finite either.
        self._all_finite = tf.reduce_all(4 * squares < tf.float32.max)
        squares *= 1 - _ROUNDING
        ones = tf.ones_like(squares)
        squared = tf.matmul(
            self._anchors.of(tf.concat([-2.0 * points, squares, ones], axis=1)),
            tf.concat([points, ones, squares], axis=1),
            transpose_b=True,
        )
        squared = tf.cast(tf.maximum(squared, 0.0), tf.float32)
        self.distances = from_squared(squared, distance, self._num_dimensions)
        self._points = tf.cast(points, tf.float32)

    @property
    def same(self) -> tf.Tensor:
        """Whether anchor and candidate have the same label, bool [A, C]; so have one and itself."""
        return tf.equal(self._anchors.of(self._labels)[:, None], self._labels)

    @property
    def has_negatives(self) -> tf.Tensor:
        """Whether the candidates are of two classes or more: then every anchor has a negative."""
        return tf.size(self._class_sizes) > 1

    @property
    def num_pairs(self) -> tf.Tensor:
        """The number of pairs of an anchor and a positive, int64."""
        return tf.reduce_sum(self._anchors_of_class * (self._class_sizes - 1))

    @property
    def num_triplets(self) -> tf.Tensor:
        """The number of valid triplets, int64: anchor, positive, and one of another class."""
        sizes = self._class_sizes
        return tf.reduce_sum(self._anchors_of_class * (sizes - 1) * (tf.reduce_sum(sizes) - sizes))

    @property
    def has_few_pairs(self) -> tf.Tensor:
        """Whether enumerating the positive pairs is cheaper than sorting rows."""
        num_anchors, num_candidates = tf.unstack(tf.shape(self.distances, out_type=tf.int64))
        return tf.logical_and(
            self.num_pairs <= _MAX_POSITIVES_TO_ENUMERATE * num_anchors,
            self.num_pairs * num_candidates <= _MAX_NUMBERS_TO_ENUMERATE,
        )

    def with_own(self, matrix: tf.Tensor, value: float | bool) -> tf.Tensor:
        """Return `matrix`, [A, C], with `value` where an anchor meets itself."""
        return self._anchors.with_own(matrix, value)

    def positive_pairs(self) -> tf.Tensor:
        """Return the pairs of an anchor's row and a positive's column, int64 [N, 2], by anchor."""
        return tf.where(self.with_own(self.same, False))

    def slopes_of(
        self, rows: tf.Tensor, positives: tf.Tensor, negatives: tf.Tensor, by_triplet: tf.Tensor
    ) -> tf.Tensor:
        """Return the slopes of the distances, given those of a list of triplets.

        Args:
            rows: int64 [N], the anchors' rows.
            positives: int64 [N], columns.
            negatives: int64 [N], columns.
            by_triplet: float32 [N], the derivative of each triplet's loss by d(a,p) - d(a,n).

        Returns:
            float32 [A, C].
        """
        pairs = tf.stack([tf.concat([rows, rows], 0), tf.concat([positives, negatives], 0)], axis=1)
        shape = tf.shape(self.distances, out_type=tf.int64)
        return tf.scatter_nd(pairs, tf.concat([by_triplet, -by_triplet], 0), shape)

    def find_by_rows(self, find: Callable[[Rows], Slopes]) -> Slopes:
        """Return what a NumPy function finds, in blocks of rows."""

        def run(
            distances: NDArray[np.float32],
            labels: NDArray[np.integer],
            anchors: NDArray[np.integer],
        ) -> Slopes:
            return find_in_blocks(find, distances, labels, anchors)

        inputs = [self.distances, self._labels, self._anchors.positions]
        types = [tf.float32, tf.float64, tf.int64]
        found = Slopes(*tf.numpy_function(run, inputs, types, stateful=False))
        found.slopes.set_shape(self.distances.shape)
        found.loss_sum.set_shape([])
        found.num_positive_triplets.set_shape([])
        return found

    def loss(
        self, found: Slopes, *, num_averaged_triplets: tf.Tensor, num_valid_triplets: tf.Tensor
    ) -> TripletLoss:
        """Return the sum of the losses, whose gradient reaches the embeddings, and the counts.

        Args:
            found: tensors.
            num_averaged_triplets: int64, the number of triplets that the loss is the mean of.
            num_valid_triplets: int64, the number of triplets looked at.

        Returns:
            Sum and gradient are NaN if a squared distance may not be finite as float32. The
            gradient at Euclidean distance 0 is 0; that of the square root is infinite.
        """
        gradient = tf.cast(self._gradient(found.slopes), self._vectors.dtype)
        # A term of value 0 whose gradient is the one found. tf.custom_gradient would keep every
        # graph that it was ever used in: a few MB for each evaluation of a training. A sum and a
        # product that do not broadcast have derivatives of fewer ops.
        zeros = tf.add_n([self._vectors, -tf.stop_gradient(self._vectors)])
        linear = tf.matmul(tf.reshape(gradient, [1, -1]), tf.reshape(zeros, [-1, 1]))
        defined = tf.where(self._all_finite, np.float64(1), np.float64("nan"))
        return TripletLoss(
            (found.loss_sum + tf.cast(tf.reshape(linear, []), tf.float64)) * defined,
            num_averaged_triplets,
            found.num_positive_triplets,
            num_valid_triplets,
        )

    def _gradient(self, slopes: tf.Tensor) -> tf.Tensor:
        """Return the gradient of the loss's sum by the comparable vectors, float32 [C, D].

        In float32: that rounds no more than a change of the embeddings in their last bit would
        make of it.
        """
        points = self._points
        with_ones = tf.concat([points, tf.ones_like(points[:, :1])], axis=1)  # to sum the pulls
        # A pair pulls both of its examples, by pull * (x - y) and its opposite.
        by_pair = pulls(slopes, self.distances, self._distance, self._num_dimensions)  # [A, C]
        pulled = self._anchors.into(tf.matmul(by_pair, with_ones))
        pulled += tf.matmul(by_pair, self._anchors.of(with_ones), transpose_a=True)
        return pulled[:, -1:] * points - pulled[:, :-1]
