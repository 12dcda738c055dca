"""Trains an experiment, as one or more consecutive runs of the Estimator."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.estimator import estimator
from model.hooks.alarms import CollapseAlarm, DivergenceGuard, FiniteCheckpoints
from model.hooks.best_checkpoint import BestCheckpoint
from model.hooks.checkpoints import AlignedSaver, FitsNetwork, KeepUntrained, RoomForCheckpoints
from model.hooks.live_figures import LiveFigures
from model.hooks.progress import ProgressBar, ProgressFile
from model.hooks.report import EvaluationReport
from model.hooks.stopping import (
    StopAfterEvaluation,
    StopAfterSaving,
    StopEvaluation,
    StopTraining,
    ends_in_order,
)
from model.input_fn import (
    eval_input_fn,
    names_bad_images,
    train_input_fn,
)
from model.model_fn import serving_input_fn
from model.pretrained import LayerValues
from model.split_metrics import defined
from model.training.build import build_estimator, describe_network
from model.training.checkpoints import fault_of
from model.training.disk import names_disk_errors
from model.training.embedding import embed
from src.data.extra_classes import with_extra_classes
from src.data.split import Split
from src.experiment.checkpoint_files import checkpoint_path
from src.experiment.experiment import Experiment
from src.mining.batches import training_batches
from src.mining.triplets import TripletsLost, load_triplets, mine_triplets, save_triplets
from src.params.schema import Params
from src.seeds import seed_of
from src.system.atomic import atomic_write
from src.system.signals import StopRequest

logger = logging.getLogger(__name__)


@names_disk_errors
@names_bad_images()
def train_and_evaluate(
    experiment: Experiment,
    params: Params,
    splits: Mapping[str, Split],
    initial_weights: LayerValues | None = None,
    *,
    data_have_changed: bool = False,
) -> bool:
    """Train for `num_epochs`, and evaluate on the validation split after every checkpoint.

    The best checkpoint is kept separately, and the training ends earlier if patience runs out. If
    there is a checkpoint, the training resumes from the latest, with the batches that would have
    followed.

    Args:
        experiment: checkpoints and summaries are written to its directory.
        params: the experiment's params.
        splits: `train`, `validation`, and `test` for `live_figures`.
        initial_weights: the weights to start from if there is no checkpoint; None for random
            weights.
        data_have_changed: whether the run so far used other data; offline triplets are then mined
            again.

    Returns:
        True if the embeddings were collapsed when the run ended.

    Raises:
        TrainingDiverged: loss or weights are not finite; the latest checkpoint is an earlier one.
        Stopped: a signal stopped the run; the latest checkpoint is of the step it had reached.
    """
    train, validation = with_extra_classes(splits["train"], params), splits["validation"]
    batches = training_batches(train, params)
    max_steps = params.num_epochs * batches.steps_per_epoch
    model_dir = str(experiment.model_dir)
    with atomic_write(experiment.network_path) as file:
        file.write(describe_network(params, train.images.shape[1:]).encode())
    trained = build_estimator(experiment, params, batches.steps_per_epoch, initial_weights)
    guard = DivergenceGuard(model_dir)
    alarm = CollapseAlarm(
        margin=params.margin,
        distance=params.distance_name,
        every_steps=params.save_summary_steps,
        model_dir=model_dir,
        stop=params.stop_on_collapse,
    )
    early_stop, request = StopAfterEvaluation(), StopRequest()
    live_figures = LiveFigures(
        experiment, params, splits["test"], partial(embed, experiment, params)
    )
    serving = serving_input_fn(train.images.shape[1:])
    eval_spec = estimator.EvalSpec(
        partial(eval_input_fn, validation, params),
        steps=None,  # the whole split; the Estimator's default is 100 batches
        name="validation",
        hooks=[StopEvaluation(request)],
        exporters=[
            EvaluationReport(batches.steps_per_epoch, experiment),
            BestCheckpoint(experiment, params, serving, early_stop),
            *([live_figures] if params.live_figures else []),
        ],
        start_delay_secs=0,
        throttle_secs=0,  # after every checkpoint; by default, at most every 10 minutes
    )
    with ends_in_order(request, model_dir):
        _evaluate_best(experiment, trained, eval_spec)
        _evaluate_missed(experiment, params, trained, eval_spec, batches.steps_per_epoch)
    segments = _segments(
        experiment, params, train, batches.steps_per_epoch, data_have_changed=data_have_changed
    )
    for segment in segments:
        if experiment.stopped_early(params):
            break
        bar = ProgressBar(
            "train",
            batches.examples_before(max_steps),
            seen=batches.examples_before(segment.first_step),
            model_dir=model_dir,
            save_summary_steps=params.save_summary_steps,
        )
        train_spec = estimator.TrainSpec(
            partial(train_input_fn, train, params, segment.first_step, segment.mined),
            max_steps=segment.last_step,
            hooks=[
                FitsNetwork(experiment.model_dir),
                RoomForCheckpoints(experiment.model_dir),
                *(guard, bar, alarm, early_stop, ProgressFile(experiment, max_steps)),
                StopTraining(request),
                AlignedSaver(model_dir, trained.config.save_checkpoints_steps),
            ],
            saving_listeners=[
                FiniteCheckpoints(guard),
                KeepUntrained(experiment.model_dir, experiment.untrained_checkpoint),
                StopAfterSaving(request),
            ],
        )
        try:
            with ends_in_order(request, model_dir):
                estimator.train_and_evaluate(trained, train_spec, eval_spec)
        finally:
            bar.close()
            live_figures.write_animations()
        if params.stop_on_collapse and alarm.collapsed:
            break
    return alarm.collapsed


class Segment(NamedTuple):
    """A part of a training that runs without interruption.

    Attributes:
        first_step: the step of the checkpoint that it starts from.
        last_step: the step of its final checkpoint, unless a hook stops it earlier.
        mined: the offline triplets of its epochs, int32 [N, 3]; None if batches need none.
    """

    first_step: int
    last_step: int
    mined: NDArray[np.int32] | None


def _segments(
    experiment: Experiment,
    params: Params,
    train: Split,
    steps_per_epoch: int,
    *,
    data_have_changed: bool,
) -> Iterator[Segment]:
    """Yield the remaining segments of a training; train each before requesting the next.

    There is one segment, unless offline triplets are mined. Then there is one for each choice of
    triplets, made with the checkpoint that the previous segment ended with.
    """
    max_steps = params.num_epochs * steps_per_epoch
    first_step = experiment.latest_step() or 0
    if params.offline_mining == "random":
        yield Segment(first_step, max_steps, None)
        return
    steps_per_choice = params.remine_epochs * steps_per_epoch
    while first_step < max_steps:
        mined_step = first_step - first_step % steps_per_choice
        last_step = min(mined_step + steps_per_choice, max_steps)
        if mined_step == 0:
            mined = None  # nothing is learned yet to mine triplets with
        elif first_step == mined_step or data_have_changed:
            checkpoint = checkpoint_path(experiment.model_dir, first_step)
            mined = _mine(experiment, params, train, mined_step, checkpoint)
        else:
            mined = _mined(experiment, params, train, mined_step)
        data_have_changed = False
        yield Segment(first_step, last_step, mined)
        first_step = experiment.latest_step() or 0
        if first_step < last_step:  # a hook stopped it
            return


def _evaluate_missed(
    experiment: Experiment,
    params: Params,
    trained: "estimator.Estimator",
    eval_spec: "estimator.EvalSpec",
    steps_per_epoch: int,
) -> None:
    """Evaluate the latest checkpoint if a run was killed between saving and evaluating it.

    Only checkpoints that an uninterrupted run evaluates count, so the final best is the same.
    """
    step, best = experiment.latest_step(), experiment.best()
    if not step or (best is not None and best.latest_step >= step):
        return
    periods = [trained.config.save_checkpoints_steps, params.num_epochs * steps_per_epoch]
    if params.offline_mining != "random":
        periods.append(params.remine_epochs * steps_per_epoch)
    if all(step % period for period in periods):
        return
    checkpoint = str(checkpoint_path(experiment.model_dir, step))
    results = trained.evaluate(
        eval_spec.input_fn,
        hooks=[FitsNetwork(experiment.model_dir), *eval_spec.hooks],
        name=eval_spec.name,
        checkpoint_path=checkpoint,
    )
    for exporter in eval_spec.exporters:
        folder = str(experiment.model_dir / "export" / exporter.name)
        exporter.export(trained, folder, checkpoint, results, is_the_final_export=False)


def _evaluate_best(
    experiment: Experiment, trained: "estimator.Estimator", eval_spec: "estimator.EvalSpec"
) -> None:
    """Evaluate the best checkpoint so far if its value is unknown because the data changed."""
    best, checkpoint = experiment.best(), experiment.best_checkpoint
    if best is None or best.value is not None:
        return
    results = trained.evaluate(
        eval_spec.input_fn,
        hooks=[FitsNetwork(experiment.model_dir, checkpoint), *eval_spec.hooks],
        name=eval_spec.name,
        checkpoint_path=str(checkpoint),
    )
    metrics = defined(results)
    experiment.save_best(replace(best, value=metrics[best.metric], loss=metrics["loss"]))


def _mined(experiment: Experiment, params: Params, train: Split, step: int) -> NDArray[np.int32]:
    """Return the triplets that a segment started with: int32 [N, 3].

    If their file is lost and the checkpoint still exists, they are mined again.

    Raises:
        UserError: file and checkpoint are lost, or the file belongs to another split.
    """
    try:
        return load_triplets(experiment.triplets_path(step), len(train))
    except TripletsLost as error:
        checkpoint = experiment.checkpoints().get(step)
        if checkpoint is None or fault_of(checkpoint):
            raise
        found = str(error).partition("; accepted: ")[0]
        logger.warning("warning: %s; mined again with %s", found, checkpoint)
        return _mine(experiment, params, train, step, checkpoint)


def _mine(
    experiment: Experiment, params: Params, train: Split, step: int, checkpoint: Path
) -> NDArray[np.int32]:
    """Mine triplets with the checkpoint of `step`: int32 [N, 3].

    They are saved to a file, so a run that resumes within the segment uses the same triplets.
    """
    mined = mine_triplets(
        params.offline_mining,
        train.labels,
        embed(experiment, params, train, checkpoint),
        distance=params.distance_name,
        seed=seed_of("mined triplets", params.seed, step),
    )
    path = experiment.triplets_path(step)
    save_triplets(path, mined)
    # Keep as many files as checkpoints: if some are damaged, the run may resume from any other.
    names = (file.stem.removeprefix("triplets-") for file in path.parent.glob("triplets-*.npy"))
    steps = sorted(int(name) for name in names if name.isdecimal())
    kept = [kept for kept in steps if kept <= step][-params.keep_checkpoint_max :]
    for other in set(steps) - set(kept):
        experiment.triplets_path(other).unlink(missing_ok=True)  # triplets-07.npy is not ours
    return mined
