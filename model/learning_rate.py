"""The learning rate of a step: a linear warm-up, then constant, cosine decay, or drops."""

import math

from model.estimator import tf
from src.params.schema import Params


def learning_rate(params: Params, step: tf.Tensor, num_steps: int) -> tf.Tensor:
    """Return the learning rate of the step that follows `step` completed steps.

    Args:
        params: `learning_rate`, `learning_rate_schedule`, `learning_rate_warmup_steps`, and of
            "steps" `learning_rate_drop_steps`, `learning_rate_drop_factor`.
        step: integer scalar, >= 0.
        num_steps: the number of steps of the whole training; the cosine reaches 0 at its end.

    Returns:
        float32 scalar. During warm-up: `learning_rate` * (step + 1) / warm-up steps. Afterwards:
        `learning_rate`, or its cosine decay without restarts (arXiv:1608.03983, equation 5), or
        multiplied by the factor for each drop that is not after `step`. Drops during the warm-up
        count too.
    """
    warmup_steps = params.learning_rate_warmup_steps
    done = tf.cast(step, tf.float32)
    rate = tf.constant(params.learning_rate, tf.float32)
    if params.learning_rate_schedule == "cosine":
        decay_steps = max(num_steps - warmup_steps, 1)
        progress = tf.clip_by_value((done - warmup_steps) / decay_steps, 0.0, 1.0)
        rate *= 0.5 * (1.0 + tf.cos(math.pi * progress))
    elif params.learning_rate_schedule == "steps":
        # One constant for each part, computed in Python: no product of many roundings.
        factor = params.learning_rate_drop_factor
        rates = [
            params.learning_rate * factor**number
            for number in range(len(params.learning_rate_drop_steps) + 1)
        ]
        drops = tf.constant(params.learning_rate_drop_steps, tf.int64)
        num_past = tf.reduce_sum(tf.cast(drops <= tf.cast(step, tf.int64), tf.int32))
        rate = tf.constant(rates, tf.float32)[num_past]
    if warmup_steps:
        rate *= tf.minimum((done + 1.0) / warmup_steps, 1.0)
    return rate
