"""Selects which candidates are anchors: all of them, or those at given positions."""

import tensorflow as tf


class AllAnchors:
    """Every candidate is an anchor, in the same order: A = C."""

    def __init__(self, labels: tf.Tensor) -> None:
        """Store the candidates' `labels`, [C]."""
        self._labels = labels

    @property
    def positions(self) -> tf.Tensor:
        """The anchors' positions among the candidates, int64 [A]."""
        return tf.range(tf.size(self._labels, tf.int64))

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """Return the anchors' rows of `values`: [C, ...] -> [A, ...]."""
        return values

    def into(self, rows: tf.Tensor) -> tf.Tensor:
        """Sum the anchors' `rows` by candidate: [A, D] -> [C, D]."""
        return rows

    def count(self, classes: tf.Tensor, class_sizes: tf.Tensor) -> tf.Tensor:
        """Return the number of anchors of each class, int64 [K].

        Args:
            classes: int64 [C], the index of each candidate's class.
            class_sizes: int64 [K], the number of candidates of each class.
        """
        return class_sizes

    def with_own(self, matrix: tf.Tensor, value: float | bool) -> tf.Tensor:
        """Return `matrix`, [A, C], with `value` at each anchor's own column."""
        return tf.linalg.set_diag(matrix, tf.fill(tf.shape(self._labels), value))


class SomeAnchors:
    """Only the candidates at given positions are anchors. Same methods as `AllAnchors`."""

    def __init__(self, positions: tf.Tensor, labels: tf.Tensor) -> None:
        """Store `positions`, integer [A], and the candidates' `labels`, [C]."""
        self.positions = tf.cast(positions, tf.int64)
        self._labels = labels

    def of(self, values: tf.Tensor) -> tf.Tensor:
        """See `AllAnchors`."""
        return tf.gather(values, self.positions)

    def into(self, rows: tf.Tensor) -> tf.Tensor:
        """See `AllAnchors`."""
        return tf.math.unsorted_segment_sum(rows, self.positions, tf.size(self._labels))

    def count(self, classes: tf.Tensor, class_sizes: tf.Tensor) -> tf.Tensor:
        """See `AllAnchors`."""
        ones = tf.ones_like(self.positions)
        return tf.math.unsorted_segment_sum(ones, self.of(classes), tf.size(class_sizes))

    def with_own(self, matrix: tf.Tensor, value: float | bool) -> tf.Tensor:
        """See `AllAnchors`."""
        rows = tf.range(tf.size(self.positions, tf.int64))
        values = tf.fill(tf.shape(self.positions), value)
        return tf.tensor_scatter_nd_update(matrix, tf.stack([rows, self.positions], 1), values)
