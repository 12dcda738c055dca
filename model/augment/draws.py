"""Random draws of augmentation: functions of the seed, the step, the draw's name and the row."""

from model.estimator import tf
from model.rows import normal_by_row, uniform_by_row
from src.seeds import augmentation_draw


def uniform(
    seed: tf.Tensor, draw: str, shape: tf.Tensor | list[tf.Tensor | int], low: float, high: float
) -> tf.Tensor:
    """Return float32 numbers, uniform in [low, high), which depend only on seed, draw and row."""
    return uniform_by_row(shape, _fold_in(seed, draw)) * (high - low) + low


def whole(seed: tf.Tensor, draw: str, count: tf.Tensor) -> tf.Tensor:
    """Return whole numbers, uniform in 0 ... `count` - 1, as float32 of the shape of `count`."""
    return tf.floor(count * uniform(seed, draw, tf.shape(count), 0.0, 1.0))


def normal(seed: tf.Tensor, draw: str, shape: list[tf.Tensor | int]) -> tf.Tensor:
    """Return float32 numbers of the standard normal distribution; see `uniform`."""
    return normal_by_row(shape, _fold_in(seed, draw))


def _fold_in(seed: tf.Tensor, draw: str) -> tf.Tensor:
    """Return the seed of one draw."""
    # int64, because with 32-bit seeds two steps of a long run could get the same seed.
    number = tf.constant(augmentation_draw(draw), tf.int64)
    return tf.random.experimental.stateless_fold_in(seed, number)
