"""The moving average of a network's weights, which everything that embeds uses (`ema_decay`).

Training changes the weights, and this average follows them. Checkpoints hold both. The graphs that
evaluate, predict or export have no average: they restore the average's values into the network.
"""

from model.estimator import keras, tf
from model.network import plain
from model.rows import trained_batch_norms

SCOPE = "moving_average"
"""What the names of the averages begin with, in graphs and checkpoints."""


class MovingAverage:
    """Variables that hold the moving average of a network's weights.

    After step t, counted from 0, each average a of a weight w becomes a + s (w - a). The share s is
    1 - `ema_decay`, but at least 9 / (10 + t), so that the random weights of the beginning are soon
    forgotten. Batch normalization's moving statistics are averaged like weights, because they
    belong to the weights of the same steps.

    A step that `LossScaling` skips changes no average. All workers have the same weights, so they
    have the same averages.

    Attributes:
        restart: the op that sets the averages to the weights.
    """

    def __init__(self, network: keras.Model, decay: float) -> None:
        """Create the variables; they start with the initial weights."""
        self._share = 1.0 - decay
        self._pairs: list[tuple[tf.Variable, tf.Variable]] = []
        with tf.compat.v1.variable_scope(SCOPE):
            for weight in averaged_weights(network):
                average = tf.compat.v1.get_variable(
                    weight.op.name,
                    initializer=weight.initial_value,
                    trainable=False,
                    use_resource=True,
                )
                self._pairs.append((average, weight))
        self.restart = tf.group([average.assign(weight).op for average, weight in self._pairs])

    def update(self, step: tf.Tensor, after: tf.Operation) -> tf.Operation:
        """Return the op that moves the averages.

        Args:
            step: integer scalar, the number of steps before this one.
            after: the op that changes the weights in this step.
        """
        share = tf.maximum(self._share, 9.0 / (10.0 + tf.cast(step, tf.float32)))
        with tf.control_dependencies([after, share]):
            return tf.group(
                [
                    average.assign_add(
                        share * (weight.read_value() - average.read_value()), read_value=False
                    )
                    for average, weight in self._pairs
                ]
            )


def averaged_weights(network: keras.Model) -> list[tf.Variable]:
    """Return the weights that training changes: those of layers that are not frozen, float32."""
    weights = list(network.trainable_weights)
    for layer in trained_batch_norms(network):
        weights += layer.non_trainable_weights
    return list(map(plain, weights))


def saver_of_averages(network: keras.Model) -> "tf.compat.v1.train.Saver":
    """Return what restores a checkpoint's averages into the network, and all else as it is.

    Call this when all variables of the graph exist.
    """
    averaged = {weight.op.name for weight in averaged_weights(network)}
    names = [variable.op.name for variable in tf.compat.v1.global_variables()]
    return tf.compat.v1.train.Saver(
        {
            f"{SCOPE}/{name}" if name in averaged else name: variable
            for name, variable in zip(names, tf.compat.v1.global_variables(), strict=True)
        }
    )
