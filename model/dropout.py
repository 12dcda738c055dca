"""Dropout that depends only on the seed, the step and the row of the batch.

So a resumed run repeats it, and a batch that is divided into parts has that of the whole.
"""

from model.estimator import global_step, keras, tf
from model.rows import uniform_by_row
from src.seeds import dropout_draw


class Dropout(keras.layers.Layer):
    """In training, sets a share of its inputs to 0 and scales up the rest.

    The Keras layer is not used, because checkpoints do not hold its random state.
    """

    def __init__(self, rate: float, *, seed: int, draw: int, name: str) -> None:
        """Prepare the layer.

        Args:
            rate: the share set to 0, 0 <= rate < 1.
            seed: the seed of the run.
            draw: a number, unique among the network's dropout layers.
            name: the layer's name.
        """
        super().__init__(name=name)
        self._rate = rate
        self._seed = seed
        self._draw = draw

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Return what has the shape and type of `inputs`."""
        if not training:
            return inputs
        seed = tf.stack([tf.constant(self._seed, tf.int64), tf.cast(global_step(), tf.int64)])
        return dropout(inputs, self._rate, seed, self._draw)


def dropout(inputs: tf.Tensor, rate: float, seed: tf.Tensor, draw: int) -> tf.Tensor:
    """Set each input to 0 with probability `rate`, and divide the others by 1 - `rate`.

    Args:
        inputs: floating-point, of any shape.
        rate: 0 <= rate < 1.
        seed: int64 [2], the seed of the run and the step.
        draw: distinguishes the draws of one step.

    Returns:
        The shape and type of `inputs`; it depends only on the arguments and, if `inputs` are a
        part of the batch, on which rows (`model/rows.py`).
    """
    number = tf.constant(dropout_draw(draw), tf.int64)
    seed = tf.random.experimental.stateless_fold_in(seed, number)
    is_kept = uniform_by_row(tf.shape(inputs), seed) >= rate
    return tf.where(is_kept, inputs / (1.0 - rate), 0.0)
