"""The distances of anchors to candidates, and the loss computed from their slopes.

A triplet loss is the sum over triplets of f(d(a,p) - d(a,n)). It has a *slope* for each distance:
its derivative with respect to that distance. For max(d(a,p) - d(a,n) + margin, 0), the slope's size
is the number of positive triplets that contain the distance. It is positive for d(a,p) and negative
for d(a,n). A strategy finds only the slopes; the gradient follows without automatic
differentiation. It finds them in TensorFlow, by enumerating pairs; in NumPy, by sorting rows
(`src/mining/rows.py`); or, on a GPU and under XLA, by sorting rows in TensorFlow
(`model/mining/sorting.py`).
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from model.mining.anchors import AllAnchors, SomeAnchors
from model.mining.distances import comparable, from_squared, pulls
from model.mining.loss import TripletLoss
from model.mining.sorting import TensorRows, find_on_device, stays_on_device
from src.mining.rows import Rows, Slopes, find_in_blocks

# Squared distances below this share of |x|^2 + |y|^2 are rounding errors of equal vectors.
_ROUNDING = 1e-14

# Up to this many positives per anchor, on average, enumerating pairs is faster than sorting rows.
# The second number limits the numbers created for this, at 9 bytes each.
_MAX_POSITIVES_TO_ENUMERATE = 12
_MAX_NUMBERS_TO_ENUMERATE = 1 << 26


class Rectangle:
    """The distances of A anchors to C candidates; the anchors are among the candidates.

    Usually all examples of the batch are both: A = C. A replica, and a block of `micro_batch_size`,
    has some anchors of the batch, and the whole batch as candidates. A memory adds candidates that
    are not anchors.

    |x - y|^2 = |x|^2 - 2 x.y + |y|^2 takes O(AC) memory but cancels for near vectors. In float32,
    equal vectors come out up to 1e-3 apart. In float64, used here, they are exactly 0 apart.
    Everything else is float32 if possible.

    Attributes:
        distances: float32 [A, C], >= 0.
        stays_on_device: whether slopes must be found without the host; see
            `model.mining.sorting.stays_on_device`.
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
            labels: integer [C] or [C, 1], of the candidates. Another number of labels raises an
                error, because [C, 1] against [C] would broadcast to a wrong mask.
            embeddings: float32 [C, D], of any norm.
            distance: a key of `src.distance.DISTANCES`.
            anchors: integer [A], the anchors' positions among the candidates; None for all.
        """
        embeddings = tf.convert_to_tensor(embeddings)
        self._place(labels, embeddings, anchors)

        self._distance, self._num_dimensions = distance, embeddings.shape[1]
        self._vectors = comparable(embeddings, distance)
        points = tf.cast(tf.stop_gradient(self._vectors), tf.float64)
        # Centring keeps the distances and reduces cancellation in them and in the gradient.
        points -= tf.reduce_mean(points, axis=0)
        squares = tf.reduce_sum(tf.square(points), axis=1, keepdims=True)  # [C, 1]
        # A squared distance is at most 4 times the largest square. NaN fails this test too.
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

    def _place(self, labels: tf.Tensor, like: tf.Tensor, anchors: tf.Tensor | None) -> None:
        """Store the labels and the anchors, and where to compute; `like` is a tensor [C, ...]."""
        self.stays_on_device = stays_on_device(like)
        if self.stays_on_device:  # int32 would be compared on the host
            labels = tf.cast(labels, tf.int64)
        self._labels = tf.reshape(labels, tf.shape(like)[:1])
        self._anchors = (
            AllAnchors(self._labels) if anchors is None else SomeAnchors(anchors, self._labels)
        )
        self._num_anchors, self._class_sizes = self._count_by_class()

    @property
    def same(self) -> tf.Tensor:
        """Whether anchor and candidate share a label, bool [A, C]; True for the anchor itself."""
        return tf.equal(self._anchors.of(self._labels)[:, None], self._labels)

    @property
    def to_positives(self) -> tf.Tensor:
        """The distances to positives, float32 [A, C]; -1 elsewhere."""
        return self.with_own(tf.where(self.same, self.distances, -1.0), -1.0)

    @property
    def to_negatives(self) -> tf.Tensor:
        """The distances to negatives, float32 [A, C]; infinite elsewhere."""
        return tf.where(self.same, np.float32(np.inf), self.distances)

    @property
    def positions(self) -> tf.Tensor:
        """The anchors' positions among the candidates, int64 [A]."""
        return self._anchors.positions

    def _count_by_class(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return numbers of anchors, and the sizes of their classes, both int64.

        They are of each class, [K], or of one anchor at a time, [A], if they must stay on the
        device: XLA has no `Unique`, and the shape of its result is known on the host only.
        """
        if self.stays_on_device:
            sizes = tf.cast(tf.reduce_sum(tf.cast(self.same, tf.float32), axis=1), tf.int64)
            return tf.ones_like(sizes), sizes
        _, classes, sizes = tf.unique_with_counts(self._labels, out_idx=tf.int64)
        return self._anchors.count(classes, sizes), sizes

    @property
    def has_negatives(self) -> tf.Tensor:
        """Whether there are two or more classes: then every anchor has a negative."""
        return tf.reduce_any(self._class_sizes < tf.size(self._labels, tf.int64))

    @property
    def num_pairs(self) -> tf.Tensor:
        """The number of anchor-positive pairs, int64."""
        return tf.reduce_sum(self._num_anchors * (self._class_sizes - 1))

    @property
    def num_triplets(self) -> tf.Tensor:
        """The number of valid triplets, int64: anchor, positive, negative."""
        num_negatives = tf.size(self._labels, tf.int64) - self._class_sizes
        return tf.reduce_sum(self._num_anchors * (self._class_sizes - 1) * num_negatives)

    @property
    def has_few_pairs(self) -> tf.Tensor:
        """Whether enumerating the positive pairs is cheaper than sorting rows."""
        num_anchors, num_candidates = tf.unstack(tf.shape(self.distances, out_type=tf.int64))
        return tf.logical_and(
            self.num_pairs <= _MAX_POSITIVES_TO_ENUMERATE * num_anchors,
            self.num_pairs * num_candidates <= _MAX_NUMBERS_TO_ENUMERATE,
        )

    def with_own(self, matrix: tf.Tensor, value: float | bool) -> tf.Tensor:
        """Return `matrix`, [A, C], with `value` at each anchor's own column."""
        return self._anchors.with_own(matrix, value)

    def positive_pairs(self) -> tf.Tensor:
        """Return the anchor-positive pairs (row, column), int64 [N, 2], ordered by anchor."""
        return tf.where(self.with_own(self.same, False))

    def slopes_of(
        self, rows: tf.Tensor, positives: tf.Tensor, negatives: tf.Tensor, by_triplet: tf.Tensor
    ) -> tf.Tensor:
        """Return the slopes of the distances, given the slopes of a list of triplets.

        Args:
            rows: int64 [N], the anchors' rows.
            positives: int64 [N], columns.
            negatives: int64 [N], columns.
            by_triplet: float32 [N], the derivative of each triplet's loss with respect to d(a,p) -
                d(a,n).

        Returns:
            float32 [A, C].
        """
        pairs = tf.stack([tf.concat([rows, rows], 0), tf.concat([positives, negatives], 0)], axis=1)
        shape = tf.shape(self.distances, out_type=tf.int64)
        return tf.scatter_nd(pairs, tf.concat([by_triplet, -by_triplet], 0), shape)

    def find(
        self,
        enumerate_pairs: Callable[[], Slopes],
        sort: Callable[[Rows], Slopes],
        sort_tensors: Callable[[TensorRows], tf.Tensor],
        margin: float,
    ) -> Slopes:
        """Return what one of a strategy's three ways finds; all find the same.

        Args:
            enumerate_pairs: compares each pair's threshold with all negatives of its anchor.
            sort: finds the slopes of a block of rows, in NumPy.
            sort_tensors: finds the slopes of a block of rows, in TensorFlow ops alone.
            margin: in units of the distance.
        """
        if self.stays_on_device:
            return self.find_on_device(sort_tensors, margin)
        return tf.cond(self.has_few_pairs, enumerate_pairs, lambda: self.find_by_rows(sort))

    def find_by_rows(self, find: Callable[[Rows], Slopes]) -> Slopes:
        """Apply a NumPy function to blocks of rows and return its combined result."""

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

    def find_on_device(self, find: Callable[[TensorRows], tf.Tensor], margin: float) -> Slopes:
        """Apply a function of tensors to blocks of rows and return its combined result.

        Args:
            find: returns the slopes of a block of rows; +1 and -1 for each positive triplet.
            margin: in units of the distance.
        """
        positions = self._anchors.positions
        return find_on_device(find, margin, self.distances, self._labels, positions)

    def loss(
        self, found: Slopes, *, num_averaged_triplets: tf.Tensor, num_valid_triplets: tf.Tensor
    ) -> TripletLoss:
        """Return the counts and the loss sum; its gradient reaches the embeddings.

        Args:
            found: the slopes, loss sum and count, as tensors.
            num_averaged_triplets: int64, the number of triplets over which the loss is a mean.
            num_valid_triplets: int64, the number of considered triplets.

        Returns:
            The loss. Its sum and gradient are NaN if a squared distance may exceed float32. The
            gradient at Euclidean distance 0 is set to 0, because the square root's gradient is
            infinite there.
        """
        gradient = tf.cast(self._gradient(found.slopes), self._vectors.dtype)
        return self._with_gradient(
            self._vectors, gradient, found, num_averaged_triplets, num_valid_triplets
        )

    def _with_gradient(
        self,
        points: tf.Tensor,
        gradient: tf.Tensor,
        found: Slopes,
        num_averaged_triplets: tf.Tensor,
        num_valid_triplets: tf.Tensor,
    ) -> TripletLoss:
        """Return a loss whose gradient with respect to `points` is `gradient`, of their shape."""
        # A term of value 0 whose gradient is the computed one. tf.custom_gradient would keep every
        # graph it was used in: a few MB per evaluation. Without the two other `stop_gradient`,
        # TensorFlow would also differentiate what found the slopes, in vain.
        zeros = points - tf.stop_gradient(points)
        linear = tf.reduce_sum(tf.stop_gradient(gradient) * zeros)
        defined = tf.where(self._all_finite, np.float64(1), np.float64("nan"))
        return TripletLoss(
            (tf.stop_gradient(found.loss_sum) + tf.cast(linear, tf.float64)) * defined,
            num_averaged_triplets,
            found.num_positive_triplets,
            num_valid_triplets,
        )

    def _gradient(self, slopes: tf.Tensor) -> tf.Tensor:
        """Return the loss sum's gradient with respect to the comparable vectors, [C, D].

        float32 is enough: its rounding has no more effect than a change of the embeddings' last
        bit. But a GPU may multiply float32 with 10 bits of its 23 (TensorFloat-32).
        """
        points = self._points
        if self.stays_on_device and tf.config.experimental.tensor_float_32_execution_enabled():
            points, slopes = tf.cast(points, tf.float64), tf.cast(slopes, tf.float64)
        with_ones = tf.concat([points, tf.ones_like(points[:, :1])], axis=1)  # to sum the pulls
        # A pair pulls its two examples by pull * (x - y) and by the opposite.
        distances = tf.cast(self.distances, slopes.dtype)
        by_pair = pulls(slopes, distances, self._distance, self._num_dimensions)  # [A, C]
        pulled = self._anchors.into(tf.matmul(by_pair, with_ones))
        pulled += tf.matmul(by_pair, self._anchors.of(with_ones), transpose_a=True)
        return pulled[:, -1:] * points - pulled[:, :-1]
