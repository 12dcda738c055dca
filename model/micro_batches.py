"""Embeds a batch whole, or in parts of which only one is in memory at a time.

A batch's activations take far more memory than its embeddings. In parts, each part is embedded and
its activations are dropped. The loss is that of the whole batch, and so is its gradient with
respect to the embeddings. Then each part is embedded again, and the gradient goes through it to the
weights. The parts' gradients add up to that of the whole batch (GradCache, arXiv:2101.06983).
"""

from collections.abc import Sequence

from model.estimator import keras, tf
from model.rows import Rows, layer_that_draws, rows_of_batch, trained_batch_norms
from src.errors import UserError


class WholeBatch:
    """Images that are embedded at once.

    Attributes:
        embeddings: float32 [n, D].
    """

    def __init__(self, network: keras.Model, images: tf.Tensor, rows: Rows | None = None) -> None:
        """Embed `images` for training.

        Args:
            network: float32 [n, H, W, C] -> float32 [n, D].
            images: float32 [n, H, W, C].
            rows: the images' rows of the step's batch; None if they are the batch.
        """
        if rows is None:
            self.embeddings = network(images, training=True)
            return
        # Convolutions fail without an image: then there is a black one, whose embedding is dropped.
        num_images = tf.shape(images)[0]
        missing = tf.maximum(1 - num_images, 0)
        padded = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        with rows_of_batch(Rows(rows.firsts, [rows.sizes[0] + missing, *rows.sizes[1:]])):
            self.embeddings = network(padded, training=True)[:num_images]

    def gradients(
        self, by_embeddings: tf.Tensor, weights: Sequence[tf.Variable]
    ) -> list[tf.Tensor]:
        """Return the gradient of a loss for each of the weights.

        Args:
            by_embeddings: float32 [n, D], the loss's gradient with respect to the embeddings.
            weights: the variables.
        """
        return tf.gradients(self.embeddings, list(weights), by_embeddings)


class MicroBatches:
    """Images that are embedded in parts. Same methods as `WholeBatch`.

    Attributes:
        embeddings: float32 [n, D]. They have no gradient with respect to the weights.
    """

    def __init__(
        self,
        network: keras.Model,
        images: tf.Tensor,
        size: int,
        rows: Rows | None = None,
        *,
        training: bool = True,
    ) -> None:
        """Embed `images`, `size` at a time; the last part may be smaller.

        Args:
            network: see `WholeBatch`.
            images: see `WholeBatch`.
            size: the number of images in a part.
            rows: see `WholeBatch`.
            training: False for an evaluation.

        Raises:
            UserError: in training, an image's embedding depends on the other images, or on chance.
        """
        self._network = network
        self._images = images
        self._size = size
        self._training = training
        self._num_images = tf.shape(images)[0]
        self._rows = rows or Rows([0], [self._num_images])
        if training:
            _refuse_batch_norm(network, size)
        self.embeddings = self._embed()

    def gradients(
        self, by_embeddings: tf.Tensor, weights: Sequence[tf.Variable]
    ) -> list[tf.Tensor]:
        """See `WholeBatch`. The parts are embedded again."""
        # Not before the loss is known: until then, the parts of the first time are in memory.
        with tf.control_dependencies([by_embeddings]):
            images = tf.identity(self._images)

        def add_part(start: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            stop = self._stop(start)
            of_part = tf.gradients(
                self._part(images, start, stop),
                list(weights),
                by_embeddings[start:stop],
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return stop, [total + gradient for total, gradient in zip(sums, of_part, strict=True)]

        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in weights]
        _, sums = tf.while_loop(self._is_left, add_part, [0, zeros], parallel_iterations=1)
        return sums

    def _embed(self) -> tf.Tensor:
        """Return the embeddings of all parts."""

        def embed_part(start: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            stop = self._stop(start)
            return stop, parts.write(start // self._size, self._part(self._images, start, stop))

        num_parts = -(-self._num_images // self._size)
        parts = tf.TensorArray(
            self._network.output.dtype,
            num_parts,
            infer_shape=False,  # the last part is smaller
            element_shape=[None, *self._network.output_shape[1:]],
        )
        _, parts = tf.while_loop(self._is_left, embed_part, [0, parts], parallel_iterations=1)
        embeddings = tf.stop_gradient(parts.concat())
        embeddings.set_shape(self._network.output_shape)
        return embeddings

    def _part(self, images: tf.Tensor, start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
        """Return the embeddings of the images from `start` to `stop`."""
        with rows_of_batch(self._rows.part(start, stop - start)):
            embeddings = self._network(images[start:stop], training=self._training)
        _refuse_chance(self._network, self._size)
        return embeddings

    def _stop(self, start: tf.Tensor) -> tf.Tensor:
        return tf.minimum(start + self._size, self._num_images)

    def _is_left(self, start: tf.Tensor, _: object) -> tf.Tensor:
        return start < self._num_images


def _refuse_batch_norm(network: keras.Model, size: int) -> None:
    """Raise `UserError` if a layer normalizes by the statistics of a batch."""
    for layer in trained_batch_norms(network):
        raise _refused(size, f"layer {layer.name} normalizes over the whole batch")


def _refuse_chance(network: keras.Model, size: int) -> None:
    """Raise `UserError` if an op of this part's graph draws anew each time that it runs.

    The second embedding would then not be the first one.
    """
    operations = tf.compat.v1.get_default_graph().get_operations()
    if layer := layer_that_draws(network, operations):
        raise _refused(size, f"layer {layer} draws at random, differently each time")


def _refused(size: int, reason: str) -> UserError:
    return UserError(f"micro_batch_size: found {size}; accepted: null, because {reason}")
