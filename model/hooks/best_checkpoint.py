"""Keeps and exports the best checkpoint by a metric, and stops the run when patience ends."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.estimator import estimator
from model.hooks.after_evaluation import AfterEvaluation, Evaluated
from model.hooks.stopping import StopAfterEvaluation
from src.experiment.checkpoint_files import files_of, remove_others
from src.experiment.experiment import Best, Experiment
from src.experiment.table import format_number
from src.params.metric_names import LOWER_IS_BETTER
from src.params.schema import Params
from src.system.atomic import atomic_write


class BestCheckpoint(AfterEvaluation):
    """Keeps the checkpoint whose `best_metric` on validation is best.

    Ties are decided by the lower loss, then by the later step. While the metric is undefined, the
    latest checkpoint is kept and patience does not count.

    A file records the best so far, so a resumed run continues with it. `BestExporter` does the
    export and removes the previous one. Its own memory is not used: after a restart, it would
    accept the first evaluation as the best.
    """

    name = "best"

    def __init__(
        self,
        experiment: Experiment,
        params: Params,
        serving_input_fn: Any,
        stop: StopAfterEvaluation,
    ) -> None:
        """Prepare the exporter.

        Args:
            experiment: where the best checkpoint is kept.
            params: `best_metric`, `patience_evaluations`.
            serving_input_fn: builds the exported model's input.
            stop: that of the training run.
        """
        self._experiment = experiment
        self._metric = params.best_metric
        self._patience = params.patience_evaluations
        self._stop = stop
        self._exporter = estimator.BestExporter(
            name=self.name,
            serving_input_receiver_fn=serving_input_fn,
            event_file_pattern=None,
            compare_fn=lambda best_eval_result, current_eval_result: True,
            exports_to_keep=None,
        )

    def after_evaluation(self, evaluated: Evaluated) -> Any:
        """Keep and export the checkpoint if it is better; stop the run if patience has ended."""
        metrics, step = evaluated.metrics, evaluated.step
        value, loss = metrics[self._metric], metrics["loss"]
        best = self._experiment.best()
        if best is not None and step <= best.latest_step:
            return None  # already evaluated, by a run that was interrupted
        is_better = best is None or self._is_better(value, best.value)
        num_since = 0 if best is None or is_better else best.num_evaluations_since + 1
        exported = None
        if best is None or is_better or _wins_tie(value, loss, best):
            exported = self._export(evaluated)
            best = Best(self._metric, value, step, step, num_since, loss)
            self._keep(evaluated.checkpoint, best)
        else:
            best = replace(best, latest_step=step, num_evaluations_since=num_since)
            self._experiment.save_best(best)
        if self._patience is not None and best.num_evaluations_since >= self._patience:
            tqdm.write(
                f"step {step}: stopping, because {best.num_evaluations_since} evaluations in "
                f"a row did not improve {best.metric} {format_number(best.value)}",
                file=sys.stderr,
            )
            self._stop()
        return exported

    def _export(self, evaluated: Evaluated) -> Any:
        """Export the checkpoint as a SavedModel in place of the earlier one; return the path."""
        exported = self._exporter.export(
            evaluated.estimator,
            evaluated.export_path,
            str(evaluated.checkpoint),
            evaluated.results,
            is_the_final_export=False,
        )
        if exported is not None:
            # `BestExporter` would keep that of the latest time: an older one, if a clock went back.
            for path in Path(evaluated.export_path).iterdir():
                if path.name != Path(os.fsdecode(exported)).name:
                    shutil.rmtree(path, ignore_errors=True)
        return exported

    def _is_better(self, value: float | None, best: float | None) -> bool:
        """Return whether a value is better than the best, or the best is undefined (None)."""
        if value is None or best is None:
            return best is None
        return value < best if self._metric in LOWER_IS_BETTER else value > best

    def _keep(self, checkpoint: Path, best: Best) -> None:
        """Copy the checkpoint's files, then update the file that names the best."""
        folder = self._experiment.best_dir
        folder.mkdir(exist_ok=True)
        for path in files_of(checkpoint):
            with atomic_write(folder / path.name) as copy, open(path, "rb") as file:
                shutil.copyfileobj(file, copy)
        self._experiment.save_best(best)
        remove_others(folder / checkpoint.name)


def _wins_tie(value: float | None, loss: float | None, best: Best) -> bool:
    """Return whether an evaluation equal to the best replaces it: its loss is lower or equal."""
    if value is None or value != best.value:
        return False
    return best.loss is None or (loss is not None and loss <= best.loss)
