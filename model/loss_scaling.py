"""Training steps in float16: the loss is scaled so that small gradients do not become 0."""

from typing import Any

import numpy as np

from model.estimator import tf

# As in arXiv:1710.03740, section 3.2, and in Keras.
_FIRST_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000


def minimize_scaled(
    optimizer: "tf.compat.v1.train.Optimizer",
    loss: tf.Tensor,
    global_step: tf.Variable,
    weights: list[tf.Variable],
) -> tf.Operation:
    """Return the op of a training step that scales the loss, and its gradients back.

    The smallest float16 above 0 is 6e-8, so gradients of a layer's output may vanish. The loss is
    multiplied by a scale, which float32 gradients are divided by. If a gradient is not finite, the
    scale was too large: it is halved, and the step changes no weight and nothing in `optimizer`.
    After 2000 steps in a row without that, the scale doubles. Both kinds of steps count in
    `global_step`, so batches stay a function of the step.

    The scale and the counts are variables of the graph, `loss_scaling/...`, so checkpoints hold
    them and a resumed run goes on exactly.

    Args:
        optimizer: changes the weights.
        loss: float32, a scalar.
        global_step: is increased by 1.
        weights: float32.
    """
    # A training step may be built to wait for other ops; initial values must not.
    with tf.control_dependencies(None), tf.compat.v1.variable_scope("loss_scaling"):
        scale = _variable("scale", _FIRST_SCALE, tf.float32)
        good_steps = _variable("good_steps", 0, tf.int64)
        skipped_steps = _variable("skipped_steps", 0, tf.int64)
    tf.compat.v1.summary.scalar("loss_scale", scale)
    tf.compat.v1.summary.scalar("skipped_steps", skipped_steps)

    scale_now = tf.identity(scale)
    scaled = optimizer.compute_gradients(loss * scale_now, weights)
    pairs = [(gradient / scale_now, weight) for gradient, weight in scaled]
    is_finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient, _ in pairs])
    change = tf.cond(
        is_finite,
        lambda: _done([optimizer.apply_gradients(pairs), *_count_good(scale, good_steps)]),
        lambda: _done([skipped_steps.assign_add(1), *_halve(scale, good_steps)]),
    )
    with tf.control_dependencies([change]):
        return global_step.assign_add(1).op


def _count_good(scale: tf.Variable, good_steps: tf.Variable) -> list[tf.Tensor]:
    """Count a step whose gradients are finite; every so many, double the scale."""
    count = good_steps + 1
    doubles = count >= _STEPS_TO_DOUBLE
    return [
        scale.assign(tf.where(doubles, scale * 2.0, scale)),
        good_steps.assign(tf.where(doubles, np.int64(0), count)),
    ]


def _halve(scale: tf.Variable, good_steps: tf.Variable) -> list[tf.Tensor]:
    return [scale.assign(tf.maximum(scale / 2.0, 1.0)), good_steps.assign(0)]


def _variable(name: str, value: float, dtype: tf.DType) -> tf.Variable:
    return tf.compat.v1.get_variable(
        name, initializer=tf.constant(value, dtype), trainable=False, use_resource=True
    )


def _done(ops: list[Any]) -> tf.Tensor:
    """Return a tensor for `tf.cond` that depends on `ops`."""
    with tf.control_dependencies(ops):
        return tf.constant(True)
