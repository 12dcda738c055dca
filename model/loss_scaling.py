"""Training steps in float16: the loss is scaled so that small gradients do not become 0."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from model.estimator import tf
from src.experiment.tags import tag_of

# As in arXiv:1710.03740, section 3.2, and in Keras.
_FIRST_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000
_MAX_SCALE = 2.0**60  # which gradients of 0, as without a positive triplet, would lead beyond


class LossScaling:
    """The scale of a training's loss, which follows what its gradients bear.

    The smallest float16 above 0 is 6e-8, so gradients of a layer's output may vanish. So the
    gradient is multiplied by a scale before it passes through the network, and the gradients by the
    weights, which are float32, are divided by it. If one of these is not finite, the scale was too
    large: it is halved, and the step changes no weight and nothing in the optimizer. After 2000
    steps in a row without that, the scale doubles. Both kinds of steps count in the global step, so
    batches stay a function of the step.

    The scale and the counts are variables of the graph, `loss_scaling/...`, so checkpoints hold
    them and a resumed run goes on exactly. With several workers, they agree on each: the gradients
    are added up before they are examined.
    """

    def __init__(self) -> None:
        """Create the variables, and summaries of them."""
        with tf.compat.v1.variable_scope("loss_scaling"):
            self._scale = _variable("scale", _FIRST_SCALE, tf.float32)
            self._good_steps = _variable("good_steps", 0, tf.int64)
            self._skipped_steps = _variable("skipped_steps", 0, tf.int64)
        tf.compat.v1.summary.scalar(tag_of("loss_scale"), self._scale)
        tf.compat.v1.summary.scalar(tag_of("skipped_steps"), self._skipped_steps)
        self._scale_now = tf.identity(self._scale)

    def scaled(self, gradient: tf.Tensor) -> tf.Tensor:
        """Return the scaled gradient by the embeddings, float32 of any shape."""
        return gradient * self._scale_now

    def unscaled(self, gradients: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Return the gradients that would have followed from one that was not scaled, float32."""
        return [gradient / self._scale_now for gradient in gradients]

    def step(
        self,
        change_weights: Callable[[], tf.Operation],
        gradients: Sequence[tf.Tensor],
        global_step: tf.Variable,
    ) -> tf.Operation:
        """Return the op of a training step.

        Args:
            change_weights: builds the op that changes them.
            gradients: of the whole batch by each of the weights, float32, as `unscaled` returns
                them, or changed such that what is not finite remains so.
            global_step: is increased by 1.
        """
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(one)) for one in gradients])
        # At scale 1 it is not the scale's fault: the step is made, and the run ends as diverged.
        finite = tf.logical_or(finite, self._scale_now <= 1.0)
        scale, good, skipped = self._scale, self._good_steps, self._skipped_steps
        change = tf.cond(
            finite,
            lambda: _done([change_weights(), *_count_good(scale, good)]),
            lambda: _done([skipped.assign_add(1), *_halve(scale, good)]),
        )
        with tf.control_dependencies([change]):
            return global_step.assign_add(1).op


def _count_good(scale: tf.Variable, good_steps: tf.Variable) -> list[tf.Tensor]:
    """Count a step whose gradients are finite; every so many, double the scale."""
    count = good_steps + 1
    doubles = count >= _STEPS_TO_DOUBLE
    return [
        scale.assign(tf.where(doubles, tf.minimum(scale * 2.0, _MAX_SCALE), scale)),
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
