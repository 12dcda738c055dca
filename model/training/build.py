"""Builds the Estimator of an experiment, and a text summary of its network."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from model.distribution import ONE_REPLICA, Distribution, check_network
from model.estimator import estimator, tf
from model.micro_batches import MicroBatches
from model.model_fn import model_fn
from model.network import build_network
from model.pretrained import LayerValues, NamedValues
from model.rows import drawing_layer
from model.whitening import check_embedding_layer
from model.workers import Workers
from src.data.split import Split
from src.errors import UserError
from src.experiment.experiment import Experiment
from src.params.schema import Params
from src.system.cluster import Cluster


def build_estimator(
    experiment: Experiment,
    params: Params,
    steps_per_epoch: int = 1,
    *,
    initial_weights: LayerValues | NamedValues | None = None,
    distribution: Distribution = ONE_REPLICA,
    workers: Workers | None = None,
    fitted_to: Split | None = None,
) -> "estimator.Estimator":
    """Return the Estimator of an experiment; it builds no graph yet.

    Args:
        experiment: checkpoints and summaries are written to its directory.
        params: the params of the network, loss and training.
        steps_per_epoch: the default of `save_checkpoints_steps`; times `num_epochs`, the length of
            the training.
        initial_weights: the weights that a new training starts from; None for random weights.
        distribution: how training is divided among replicas.
        workers: the processes of the training, whose chief alone writes; None for one.
        fitted_to: the training images, for `embedding_whitening`; see `model_fn`.
    """
    writes = workers is None or workers.is_chief
    checkpoints_steps = params.save_checkpoints_steps or steps_per_epoch
    with _without_tf_config():
        config = estimator.RunConfig(
            model_dir=str(experiment.model_dir),
            tf_random_seed=params.seed,
            save_summary_steps=params.save_summary_steps if writes else None,
            save_checkpoints_steps=checkpoints_steps if writes else None,
            save_checkpoints_secs=None,
            keep_checkpoint_max=params.keep_checkpoint_max,
            log_step_count_steps=100 if writes else None,
            session_config=(
                workers.config if workers else session_config(params, distribution.devices)
            ),
        )
    if workers:
        config._master = workers.target  # training alone; evaluations have sessions of their own
    return estimator.Estimator(
        partial(
            model_fn,
            num_steps=params.num_epochs * steps_per_epoch,
            initial_weights=initial_weights,
            distribution=distribution,
            fitted_to=fitted_to,
        ),
        config=config,
        params=params,
    )


@contextmanager
def _without_tf_config() -> Iterator[None]:
    """Hide `TF_CONFIG` in the block; RunConfig would prepare for another kind of distribution."""
    before = os.environ.pop("TF_CONFIG", None)
    try:
        yield
    finally:
        if before is not None:
            os.environ["TF_CONFIG"] = before


def session_config(
    params: Params, devices: Sequence[str] = ()
) -> "tf.compat.v1.ConfigProto | None":
    """Return the session configuration; None if it is TensorFlow's default.

    If `deterministic`, it fixes all orders. Batches, augmentation and warm-up always depend only on
    the seed and the step. Runs can still differ, because the order of some sums depends on which
    thread is first. `deterministic` sets one thread and deterministic kernels. The kernels are set
    for the whole process, because TensorFlow has no smaller scope.

    Replicas on the CPU are as many devices of it; a session has one by default. `devices` are those
    of the replicas.
    """
    on_cpu = len([device for device in devices if "CPU" in device])
    if not (params.deterministic or on_cpu):
        return None
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True)  # as is the Estimator's default
    if on_cpu:
        config.device_count["CPU"] = on_cpu
    if params.deterministic:
        tf.config.experimental.enable_op_determinism()
        config.intra_op_parallelism_threads = config.inter_op_parallelism_threads = 1
    return config


def replica_devices(replicas: int | None) -> tuple[str, ...]:
    """Return the devices of this process's replicas: GPUs if there are any, else parts of the CPU.

    Args:
        replicas: how many; None for all GPUs, or one.

    Raises:
        UserError: there are fewer GPUs.
    """
    gpus = len(tf.config.list_physical_devices("GPU"))
    replicas = replicas or max(gpus, 1)
    if gpus and replicas > gpus:
        raise UserError(f"--replicas: found {replicas}; accepted: at most {gpus}, the GPUs here")
    kind = "GPU" if gpus else "CPU"
    return tuple(f"/device:{kind}:{i}" for i in range(replicas)) if replicas > 1 else ("",)


def connect(cluster: Cluster, params: Params, replicas: int | None) -> Workers:
    """Return this process's place among the workers, when all of them have started.

    Raises:
        UserError: there are fewer GPUs than `replicas`, or the address is not free.
        WorkerLost: another worker has not started.
    """
    config = session_config(params, replica_devices(replicas)) or tf.compat.v1.ConfigProto()
    return Workers(cluster, config)


def distribute(params: Params, devices: tuple[str, ...], cluster: Cluster | None) -> Distribution:
    """Return how the batches of a training are divided.

    Raises:
        UserError: there are more replicas than rows in a batch.
    """
    size = params.largest_batch
    distribution = Distribution(
        rank=cluster.rank if cluster else 0,
        num_workers=cluster.size if cluster else 1,
        devices=devices,
        max_size=size,
        stack=3 if params.is_offline else 1,
    )
    if distribution.num_replicas > size:
        raise UserError(
            f"--replicas: found {distribution.num_replicas} in all; accepted: at most {size}, the "
            "rows of a batch"
        )
    return distribution


def describe_network(
    params: Params, image_shape: tuple[int, int, int], num_replicas: int = 1
) -> str:
    """Return the network's layers with shapes and numbers of parameters, one line each.

    Raises:
        UserError: the network cannot be built for images of this shape, (height, width, channels),
            or several replicas cannot compute it exactly, or it cannot be trained in parts of a
            batch, or not as `deterministic` promises.
    """
    lines: list[str] = []
    with tf.Graph().as_default():  # not in the Estimator's graph
        network = build_network(params, image_shape)
        check_network(network, num_replicas)
        if params.deterministic and (name := drawing_layer(network)):
            raise UserError(
                f'deterministic: found true; accepted: false, because the layer "{name}" draws at '
                "random, and no checkpoint holds how often it did"
            )
        check_embedding_layer(network, params)
        network.summary(
            print_fn=lines.append, line_length=89, expand_nested=True, show_trainable=True
        )
        if params.micro_batch_size:
            images = tf.zeros([1, *image_shape])
            MicroBatches(network, images, params.micro_batch_size)
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())  # drop blank lines
