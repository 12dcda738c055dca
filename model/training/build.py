"""Builds the Estimator of an experiment, and a text summary of its network."""

from functools import partial

from model.estimator import estimator, tf
from model.model_fn import model_fn
from model.network import build_network
from model.pretrained import LayerValues
from src.experiment.experiment import Experiment
from src.params.schema import Params


def build_estimator(
    experiment: Experiment,
    params: Params,
    steps_per_epoch: int = 1,
    initial_weights: LayerValues | None = None,
) -> "estimator.Estimator":
    """Return the Estimator of an experiment; it builds no graph yet.

    Args:
        experiment: checkpoints and summaries are written to its directory.
        params: the params of the network, loss and training.
        steps_per_epoch: the default of `save_checkpoints_steps`; times `num_epochs`, the length of
            the training.
        initial_weights: the weights that a new training starts from; None for random weights.
    """
    config = estimator.RunConfig(
        model_dir=str(experiment.model_dir),
        tf_random_seed=params.seed,
        save_summary_steps=params.save_summary_steps,
        save_checkpoints_steps=params.save_checkpoints_steps or steps_per_epoch,
        keep_checkpoint_max=params.keep_checkpoint_max,
        session_config=session_config(params),
    )
    num_steps = params.num_epochs * steps_per_epoch
    return estimator.Estimator(
        partial(model_fn, num_steps=num_steps, initial_weights=initial_weights),
        config=config,
        params=params,
    )


def session_config(params: Params) -> "tf.compat.v1.ConfigProto | None":
    """Return the session configuration: None, or if `deterministic`, one that fixes all orders.

    Batches, augmentation and warm-up always depend only on the seed and the step. Runs can still
    differ, because the order of some sums depends on which thread is first. `deterministic` sets
    one thread and deterministic kernels. The kernels are set for the whole process, because
    TensorFlow has no smaller scope.
    """
    if not params.deterministic:
        return None
    tf.config.experimental.enable_op_determinism()
    return tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def describe_network(params: Params, image_shape: tuple[int, int, int]) -> str:
    """Return the network's layers with shapes and numbers of parameters, one line each.

    Raises:
        UserError: the network cannot be built for images of this shape, (height, width, channels).
    """
    lines: list[str] = []
    with tf.Graph().as_default():  # not in the Estimator's graph
        network = build_network(params, image_shape)
        network.summary(
            print_fn=lines.append, line_length=89, expand_nested=True, show_trainable=True
        )
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())  # drop blank lines
