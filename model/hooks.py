"""What the user sees while a run goes on: the progress bar, and a line per evaluation."""

import sys
import time
from typing import Any

from tqdm import tqdm

from model.estimator import estimator, tf
from src.table import format_metrics


def progress_bar(description: str, num_examples: int, *, seen: int = 0) -> tqdm:
    """Return a bar that counts images, with speed and time left; shown on a terminal only."""
    return tqdm(
        desc=description,
        total=num_examples,
        initial=seen,
        unit=" images",
        unit_scale=True,
        disable=None,  # where stderr is not a terminal
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
    )


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

    def begin(self) -> None:
        """Find what to fetch, and show the bar."""
        graph = tf.compat.v1.get_default_graph()
        names = ("loss", "fraction_positive", "batch_size")
        self._fetches = {name: graph.get_tensor_by_name(f"progress/{name}:0") for name in names}
        self._bar = progress_bar(self._description, self._num_examples, seen=self._seen)

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
        self._bar.set_postfix_str(
            f"loss {results['loss']:.4f}, fraction_positive {results['fraction_positive']:.4f}",
            refresh=False,
        )
        self._bar.update(batch_size)
        self._examples_since_summary += batch_size
        self._step += 1
        if self._model_dir and self._step % self._save_summary_steps == 0:
            self._write_speed()

    def end(self, session: Any) -> None:
        """Take the bar away."""
        self._bar.close()

    def _write_speed(self) -> None:
        now = time.perf_counter()
        speed = self._examples_since_summary / (now - self._last_summary)
        summary = tf.compat.v1.Summary()
        summary.value.add(tag="examples_per_second", simple_value=speed)
        tf.compat.v1.summary.FileWriterCache.get(self._model_dir).add_summary(summary, self._step)
        self._examples_since_summary, self._last_summary = 0, now


class EvaluationReport(estimator.Exporter):
    """Prints a line after each evaluation; an Exporter is what the Estimator calls there."""

    def __init__(self, steps_per_epoch: int) -> None:
        """Report steps as epochs of `steps_per_epoch` as well."""
        self._steps_per_epoch = steps_per_epoch

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
        """Print the line; nothing is exported."""
        step = int(eval_result["global_step"])
        names = ("loss", "fraction_positive", "embedding_mean_norm", "recall_at_1_within")
        shown = format_metrics({name: float(eval_result[name]) for name in names})
        tqdm.write(f"epoch {step / self._steps_per_epoch:.4g}  step {step}  validation: {shown}")
