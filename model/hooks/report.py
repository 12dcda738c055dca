"""What an evaluation finds, kept and printed."""

from typing import Any

from tqdm import tqdm

from model.estimator import estimator, tf
from model.split_metrics import SPLIT_METRICS, defined
from src.embeddings.metrics import Embedded
from src.embeddings.retrieval import Ranking
from src.experiment.experiment import Experiment
from src.experiment.table import format_metrics


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
