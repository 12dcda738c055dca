"""The optimizers, by name in params, and the op of a training step.

To add one, write a function here, and add one line to `src.registry.OPTIMIZERS`. They are those of
`tf.compat.v1`: what they remember of a weight is variables of the graph, so checkpoints hold it and
a resumed run continues exactly. docs/decisions/0027-optimizers.md says more.
"""

from collections.abc import Sequence
from typing import Any

from model.estimator import global_step, tf
from model.learning_rate import learning_rate
from model.loss_scaling import LossScaling
from model.moving_average import MovingAverage
from src.experiment.tags import tag_of
from src.params.schema import Params
from src.registry import OPTIMIZERS, look_up


def training_step(
    gradients: Sequence[tf.Tensor],
    weights: Sequence[tf.Variable],
    params: Params,
    num_steps: int,
    scaling: LossScaling | None = None,
    average: MovingAverage | None = None,
) -> tf.Operation:
    """Return the op of a training step, which changes `weights` and counts the global step.

    The weights are passed because the graph's own collection of trainable variables also contains
    those that were frozen after creation.

    Args:
        gradients: of the whole batch by each of the weights, float32; multiplied by the scale of
            `scaling`, if there is one. With several workers, their sum, so that all workers make
            the same step.
        weights: float32.
        params: `optimizer` and its keys, `clip_norm`, and the learning rate's.
        num_steps: the steps of the whole training, for the learning rate's schedule.
        scaling: scales the loss; None for float32.
        average: follows the weights; None if there is none.
    """
    step = global_step()
    rate = learning_rate(params, step, num_steps)
    tf.compat.v1.summary.scalar(tag_of("learning_rate"), rate)
    if scaling:
        gradients = scaling.unscaled(gradients)
    if params.clip_norm is not None:
        gradients = _clipped(gradients, params.clip_norm)
    optimizer = look_up(OPTIMIZERS, params.optimizer)(params, rate)

    def change_weights() -> tf.Operation:
        changed = optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return average.update(step, changed) if average else changed

    if scaling:
        return scaling.step(change_weights, gradients, step)
    with tf.control_dependencies([change_weights()]):
        return step.assign_add(1).op


def adam(params: Params, rate: tf.Tensor) -> Any:
    """Return Adam (arXiv:1412.6980, with the faster order of computation at the end of section 2).

    There epsilon, 1e-8, is added to the square root of the uncorrected second moment.
    """
    return tf.compat.v1.train.AdamOptimizer(rate)


def adamw(params: Params, rate: tf.Tensor) -> Any:
    """Return Adam with decoupled `weight_decay` (arXiv:1711.05101, algorithm 2)."""
    return _AdamW(rate, params.weight_decay)


def sgd(params: Params, rate: tf.Tensor) -> Any:
    """Return stochastic gradient descent with `momentum`.

    The direction is `momentum` times the previous one, plus the gradient. The weight loses `rate`
    times the direction.
    """
    if params.momentum:
        return tf.compat.v1.train.MomentumOptimizer(rate, params.momentum)
    return tf.compat.v1.train.GradientDescentOptimizer(rate)


class _AdamW(tf.compat.v1.train.AdamOptimizer):
    """Adam, before whose step a weight loses the share rate x `weight_decay` of itself.

    Weights of one dimension do not decay: biases, and scales and offsets of normalization.
    """

    def __init__(self, rate: tf.Tensor, weight_decay: float) -> None:
        super().__init__(rate, name="AdamW")
        self._share = rate * weight_decay

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable) -> tf.Operation:
        if len(var.shape) < 2:
            return super()._resource_apply_dense(grad, var)
        with tf.control_dependencies([grad]):  # which is by the weight as it was
            decayed = var.assign_sub(self._share * var.read_value(), read_value=False)
        with tf.control_dependencies([decayed]):
            return super()._resource_apply_dense(grad, var)


def _clipped(gradients: Sequence[tf.Tensor], max_norm: float) -> list[tf.Tensor]:
    """Return the gradients, multiplied by `max_norm` / their norm if that is less than 1.

    The norm is that of all gradients as one vector (arXiv:1211.5063, algorithm 1). Gradients that
    are not finite become NaN. The squares are float64, so that finite gradients have a finite norm.
    """
    squares = [tf.reduce_sum(tf.square(tf.cast(one, tf.float64))) for one in gradients]
    norm = tf.sqrt(tf.add_n(squares))
    shown = tf.where(tf.math.is_finite(norm), norm, tf.constant(float("nan"), tf.float64))
    tf.compat.v1.summary.scalar(tag_of("gradient_norm"), shown)
    factor = tf.cast(max_norm / tf.maximum(norm, max_norm), tf.float32)
    return [one * factor for one in gradients]
