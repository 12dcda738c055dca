"""The distances within a batch, and the loss that weights of them make.

A triplet loss, the sum over triplets of f(d(a,p) - d(a,n)), changes with a distance as that
distance's *weight* says: for max(d(a,p) - d(a,n) + margin, 0) the number of positive triplets that
hold it, positive for d(a,p) and negative for d(a,n). A strategy only has to find the `[B, B]`
weights; the gradient follows from them, and nothing need be differentiated. It finds them either
in TensorFlow, by enumerating what it looks at, or in NumPy, by sorting rows (`src/mining/rows.py`).
"""

import ctypes
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf
from model.mining.loss import TripletLoss
from src.mining.rows import Rows, weigh_in_blocks
from src.mining.rows import Weights as RowWeights

# Squared distances below this share of |x|^2 + |y|^2 are rounding: the two vectors are equal.
_ROUNDING = 1e-14

# Up to this many positives an anchor, on average, enumerating its pairs takes less time than
# sorting its row; and this is how many numbers are made for it, at 9 bytes each.
_MAX_POSITIVES_TO_ENUMERATE = 12
_MAX_NUMBERS_TO_ENUMERATE = 1 << 26

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Weights(NamedTuple):
    """What a strategy finds in a batch.

    Attributes:
        weights: float32 [B, B], axes anchor and other: the derivative of `loss_sum` by each
            distance; 0 for the anchors themselves.
        loss_sum: float64, the sum of the triplets' losses.
        num_positive_triplets: int64, how many of the triplets looked at are positive.
    """

    weights: tf.Tensor
    loss_sum: tf.Tensor
    num_positive_triplets: tf.Tensor


class BatchDistances:
    """The distances of a batch's examples to one another.

    |x - y|^2 = |x|^2 - 2 x.y + |y|^2 takes O(B^2) memory but cancels for near vectors: in float32
    two equal ones come out up to 1e-3 apart. So it is computed in float64, where equal vectors are
    exactly 0 apart. All else that can be is float32.

    Attributes:
        distances: float32 [B, B], >= 0.
        labels: integer [B].
        class_sizes: int64 [C], how many examples each class of the batch has.
    """

    def __init__(self, labels: tf.Tensor, embeddings: tf.Tensor, distance: str) -> None:
        """Compute the distances.

        Args:
            labels: integer [B] or [B, 1]; any other number of labels raises, for [B, 1] against
                [B] would broadcast to a wrong mask.
            embeddings: float32 [B, D], of any length.
            distance: see `src.embeddings.pairs.paired_distances`.
        """
        self.labels = tf.reshape(labels, tf.shape(embeddings)[:1])
        self.class_sizes = tf.unique_with_counts(self.labels, out_idx=tf.int64).count

        self._embeddings = embeddings
        self._is_cosine = distance == "cosine"
        points = tf.cast(tf.stop_gradient(embeddings), tf.float64)
        if self._is_cosine:
            # A zero vector stays one, and gets no gradient.
            self._inverse_norms = tf.math.divide_no_nan(
                np.float64(1), tf.norm(points, axis=1, keepdims=True)
            )
            points *= self._inverse_norms
            self._directions = points
        # Distances stay what they are; what cancels in them, and in the gradient, becomes less.
        points -= tf.reduce_mean(points, axis=0)
        # By what squared distances are multiplied; None: their square root is taken
        self._scale = {
            "euclidean": None,
            "squared_euclidean": 1.0,
            "mean_squared": 1 / embeddings.shape[1],
            "cosine": 0.5,
        }[distance]
        squares = tf.reduce_sum(tf.square(points), axis=1, keepdims=True)  # [B, 1]
        # A squared distance is at most 4 times the largest square. NaN is not finite either.
        self._all_finite = tf.reduce_all(4 * squares < tf.float32.max)
        squares *= 1 - _ROUNDING
        ones = tf.ones_like(squares)
        square_distances = tf.maximum(
            tf.matmul(
                tf.concat([-2.0 * points, squares, ones], axis=1),
                tf.concat([points, ones, squares], axis=1),
                transpose_b=True,
            ),
            0.0,
        )
        square_distances = tf.cast(square_distances, tf.float32)
        if self._scale is None:
            self.distances = tf.sqrt(square_distances)
        else:
            self.distances = square_distances * self._scale
        self._points = tf.cast(points, tf.float32)

    @property
    def same(self) -> tf.Tensor:
        """Whether two examples have the same label, bool [B, B]; so each has with itself."""
        return tf.equal(self.labels[:, None], self.labels)

    @property
    def num_pairs(self) -> tf.Tensor:
        """The number of anchors with a positive each, int64."""
        return tf.reduce_sum(self.class_sizes * (self.class_sizes - 1))

    @property
    def num_triplets(self) -> tf.Tensor:
        """The number of valid triplets, int64: anchor, positive, and one of another class."""
        sizes = self.class_sizes
        return tf.reduce_sum(sizes * (sizes - 1) * (tf.reduce_sum(sizes) - sizes))

    @property
    def has_few_pairs(self) -> tf.Tensor:
        """Whether to look at each pair of anchor and positive in turn takes less than sorting."""
        size = tf.shape(self.distances, out_type=tf.int64)[0]
        return tf.logical_and(
            self.num_pairs <= _MAX_POSITIVES_TO_ENUMERATE * size,
            self.num_pairs * size <= _MAX_NUMBERS_TO_ENUMERATE,
        )

    def positive_pairs(self) -> tf.Tensor:
        """Return all pairs of an anchor and its positive, int64 [N, 2], by anchor."""
        is_self = tf.zeros_like(self.labels, tf.bool)
        return tf.where(tf.linalg.set_diag(self.same, is_self))

    def weights_of(
        self, anchors: tf.Tensor, positives: tf.Tensor, negatives: tf.Tensor, slopes: tf.Tensor
    ) -> tf.Tensor:
        """Return the weights of a list of triplets.

        Args:
            anchors: int64 [N], places in the batch; likewise the next two.
            positives: see there.
            negatives: see there.
            slopes: float32 [N], of a triplet's loss by d(a,p) - d(a,n).

        Returns:
            float32 [B, B].
        """
        pairs = tf.stack(
            [tf.concat([anchors, anchors], 0), tf.concat([positives, negatives], 0)], axis=1
        )
        shape = tf.shape(self.distances, out_type=tf.int64)
        return tf.scatter_nd(pairs, tf.concat([slopes, -slopes], 0), shape)

    def weigh_rows(self, weigh: Callable[[Rows], RowWeights]) -> Weights:
        """Return the weights that a NumPy function finds, in blocks of rows."""

        def run(
            distances: NDArray[np.float32], labels: NDArray[np.integer]
        ) -> tuple[NDArray[np.float32], np.float64, np.int64]:
            found = weigh_in_blocks(weigh, distances, labels)
            return (
                found.weights,
                np.float64(found.loss_sum),
                np.int64(found.num_positive_triplets),
            )

        weights, loss_sum, num_positive = tf.numpy_function(
            run, [self.distances, self.labels], [tf.float32, tf.float64, tf.int64], stateful=False
        )
        weights.set_shape(self.distances.shape)
        loss_sum.set_shape([])
        num_positive.set_shape([])
        return Weights(weights, loss_sum, num_positive)

    def loss(
        self, found: Weights, *, num_averaged_triplets: tf.Tensor, num_valid_triplets: tf.Tensor
    ) -> TripletLoss:
        """Return the mean loss, whose gradient reaches the embeddings, and the counts.

        Args:
            found: the weights.
            num_averaged_triplets: int64, by what the sum of losses is divided.
            num_valid_triplets: int64, how many triplets were looked at.

        Returns:
            The loss is NaN, and so is the gradient, where a squared distance may not be finite as
            float32. The gradient at Euclidean distance 0 is taken as 0, where that of the square
            root is infinite.
        """
        # Of each triplet in the mean
        share = tf.math.divide_no_nan(np.float64(1), tf.cast(num_averaged_triplets, tf.float64))
        share = tf.where(self._all_finite, share, float("nan"))
        gradient = self._gradient(found.weights) * tf.cast(share, tf.float32)
        # A term of value 0 whose gradient is the one found. tf.custom_gradient would keep every
        # graph that it was ever used in: a few MB for each evaluation of a training.
        linear = tf.reduce_sum(gradient * self._embeddings)
        return TripletLoss(
            tf.cast(found.loss_sum * share, tf.float32) + (linear - tf.stop_gradient(linear)),
            num_averaged_triplets,
            found.num_positive_triplets,
            num_valid_triplets,
        )

    def _gradient(self, weights: tf.Tensor) -> tf.Tensor:
        """Return the gradient of the loss's sum by the embeddings, float32 [B, D].

        In float32: that rounds no more than a change of the embeddings in their last bit would
        make of it.
        """
        # A pair pulls both of its examples, by pull * (x - y) and its opposite.
        if self._scale is None:  # the derivative by x of |x - y| is (x - y) / |x - y|
            pulls = tf.math.divide_no_nan(weights, self.distances)
        else:  # and that of |x - y|^2 is 2 (x - y)
            pulls = weights * (2 * self._scale)
        points = self._points
        with_ones = tf.concat([points, tf.ones_like(points[:, :1])], axis=1)  # to sum the pulls
        pulled = tf.matmul(pulls, with_ones) + tf.matmul(pulls, with_ones, transpose_a=True)
        gradient = pulled[:, -1:] * points - pulled[:, :-1]
        if self._is_cosine:  # back through the scaling to length 1
            directions = tf.cast(self._directions, tf.float32)
            gradient -= tf.reduce_sum(gradient * directions, axis=1, keepdims=True) * directions
            gradient *= tf.cast(self._inverse_norms, tf.float32)
        return gradient


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of freed arrays instead of handing it back to the kernel.

    Else every step pays for having the pages of its arrays mapped in anew, at B = 256 as much as
    for its arithmetic. Elsewhere than with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # from what size on an array gets a mapping of its own
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)  # how much may lie unused


_keep_freed_memory()
