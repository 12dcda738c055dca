"""What a worker does that is not the chief: it trains, and writes nothing."""

import hashlib
from functools import partial
from pathlib import Path

import numpy as np

from model.distribution import Distribution
from model.estimator import tf
from model.hooks.alarms import CollapseAlarm, DivergenceGuard
from model.hooks.together import ChiefDecides, StartTogether, StopTogether
from model.input_fn import names_bad_images, train_input_fn
from model.training.build import (
    build_estimator,
    connect,
    describe_network,
    distribute,
    replica_devices,
)
from model.training.devices import check_devices
from model.training.segments import Segment
from model.workers import Workers
from src.data.extra_classes import with_extra_classes
from src.data.holdout import hold_out
from src.data.split import Split
from src.errors import UserError
from src.experiment.data_record import DataRecord, load_recorded
from src.experiment.experiment import Experiment
from src.mining.batches import training_batches
from src.params.schema import Params
from src.system.cluster import Cluster
from src.system.process import settle
from src.system.signals import StopRequest


def run_worker(
    experiment: Experiment,
    params: Params,
    data_dir: Path,
    own: Path,
    keeps_splits: bool,
    replicas: int | None,
    cluster: Cluster,
) -> None:
    """Train with the chief; arguments and errors as of `model.training.run.run`.

    `own` is an empty folder of this worker, where the Estimator finds no checkpoint.
    """
    workers = connect(cluster, params, replicas)
    begins = workers.tell() == b"begins"
    loaded = load_recorded(
        params, data_dir, experiment, begins=begins, keeps_splits=keeps_splits, to_train=True
    )
    if workers.tell() == b"finished":
        return
    train = hold_out(loaded.data.splits, params, experiment.params_path)["train"]
    check_devices(params, experiment.params_path)  # of its warnings, the chief prints its own
    distribution = distribute(params, replica_devices(replicas), cluster)
    try:
        describe_network(params, train.images.shape[1:], distribution.num_replicas)
    except UserError as error:
        raise UserError(f"{experiment.params_path}: {error}") from None
    workers.compare(facts(params, loaded.record, distribution))
    settle()
    try:
        train = with_extra_classes(train, params, loaded.data.extra_data)
        work(params, train, distribution, workers, own)
    finally:
        workers.close()


def facts(params: Params, record: DataRecord, distribution: Distribution) -> dict[str, str]:
    """Return what must be equal on all workers, by name; see `Workers.compare`."""
    data = hashlib.sha256()
    for part in filter(None, (record, record.extra_data)):
        data.update(repr((part.class_names, part.groups)).encode())
        for array in (part.digests, part.labels, part.splits):
            data.update(np.ascontiguousarray(array).tobytes())
    return {
        "params.json": params.model_dump_json(),
        "the data": data.hexdigest(),
        "--replicas": str(len(distribution.devices)),
        "the program": _program(),
        "TensorFlow": tf.__version__,
        "NumPy": np.__version__,  # draws the batches
    }


def _program() -> str:
    """Return a digest of the code that trains: another version might compute other steps."""
    root = Path(__file__).parents[2]
    program = hashlib.sha256()
    for path in sorted([*root.glob("model/**/*.py"), *root.glob("src/**/*.py")]):
        program.update(path.read_bytes())
    return program.hexdigest()


@names_bad_images()
def work(
    params: Params, train: Split, distribution: Distribution, workers: Workers, own: Path
) -> None:
    """Train the segments that the chief tells, until it tells the end.

    Args:
        params: the experiment's params.
        train: the split to train on, with the extra classes.
        distribution: this worker's part of each batch.
        workers: this worker and the others.
        own: a folder of this worker's own; it has no checkpoint.

    Raises:
        TrainingDiverged: the loss is not finite; the chief's is the same.
        Stopped: this worker or another got a signal; the chief tells so when it has saved.
        WorkerLost: another worker has ended.
    """
    steps_per_epoch = training_batches(train, params).steps_per_epoch
    guard, request = DivergenceGuard(), StopRequest()
    alarm = CollapseAlarm(
        margin=params.margin_in_use,
        distance=params.distance_name,
        every_steps=params.save_summary_steps,
        stop=params.stop_on_collapse,
        warns=False,
        has_loss_in_collapse=params.has_loss_in_collapse,
    )
    estimator = build_estimator(
        Experiment(own),
        params,
        steps_per_epoch,
        distribution=distribution,
        workers=workers,
    )
    with request.by_signal():  # a signal between segments is passed on in the next step
        while (segment := Segment.from_message(workers.tell())) is not None:
            hooks = [
                StartTogether(workers, distribution),
                *(guard, alarm),
                StopTogether(request),
                ChiefDecides(distribution, params.save_checkpoints_steps or steps_per_epoch),
            ]
            read = partial(
                train_input_fn, train, params, segment.first_step, segment.mined, distribution
            )
            with workers.names_the_lost():
                estimator.train(read, hooks=hooks, max_steps=segment.last_step)
