"""The progress of a run: a bar on the terminal, and `progress.json`."""

import math
import time
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from model.estimator import tf
from model.hooks.summaries import write_scalar
from src.experiment.experiment import Experiment
from src.experiment.table import MISSING
from src.system.progress import progress_bar


class ProgressBar(tf.compat.v1.train.SessionRunHook):
    """One bar for a run, with the latest loss; also writes the summary `images_per_second`."""

    def __init__(
        self,
        description: str,
        num_images: int,
        *,
        seen: int = 0,
        model_dir: str | None = None,
        save_summary_steps: int = 0,
    ) -> None:
        """Prepare the bar.

        Args:
            description: the text before the bar.
            num_images: the number of images that the whole run processes.
            seen: the number of them that earlier runs have processed.
            model_dir: where the summary is written; None for no summary.
            save_summary_steps: the number of steps between summaries.
        """
        self._description = description
        self._num_images = num_images
        self._seen = seen
        self._model_dir = model_dir
        self._save_summary_steps = save_summary_steps
        self._bar: tqdm | None = None

    def begin(self) -> None:
        """Find what to fetch, and show the bar."""
        graph = tf.compat.v1.get_default_graph()
        names = ("loss", "fraction_positive", "batch_size")
        self._fetches = {name: graph.get_tensor_by_name(f"progress/{name}:0") for name in names}
        self._bar = progress_bar(self._description, self._num_images, "images", seen=self._seen)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Count steps from the checkpoint."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        self._images_since_summary = 0
        self._last_summary = time.perf_counter()

    def before_run(self, run_context: Any) -> Any:
        """Fetch the scalars together with the step."""
        return tf.compat.v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Move the bar."""
        results = run_values.results
        batch_size = int(results["batch_size"])
        loss, fraction = _loss_and_fraction(results)
        shown = [MISSING if value is None else f"{value:.4f}" for value in (loss, fraction)]
        self._bar.set_postfix_str(f"loss {shown[0]}, fraction_positive {shown[1]}", refresh=False)
        self._bar.update(batch_size)
        self._images_since_summary += batch_size
        self._step += 1
        if self._model_dir and self._step % self._save_summary_steps == 0:
            self._write_speed()

    def end(self, session: Any) -> None:
        """Remove the bar."""
        self.close()

    def close(self) -> None:
        """Remove the bar. Call this if a run is interrupted, because `end` is not called then."""
        if self._bar is not None:
            self._bar.close()

    def _write_speed(self) -> None:
        now = time.perf_counter()
        speed = self._images_since_summary / (now - self._last_summary)
        write_scalar(self._model_dir, "images_per_second", speed, self._step)
        self._images_since_summary, self._last_summary = 0, now


class ProgressFile(tf.compat.v1.train.SessionRunHook):
    """Writes a training's progress to `progress.json` about once a second, for other programs."""

    def __init__(self, experiment: Experiment, max_steps: int, every_seconds: float = 1.0) -> None:
        """Prepare the file.

        Args:
            experiment: the file is written to its directory.
            max_steps: the global step at which the training ends.
            every_seconds: the shortest time between two writes.
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
        """Count steps from the checkpoint."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        self._num_images = 0
        self._started: float | None = None
        self._latest: dict[str, float | int | None] | None = None

    def before_run(self, run_context: Any) -> Any:
        """Fetch the scalars together with the step."""
        return tf.compat.v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Record the progress; write it if `every_seconds` have passed."""
        now = time.perf_counter()
        self._step += 1
        if self._started is None:  # the first step includes the graph's start
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


def _loss_and_fraction(results: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return a step's loss and fraction_positive; both None if its batch has no triplet."""
    loss, fraction = float(results["loss"]), float(results["fraction_positive"])
    return (None, None) if math.isnan(fraction) else (loss, fraction)
