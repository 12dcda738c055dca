"""The learning rate of a step: constant or falling as a cosine, after a linear warm-up."""

import math

from model.estimator import tf
from src.params.schema import Params


def learning_rate(params: Params, step: tf.Tensor, num_steps: int) -> tf.Tensor:
    """Return the learning rate of the step that follows `step` others.

    Args:
        params: `learning_rate`, `learning_rate_schedule`, `learning_rate_warmup_steps`.
        step: integer scalar, >= 0.
        num_steps: the steps of the whole training, at whose end a cosine reaches 0.

    Returns:
        float32 scalar: in the warm-up (step + 1) / warm-up steps of `learning_rate`; then all of
        it, or its cosine decay without restarts (arXiv:1608.03983, equation 5).
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
