"""Keeps the embeddings of an evaluation and prints its metrics."""

from tqdm import tqdm

from model.estimator import tf
from model.hooks.after_evaluation import AfterEvaluation, Evaluated
from model.split_metrics import SPLIT_METRICS
from src.embeddings.metrics import Embedded
from src.embeddings.retrieval import Ranking
from src.experiment.experiment import Experiment
from src.experiment.table import format_metrics


class KeepEmbeddings(tf.compat.v1.train.SessionRunHook):
    """Holds the embeddings and labels that an evaluation collected."""

    def begin(self) -> None:
        """Find the collector, which `model_fn` put into the graph's collection."""
        (self._metrics,) = tf.compat.v1.get_collection(SPLIT_METRICS)

    @property
    def embedded(self) -> Embedded:
        """The split's embeddings and labels, in the order of the evaluation."""
        return self._metrics.embedded

    @property
    def ranking(self) -> Ranking:
        """The rankings of the split's examples against each other."""
        return self._metrics.ranking


class EvaluationReport(AfterEvaluation):
    """Prints a line after each evaluation."""

    name = "report"

    def __init__(self, steps_per_epoch: int, experiment: Experiment) -> None:
        """Report steps also as epochs of `steps_per_epoch`; record the metrics in `experiment`."""
        self._steps_per_epoch = steps_per_epoch
        self._experiment = experiment

    def after_evaluation(self, evaluated: Evaluated) -> None:
        """Print the line, and record the metrics in case the run ends early."""
        step, metrics = evaluated.step, evaluated.metrics
        self._experiment.note_evaluation({**metrics, "global_step": step})
        names = ("map_at_r_within", "recall_at_1_within", "loss", "fraction_positive")
        shown = format_metrics({name: metrics[name] for name in names})
        tqdm.write(f"epoch {step / self._steps_per_epoch:.4g}  step {step}  validation: {shown}")
