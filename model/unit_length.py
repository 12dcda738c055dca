"""Scales embeddings to length 1, without an exploding gradient for one that is zero."""

from model.estimator import keras, tf


class UnitLength(keras.layers.UnitNormalization):
    """Scales rows to length 1; a row of zeros stays, and gets no gradient in training.

    Keras divides by at least 1e-6, so its gradient of a row of zeros is a million times that of the
    result: enough to ruin the weights in one step. A black image has such an embedding as long as
    all biases are 0.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return what has the shape and type of `inputs`, [B, D]."""
        if training:
            is_zero = tf.reduce_all(tf.equal(inputs, 0), axis=-1, keepdims=True)
            inputs = tf.where(is_zero, tf.stop_gradient(inputs), inputs)
        return super().call(inputs)
