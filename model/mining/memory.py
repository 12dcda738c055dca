"""A memory of the last embeddings and their labels, as further candidates (arXiv:1912.06798)."""

from model.estimator import tf

MEMORY = "memory"
"""The graph's collection that holds the `Memory`."""


class Memory:
    """The last M embeddings of a training and their labels, in variables that checkpoints hold.

    It is a ring. The embeddings of a batch are written behind those of the batch before it; the
    example that was the n-th of the training (from 0) is at position n mod M. So the memory is a
    function of the batches and the weights, and a resumed training goes on with the same memory.

    Embeddings are kept as they were computed. They are not trained on and get no gradient.
    """

    def __init__(self, size: int, embedding_size: int) -> None:
        """Create the variables, for M = `size` embeddings of D = `embedding_size` numbers."""
        self._size = size
        self._embeddings = _variable("embeddings", [size, embedding_size], tf.float32)
        self._labels = _variable("labels", [size], tf.int32)
        self._num_seen = _variable("num_seen", [], tf.int64)
        self._data = _variable("data", [], tf.int64)
        # Read once, so that all ops of a step see the memory as the step before left it.
        self._read = [v.read_value() for v in (self._embeddings, self._labels, self._num_seen)]

    def candidates(
        self, labels: tf.Tensor, embeddings: tf.Tensor, is_used: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the labels and embeddings of a batch, followed by those of the memory.

        Positions that were never written are left out, because as zeros with some label they would
        be positives or negatives.

        Args:
            labels: int32 [B], of the batch.
            embeddings: float32 [B, D], of the batch; only these get a gradient.
            is_used: bool scalar; if False, the memory is left out.

        Returns:
            int32 [B + m] and float32 [B + m, D], with m = 0 ... M.
        """
        kept_embeddings, kept_labels, num_seen = self._read
        num_kept = tf.where(is_used, tf.minimum(num_seen, self._size), 0)
        return (
            tf.concat([labels, kept_labels[:num_kept]], axis=0),
            tf.concat([embeddings, tf.stop_gradient(kept_embeddings[:num_kept])], axis=0),
        )

    def write(self, labels: tf.Tensor, embeddings: tf.Tensor) -> tf.Operation:
        """Return the op that replaces the oldest embeddings by those of the batch.

        Args:
            labels: int32 [B], B <= M.
            embeddings: float32 [B, D].
        """
        num_seen = self._read[-1]
        size = tf.shape(labels, tf.int64)[0]
        positions = (num_seen + tf.range(size)) % self._size
        with tf.control_dependencies(self._read):
            return tf.group(
                self._embeddings.scatter_update(tf.IndexedSlices(embeddings, positions)),
                self._labels.scatter_update(tf.IndexedSlices(labels, positions)),
                self._num_seen.assign(num_seen + size),
            )

    def belong_to(self, session: tf.compat.v1.Session, data: int) -> bool:
        """Empty the memory unless it was filled from the same data; return whether it was emptied.

        Args:
            session: holds the variables.
            data: int64, identifies the data that the training reads from now on.
        """
        found, num_seen = session.run([self._data, self._num_seen])
        if found == data:
            return False
        # Run the initializers with fed values: this adds no ops to a finished graph.
        values = [(self._data.initializer, data), (self._num_seen.initializer, 0)]
        session.run(
            [initializer for initializer, _ in values],
            {initializer.inputs[1]: value for initializer, value in values},
        )
        return bool(num_seen > 0)


def _variable(name: str, shape: list[int], dtype: tf.DType) -> tf.Variable:
    """Return a variable of zeros that is saved, but neither trained nor summed over replicas."""
    return tf.compat.v1.get_variable(
        f"{MEMORY}/{name}",
        shape,
        dtype,
        tf.compat.v1.zeros_initializer(),
        trainable=False,
        use_resource=True,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
