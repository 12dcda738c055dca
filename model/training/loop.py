"""Trains an experiment, as one or more consecutive runs of the Estimator."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from model.distribution import ONE_REPLICA, Distribution
from model.estimator import estimator
from model.hooks.after_evaluation import Evaluated
from model.hooks.alarms import (
    CHECKS_IN_A_ROW,
    CollapseAlarm,
    DivergenceGuard,
    FiniteCheckpoints,
)
from model.hooks.best_checkpoint import BestCheckpoint
from model.hooks.checkpoints import AlignedSaver, FitsNetwork, KeepUntrained, RoomForCheckpoints
from model.hooks.live_figures import LiveFigures
from model.hooks.memory import MemoryOfData
from model.hooks.progress import ProgressBar, ProgressFile
from model.hooks.report import EvaluationReport, UseRoles
from model.hooks.stopping import (
    StopAfterEvaluation,
    StopAfterSaving,
    StopEvaluation,
    StopTraining,
    ends_in_order,
)
from model.hooks.together import DecidingSaver, StartTogether, StopTogether
from model.input_fn import eval_input_fn, names_bad_images, train_input_fn
from model.model_fn import serving_input_fn
from model.pretrained import LayerValues, NamedValues
from model.split_metrics import defined
from model.training.build import build_estimator
from model.training.disk import names_disk_errors
from model.training.embedding import embed
from model.training.segments import Segment, remaining_segments, stopped_message
from model.workers import Workers
from src.data.extra_classes import with_extra_classes
from src.data.split import Split
from src.errors import WorkerLost
from src.experiment.checkpoint_files import checkpoint_path
from src.experiment.curves import read_curves
from src.experiment.experiment import Experiment
from src.mining.batches import training_batches
from src.params.schema import Params
from src.system.signals import Stopped, StopRequest


@names_disk_errors
@names_bad_images()
def train_and_evaluate(
    experiment: Experiment,
    params: Params,
    splits: Mapping[str, Split],
    initial_weights: LayerValues | NamedValues | None = None,
    *,
    extra_data: Split | None = None,
    data_have_changed: bool = False,
    note_data: Callable[[], None] = lambda: None,
    distribution: Distribution = ONE_REPLICA,
    workers: Workers | None = None,
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
        extra_data: the examples of `extra_data`, which join the training split.
        data_have_changed: whether the run so far used other data; offline triplets are then mined
            again.
        note_data: called if so, once they are: a run that is stopped before finds the change again.
        distribution: how batches are divided among replicas.
        workers: the processes of the training, of which this is the chief; None for one.

    Returns:
        True if the embeddings were collapsed when the run ended.

    Raises:
        TrainingDiverged: loss or weights are not finite; the latest checkpoint is an earlier one.
        Stopped: a signal stopped the run; the latest checkpoint is of the step it had reached.
        WorkerLost: another worker has ended.
    """
    # Long: what it takes and raises is much.
    training = _Training(
        experiment, params, splits, extra_data, initial_weights, distribution, workers
    )
    try:
        _train_segments(training, note_data if data_have_changed else None)
    except Stopped as stopped:
        # Wherever the chief was, the others now wait for a segment.
        if workers:
            with suppress(WorkerLost):
                workers.tell(stopped_message(stopped))
            workers.close()
        raise
    if workers:
        workers.tell(b"")
        workers.close()
    training.write_animations()
    return training.alarm.collapsed


def _train_segments(training: "_Training", note_changed_data: Callable[[], None] | None) -> None:
    experiment, params = training.experiment, training.params
    training.evaluate_unevaluated()
    segments = remaining_segments(
        experiment,
        params,
        training.train,
        training.batches.steps_per_epoch,
        data_have_changed=note_changed_data is not None,
    )
    for segment in segments:
        has_collapsed = params.stop_on_collapse and training.alarm.collapsed
        if has_collapsed or experiment.stopped_early(params):
            break
        if note_changed_data is not None:
            note_changed_data()
            note_changed_data = None
        training.run(segment)
    if note_changed_data is not None:  # nothing was left to train
        note_changed_data()


def _alarm(experiment: Experiment, params: Params) -> CollapseAlarm:
    return CollapseAlarm(
        margin=params.margin_in_use,
        distance=params.distance_name,
        every_steps=params.save_summary_steps,
        model_dir=str(experiment.model_dir),
        stop=params.stop_on_collapse,
        had_collapsed=_had_collapsed(experiment),
        has_loss_in_collapse=params.has_loss_in_collapse,
    )


def _had_collapsed(experiment: Experiment) -> bool:
    """Return whether the run so far ended in collapse, as its alarm wrote to the summaries."""
    latest = experiment.latest_step()
    if latest is None:
        return False
    steps, found = read_curves(experiment.model_dir).get("collapsed", ([], []))
    before = [value for step, value in zip(steps, found, strict=True) if step <= latest]
    return before[-CHECKS_IN_A_ROW:] == [1.0] * CHECKS_IN_A_ROW


class _Training:
    """The Estimator of a training, its evaluation, and the hooks that all segments share.

    Attributes:
        experiment: see `train_and_evaluate`.
        params: see there.
        workers: see there.
        train: the split to train on, with the extra classes.
        batches: the batches of `train`; those of offline triplets have the same number.
        alarm: knows whether the embeddings have collapsed.
    """

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        splits: Mapping[str, Split],
        extra_data: Split | None,
        initial_weights: LayerValues | NamedValues | None,
        distribution: Distribution,
        workers: Workers | None,
    ) -> None:
        """Prepare a training; arguments as of `train_and_evaluate`."""
        self.train = with_extra_classes(splits["train"], params, extra_data)
        self.batches = training_batches(self.train, params)
        model_dir, steps_per_epoch = str(experiment.model_dir), self.batches.steps_per_epoch
        self.alarm = _alarm(experiment, params)
        self.experiment = experiment
        self.params = params
        self._distribution, self.workers = distribution, workers
        self._estimator = build_estimator(
            experiment,
            params,
            steps_per_epoch,
            initial_weights=initial_weights,
            distribution=distribution,
            workers=workers,
            fitted_to=self.train,
        )
        self._guard = DivergenceGuard(model_dir)
        self._request, self._early_stop = StopRequest(), StopAfterEvaluation()
        self._live_figures = LiveFigures(
            experiment, params, splits["test"], partial(embed, experiment, params)
        )
        serving = serving_input_fn(
            self.train.images.shape[1:], holds_vectors=self.train.holds_vectors
        )
        self._eval_spec = estimator.EvalSpec(
            partial(eval_input_fn, splits["validation"], params),
            steps=None,  # the whole split; the Estimator's default is 100 batches
            name="validation",
            hooks=[StopEvaluation(self._request), UseRoles(splits["validation"], params)],
            exporters=[
                EvaluationReport(steps_per_epoch, experiment),
                BestCheckpoint(experiment, params, serving, self._early_stop),
                *([self._live_figures] if params.live_figures else []),
            ],
            start_delay_secs=0,
            # After every checkpoint; by default, at most every 10 minutes. With 0, there is none
            # while a clock that was set back is behind the last evaluation.
        )._replace(throttle_secs=-math.inf)

    def run(self, segment: Segment) -> None:
        """Train a segment, and evaluate after every checkpoint."""
        max_steps = self.params.num_epochs * self.batches.steps_per_epoch
        model_dir = str(self.experiment.model_dir)
        bar = ProgressBar(
            "train",
            self.batches.examples_before(max_steps),
            seen=self.batches.examples_before(segment.first_step),
            model_dir=model_dir,
            save_summary_steps=self.params.save_summary_steps,
        )
        train_spec = estimator.TrainSpec(
            partial(
                train_input_fn,
                self.train,
                self.params,
                segment.first_step,
                segment.mined,
                self._distribution,
            ),
            max_steps=segment.last_step,
            hooks=self._hooks(bar, max_steps),
            saving_listeners=[
                FiniteCheckpoints(self._guard),
                KeepUntrained(self.experiment.model_dir, self.experiment.untrained_checkpoint),
                StopAfterSaving(self._request),
            ],
        )
        try:
            names_the_lost = self.workers.names_the_lost() if self.workers else nullcontext()
            with ends_in_order(self._request, model_dir), names_the_lost:
                # From here on, the workers pass a signal on in their next step.
                if self.workers and segment.first_step < segment.last_step:
                    self.workers.tell(segment.to_message())
                estimator.train_and_evaluate(self._estimator, train_spec, self._eval_spec)
        finally:
            bar.close()

    def write_animations(self) -> None:
        """Write the animations of the live figures."""
        self._live_figures.write_animations()

    def _hooks(self, bar: ProgressBar, max_steps: int) -> list[Any]:
        """Return the hooks of a segment; with several workers, the first and the last differ."""
        checkpoints_steps = self._estimator.config.save_checkpoints_steps
        memory = MemoryOfData(self.train)  # before the others get the chief's values
        hooks = [
            FitsNetwork(self.experiment.model_dir),
            RoomForCheckpoints(self.experiment.model_dir),
            *(self._guard, bar, self.alarm, self._early_stop),
            ProgressFile(self.experiment, max_steps),
        ]
        if self.workers is None:
            saver = AlignedSaver(str(self.experiment.model_dir), checkpoints_steps)
            return [memory, *hooks, StopTraining(self._request), saver]
        return [
            memory,
            StartTogether(self.workers, self._distribution),
            *hooks,
            StopTogether(self._request),
            DecidingSaver(str(self.experiment.model_dir), checkpoints_steps, self._distribution),
        ]

    def evaluate_unevaluated(self) -> None:
        """Evaluate the checkpoints whose metrics are unknown: the best so far, or the latest.

        The best's are unknown if the data changed. The latest's are unknown if a run was killed
        between saving and evaluating it.
        """
        with ends_in_order(self._request, str(self.experiment.model_dir)):
            best, checkpoint = self.experiment.best(), self.experiment.best_checkpoint
            if best is not None and best.value is None:
                metrics = defined(self._evaluate(checkpoint))
                value, loss = metrics[best.metric], metrics["loss"]
                self.experiment.save_best(replace(best, value=value, loss=loss))
            if (step := self._missed_step()) is not None:
                checkpoint = checkpoint_path(self.experiment.model_dir, step)
                results = self._evaluate(checkpoint)
                for exporter in self._eval_spec.exporters:
                    folder = str(self.experiment.model_dir / "export" / exporter.name)
                    exporter.after_evaluation(
                        Evaluated(self._estimator, checkpoint, results, folder)
                    )

    def _missed_step(self) -> int | None:
        """Return the step of the latest checkpoint if its evaluation is missing; else None.

        Only checkpoints that an uninterrupted run evaluates count, so the final best is the same.
        """
        step, best = self.experiment.latest_step(), self.experiment.best()
        if not step or (best is not None and best.latest_step >= step):
            return None
        steps_per_epoch = self.batches.steps_per_epoch
        periods = [
            self._estimator.config.save_checkpoints_steps,
            self.params.num_epochs * steps_per_epoch,
        ]
        if self.params.offline_mining != "random":
            periods.append(self.params.remine_epochs * steps_per_epoch)
        return None if all(step % period for period in periods) else step

    def _evaluate(self, checkpoint: Path) -> dict[str, Any]:
        """Evaluate a checkpoint on the validation split."""
        return self._estimator.evaluate(
            self._eval_spec.input_fn,
            hooks=[FitsNetwork(self.experiment.model_dir, checkpoint), *self._eval_spec.hooks],
            name=self._eval_spec.name,
            checkpoint_path=str(checkpoint),
        )
