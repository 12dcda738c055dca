"""The learning rate of a step: a linear warm-up, then constant or cosine decay."""

import math

from model.estimator import tf
from src.params.schema import Params


def learning_rate(params: Params, step: tf.Tensor, num_steps: int) -> tf.Tensor:
    """Return the learning rate of the step that follows `step` completed steps.

    Args:
        params: `learning_rate`, `learning_rate_schedule`, `learning_rate_warmup_steps`.
        step: integer scalar, >= 0.
        num_steps: the number of steps of the whole training; the cosine reaches 0 at its end.

    Returns:
        float32 scalar. During warm-up: `learning_rate` * (step + 1) / warm-up steps. Afterwards:
        `learning_rate`, or its cosine decay without restarts (arXiv:1608.03983, equation 5).
    """
    warmup_steps = params.learning_rate_warmup_steps
    done = tf.cast(step, tf.float32)
    rate = tf.constant(params.learning_rate, tf.float32)
    if params.learning_rate_schedule == "cosine":
        decay_steps = max(num_steps - warmup_steps, 1)
        progress = tf.clip_by_value((done - warmup_steps) / decay_steps, 0.0, 1.0)
        rate *= 0.5 * (1.0 + tf.cos(math.pi * progress))
    if warmup_steps:
        rate *= tf.minimum((done + 1.0) / warmup_steps, 1.0)
    return rate
