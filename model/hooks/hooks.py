"""What watches a run: the progress bar, a line per evaluation, collapse and divergence."""

import io
import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from model.estimator import estimator, tf
from model.split_metrics import defined
from src.embeddings.metrics import Embedded
from src.embeddings.retrieval import Ranking
from src.errors import TrainingDiverged
from src.experiment.experiment import Experiment
from src.experiment.table import MISSING, format_metrics
from src.system.atomic import atomic_write
from src.system.progress import progress_bar

# A look finds collapse where the lengths between embeddings are below both shares, and the loss
# is at the margin. Measured on MNIST: batch-hard that recovers dips to 0.18 of the start, or stays
# at 0.016 of the margin for a hundred steps; runs that do not recover end at 0.016 to 0.
_SHARE_OF_MARGIN = 0.02
_SHARE_OF_START = 0.05
_LOSS_TOLERANCE = 0.02
_LOOKS_IN_A_ROW = 3

SPLIT_METRICS = "split_metrics"
"""The graph's collection in which an evaluation's `SplitMetrics` stands."""


class ProgressBar(tf.compat.v1.train.SessionRunHook):
    """One bar for a run, with the latest loss; also writes the summary `examples_per_second`."""

    def __init__(
        self,
        description: str,
        num_examples: int,
        *,
        seen: int = 0,
        model_dir: str | None = None,
        save_summary_steps: int = 0,
    ) -> None:
        """Prepare the bar.

        Args:
            description: what stands before the bar.
            num_examples: how many images the whole run takes.
            seen: how many of them an earlier run has taken.
            model_dir: where the summary goes; None for none.
            save_summary_steps: the steps from one summary to the next.
        """
        self._description = description
        self._num_examples = num_examples
        self._seen = seen
        self._model_dir = model_dir
        self._save_summary_steps = save_summary_steps
        self._bar: tqdm | None = None

    def begin(self) -> None:
        """Find what to fetch, and show the bar."""
        graph = tf.compat.v1.get_default_graph()
        names = ("loss", "fraction_positive", "batch_size")
        self._fetches = {name: graph.get_tensor_by_name(f"progress/{name}:0") for name in names}
        self._bar = progress_bar(self._description, self._num_examples, "images", seen=self._seen)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Start counting at the step of the checkpoint."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        self._examples_since_summary = 0
        self._last_summary = time.perf_counter()

    def before_run(self, run_context: Any) -> Any:
        """Ask for the scalars beside the step's own work."""
        return tf.compat.v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Move the bar."""
        results = run_values.results
        batch_size = int(results["batch_size"])
        loss, fraction = _loss_and_fraction(results)
        shown = [MISSING if value is None else f"{value:.4f}" for value in (loss, fraction)]
        self._bar.set_postfix_str(f"loss {shown[0]}, fraction_positive {shown[1]}", refresh=False)
        self._bar.update(batch_size)
        self._examples_since_summary += batch_size
        self._step += 1
        if self._model_dir and self._step % self._save_summary_steps == 0:
            self._write_speed()

    def end(self, session: Any) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away; to be called where a run breaks off, for then `end` is not."""
        if self._bar is not None:
            self._bar.close()

    def _write_speed(self) -> None:
        now = time.perf_counter()
        speed = self._examples_since_summary / (now - self._last_summary)
        _write_scalar(self._model_dir, "examples_per_second", speed, self._step)
        self._examples_since_summary, self._last_summary = 0, now


class ProgressFile(tf.compat.v1.train.SessionRunHook):
    """Writes `progress.json` about once a second: how far a training is, for others to show."""

    def __init__(self, experiment: Experiment, max_steps: int, every_seconds: float = 1.0) -> None:
        """Prepare the file.

        Args:
            experiment: where it goes.
            max_steps: the global step at which the training ends.
            every_seconds: the time from one writing to the next, at the least.
        """
        self._experiment = experiment
        self._max_steps = max_steps
        self._every_seconds = every_seconds

    def begin(self) -> None:
        """Find what to fetch."""
        graph = tf.compat.v1.get_default_graph()
        names = ("loss", "fraction_positive", "batch_size")
        self._fetches = {name: graph.get_tensor_by_name(f"progress/{name}:0") for name in names}

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Start counting at the step of the checkpoint."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        self._num_images = 0
        self._started: float | None = None
        self._latest: dict[str, float | int | None] | None = None

    def before_run(self, run_context: Any) -> Any:
        """Ask for the scalars beside the step's own work."""
        return tf.compat.v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Note where the run is, and write it if it is time."""
        now = time.perf_counter()
        self._step += 1
        if self._started is None:  # after the first step, which also pays for the graph's start
            self._started, self._last_write = now, -math.inf
        else:
            self._num_images += int(run_values.results["batch_size"])
        loss, fraction_positive = _loss_and_fraction(run_values.results)
        self._latest = {
            "step": self._step,
            "max_steps": self._max_steps,
            "loss": loss,
            "fraction_positive": fraction_positive,
        }
        if self._num_images:
            self._latest["images_per_second"] = self._num_images / (now - self._started)
        if now - self._last_write >= self._every_seconds:
            self._write(now)

    def end(self, session: Any) -> None:
        """Write the last step."""
        if self._latest is not None:
            self._write(time.perf_counter())

    def _write(self, now: float) -> None:
        self._experiment.save_progress(self._latest)
        self._last_write = now


class CollapseAlarm(tf.compat.v1.train.SessionRunHook):
    """Warns where all embeddings have come to lie in one point; writes the summary `collapsed`.

    There the loss stands at the margin, at log 2 for a soft one, and learning has ended, for all
    distances are 0. The alarm looks at a batch at the first step and every `every_steps` steps. A
    look finds collapse (the summary is 1) where

    - the median pairwise distance is at most 0.02 of the margin, and at most 0.05 of what it was
      at the first step, if training began here and was not resumed. For squared distances and for
      cosine, which go with the square of the length, the shares are squared: 0.0004 and 0.0025;
    - the loss is within 2 % of the margin.

    Three such looks in a row are a collapse, and make one warning until a look finds none. A batch
    without a triplet has loss 0 also in a collapse: it is passed over if its median is as small. So
    is one of a single image, which has no median.
    """

    def __init__(
        self,
        *,
        margin: float | str,
        distance: str,
        every_steps: int,
        model_dir: str | None = None,
        stop: bool = False,
    ) -> None:
        """Prepare the alarm.

        Args:
            margin: > 0, in units of the distance, or "soft".
            distance: see `src.embeddings.pairs.paired_distances`.
            every_steps: the steps from one look to the next.
            model_dir: where the summary goes; None for none.
            stop: also end the run.
        """
        self._margin = margin
        self._loss_at_collapse = math.log(2) if margin == "soft" else float(margin)
        self._power = 1 if distance == "euclidean" else 2
        self._every_steps = every_steps
        self._model_dir = model_dir
        self._stop = stop
        self._num_in_a_row = 0
        self._median_at_start: float | None = None

    @property
    def collapsed(self) -> bool:
        """Whether the embeddings are collapsed by the latest looks; after a run, how it ended."""
        return self._num_in_a_row >= _LOOKS_IN_A_ROW

    def begin(self) -> None:
        """Find what to fetch."""
        graph = tf.compat.v1.get_default_graph()
        names = ("loss", "median_distance")
        self._fetches = {name: graph.get_tensor_by_name(f"progress/{name}:0") for name in names}

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Start counting at the step of the checkpoint, or go on, in the next part of a run."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        if self._step > 0 and self._median_at_start is None:
            # A resumed run may have begun in collapse, where its start is no measure.
            self._median_at_start = math.inf

    def before_run(self, run_context: Any) -> Any:
        """Ask for the scalars, where this step is one to look at."""
        is_first = self._median_at_start is None
        if is_first or (self._step + 1) % self._every_steps == 0:
            return tf.compat.v1.train.SessionRunArgs(self._fetches)
        return None

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Look."""
        self._step += 1
        if run_values.results is None:
            return
        loss = float(run_values.results["loss"])
        median = float(run_values.results["median_distance"])
        if math.isnan(median):  # a batch of one image has no distance
            return
        if self._median_at_start is None:
            self._median_at_start = median
        is_small = median <= min(
            _SHARE_OF_MARGIN**self._power * self._loss_at_collapse,
            _SHARE_OF_START**self._power * self._median_at_start,
        )
        if is_small and loss == 0:
            return
        is_at_margin = (
            abs(loss - self._loss_at_collapse) <= _LOSS_TOLERANCE * self._loss_at_collapse
        )
        found = is_small and is_at_margin
        self._num_in_a_row = self._num_in_a_row + 1 if found else 0
        if self._model_dir:
            _write_scalar(self._model_dir, "collapsed", float(found), self._step)
        if self._num_in_a_row == _LOOKS_IN_A_ROW:
            self._warn(loss, median)
        if self._stop and self.collapsed:
            run_context.request_stop()

    def _warn(self, loss: float, median: float) -> None:
        if self._margin == "soft":
            at_margin, other_margin = "log 2, a soft margin's loss at distance 0", "a number"
        else:
            at_margin, other_margin = f"the margin, {self._margin:g}", 'smaller, or "soft"'
        tqdm.write(
            f"warning: step {self._step}: the embeddings have collapsed to a point: median "
            f"distance {median:.3g}, loss {loss:.4g} ({at_margin})"
            f"{'; stopping, for stop_on_collapse is true' if self._stop else ''}\n"
            f"  change one of: learning_rate (lower); triplet_strategy or, for the first "
            f'warmup_steps, warmup_strategy ("batch_all"); margin ({other_margin})',
            file=sys.stderr,
        )


class DivergenceGuard(tf.compat.v1.train.SessionRunHook):
    """Ends a run by `TrainingDiverged` at the very step whose loss is NaN or infinite."""

    def __init__(self, model_dir: str | None = None) -> None:
        """Prepare the guard.

        Args:
            model_dir: where the run's summaries go. They are flushed before the error is raised,
                which would else lose the latest of them.
        """
        self._model_dir = model_dir
        self._step = 0
        self._last_loss: float | None = None

    def begin(self) -> None:
        """Find what to fetch."""
        self._loss = tf.compat.v1.get_default_graph().get_tensor_by_name("progress/loss:0")

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Start counting at the step of the checkpoint."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))

    def before_run(self, run_context: Any) -> Any:
        """Ask for the loss, which costs nothing: the step computes it anyway."""
        return tf.compat.v1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Look at the loss."""
        loss = float(run_values.results)
        self._step += 1
        if not math.isfinite(loss):
            raise self.error(self._step, f"the loss is {loss}")
        self._last_loss = loss

    def error(self, step: int, found: str) -> TrainingDiverged:
        """Return the error of a run that is not finite any more, and flush its summaries.

        Args:
            step: the global step.
            found: what is not finite.
        """
        if self._model_dir:
            tf.compat.v1.summary.FileWriterCache.get(self._model_dir).flush()
        before = "" if self._last_loss is None else f" after a loss of {self._last_loss:.4g}"
        return TrainingDiverged(
            f"step {step}: {found}{before}; likely causes: a learning_rate that is too high, "
            "or squared distances of embeddings whose length nothing bounds (l2_normalize)"
        )


class FiniteCheckpoints(tf.compat.v1.train.CheckpointSaverListener):
    """Raises `TrainingDiverged` where a checkpoint would hold a number that is NaN or infinite.

    A step of finite loss can leave such weights, by an infinite gradient; and the Estimator saves
    before the hooks of `TrainSpec`, and its own one, look at the step's loss. So the latest
    checkpoint is good whatever happened since; this includes the one that ends a run.
    """

    def __init__(self, guard: DivergenceGuard) -> None:
        """Prepare the listener; `guard`, a hook of the same run, says what the loss was."""
        self._guard = guard

    def begin(self) -> None:
        """Build the check: weights, moving statistics and the optimizer's slots."""
        variables = [v for v in tf.compat.v1.global_variables() if v.dtype.is_floating]
        self._names = [variable.op.name for variable in variables]
        with tf.name_scope("finite_checkpoints"):
            self._are_finite = [tf.reduce_all(tf.math.is_finite(v)) for v in variables]

    def before_save(self, session: Any, global_step_value: int) -> None:
        """Check."""
        are_finite = session.run(self._are_finite)
        for name, is_finite in zip(self._names, are_finite, strict=True):
            if not is_finite:
                raise self._guard.error(int(global_step_value), f"{name} is not finite")


class KeepUntrained(tf.compat.v1.train.CheckpointSaverListener):
    """Copies the checkpoint of step 0, which rotation removes: the network before training."""

    def __init__(self, model_dir: Path, untrained_checkpoint: Path) -> None:
        """Prepare the listener.

        Args:
            model_dir: where the run writes `model.ckpt-0`.
            untrained_checkpoint: the copy's path, without the endings of its files.
        """
        self._model_dir = model_dir
        self._copy = untrained_checkpoint

    def after_save(self, session: Any, global_step_value: int) -> None:
        """Copy."""
        if global_step_value == 0:
            paths = self._model_dir.glob("model.ckpt-0.*")
            # The index last: a checkpoint without one is none.
            for path in sorted(paths, key=lambda path: path.suffix == ".index"):
                with atomic_write(self._copy.parent / path.name) as copy, open(path, "rb") as file:
                    shutil.copyfileobj(file, copy)


class StopAfterEvaluation(tf.compat.v1.train.SessionRunHook):
    """Lets an evaluation end the run at the very step that it evaluated; call it to do so.

    An evaluation runs while the step's checkpoint is saved, when it is too late for
    `request_stop()` of the step; the coordinator is asked before the next one.
    """

    def __init__(self) -> None:
        """Start with a run that goes on."""
        self._coordinator: Any = None

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Note whom to ask."""
        self._coordinator = coord

    def __call__(self) -> None:
        """End the run, if there is one by now."""
        if self._coordinator is not None:
            self._coordinator.request_stop()


class KeepEmbeddings(tf.compat.v1.train.SessionRunHook):
    """Holds what an evaluation has collected: the embeddings of the split, and their labels."""

    def begin(self) -> None:
        """Find the collector, which `model_fn` has put into the graph's collection."""
        (self._metrics,) = tf.compat.v1.get_collection(SPLIT_METRICS)

    @property
    def embedded(self) -> Embedded:
        """The split, in the order of the evaluation."""
        return self._metrics.embedded

    @property
    def ranking(self) -> Ranking:
        """How its examples have ranked each other."""
        return self._metrics.ranking


class EvaluationReport(estimator.Exporter):
    """Prints a line after each evaluation; an Exporter is what the Estimator calls there."""

    def __init__(self, steps_per_epoch: int, experiment: Experiment) -> None:
        """Report steps as epochs of `steps_per_epoch` as well; note the metrics in `experiment`."""
        self._steps_per_epoch = steps_per_epoch
        self._experiment = experiment

    @property
    def name(self) -> str:
        """The name that the Estimator asks for."""
        return "report"

    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> None:
        """Print the line, and keep the metrics for a run that ends early; nothing is exported."""
        step = int(eval_result["global_step"])
        metrics = defined(eval_result)
        self._experiment.note_evaluation({**metrics, "global_step": step})
        names = ("map_at_r_within", "recall_at_1_within", "loss", "fraction_positive")
        shown = format_metrics({name: metrics[name] for name in names})
        tqdm.write(f"epoch {step / self._steps_per_epoch:.4g}  step {step}  validation: {shown}")


def _loss_and_fraction(results: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return a step's loss and fraction_positive: None where its batch has no triplet."""
    loss, fraction = float(results["loss"]), float(results["fraction_positive"])
    return (None, None) if math.isnan(fraction) else (loss, fraction)


def write_scalars(directory: str, values: Mapping[str, float | None], step: int) -> None:
    """Write a point of each curve among the summaries in a directory, to disk at once.

    A curve has none where the value is None.
    """
    for tag, value in values.items():
        if value is not None:
            _write_scalar(directory, tag, value, step)
    flush_summaries(directory)


def write_image(directory: str, tag: str, image: Image.Image, step: int) -> None:
    """Write an RGB image among the summaries in a directory, to disk at once."""
    png = io.BytesIO()
    image.save(png, format="PNG")
    summary = tf.compat.v1.Summary()
    summary.value.add(
        tag=tag,
        image=tf.compat.v1.Summary.Image(
            width=image.width,
            height=image.height,
            colorspace=3,
            encoded_image_string=png.getvalue(),
        ),
    )
    with tf.Graph().as_default():  # else a writer refuses to be made
        tf.compat.v1.summary.FileWriterCache.get(directory).add_summary(summary, step)
    flush_summaries(directory)


def flush_summaries(directory: str) -> None:
    """Bring to disk what this process has written among the summaries in a directory."""
    with tf.Graph().as_default():
        tf.compat.v1.summary.FileWriterCache.get(directory).flush()


def _write_scalar(model_dir: str, tag: str, value: float, step: int) -> None:
    """Write a point of a curve among the summaries of the run."""
    summary = tf.compat.v1.Summary()
    summary.value.add(tag=tag, simple_value=value)
    tf.compat.v1.summary.FileWriterCache.get(model_dir).add_summary(summary, step)
