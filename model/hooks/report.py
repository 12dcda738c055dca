"""Says who searches whom in an evaluation, keeps its embeddings and prints its metrics."""

from tqdm import tqdm

from model.estimator import tf
from model.hooks.after_evaluation import AfterEvaluation, Evaluated
from model.input_fn import evaluation_order
from model.split_metrics import SPLIT_METRICS
from src.data.roles import Roles, roles_of
from src.data.split import Split
from src.embeddings.metrics import Embedded
from src.embeddings.retrieval import Ranking
from src.experiment.experiment import Experiment
from src.experiment.table import format_metrics
from src.params.schema import Params


class UseRoles(tf.compat.v1.train.SessionRunHook):
    """Gives the roles of a split's examples to what computes the evaluation's metrics."""

    def __init__(self, split: Split, params: Params) -> None:
        """Prepare the roles for an evaluation of `split`."""
        self._roles = roles_of(split, params).take(evaluation_order(split, params))

    def begin(self) -> None:
        """Find the collector, which `model_fn` put into the graph's collection."""
        (metrics,) = tf.compat.v1.get_collection(SPLIT_METRICS)
        metrics.roles = self._roles


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
    def roles(self) -> Roles:
        """Who searches whom, in the same order."""
        return self._metrics.roles

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
