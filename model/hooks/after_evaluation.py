"""What a training does after each evaluation, when the Estimator calls its Exporters."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from model.estimator import estimator
from model.split_metrics import defined
from src.embeddings.metrics import Metrics


class Evaluated(NamedTuple):
    """An evaluation of a checkpoint on the validation split.

    Attributes:
        estimator: the Estimator that evaluated.
        checkpoint: the checkpoint's path, without file endings.
        results: what `Estimator.evaluate` returned.
        export_path: the Exporter's own folder in `export/`.
    """

    estimator: Any
    checkpoint: Path
    results: Mapping[str, Any]
    export_path: str

    @property
    def step(self) -> int:
        """The checkpoint's global step."""
        return int(self.results["global_step"])

    @property
    def metrics(self) -> Metrics:
        """The metrics; None if undefined."""
        return defined(self.results)


class AfterEvaluation(estimator.Exporter):
    """An Exporter for the Estimator, which need not export anything.

    Subclasses define `name`, which is also the name of their folder in `export/`.
    """

    @abstractmethod
    def after_evaluation(self, evaluated: Evaluated) -> Any:
        """React to an evaluation; return the path of an exported model, if there is one."""

    def export(  # the Estimator passes the arguments by name
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: Mapping[str, Any],
        is_the_final_export: bool,
    ) -> Any:
        """Pass the evaluation on; every one is treated alike, also the final one."""
        return self.after_evaluation(
            Evaluated(estimator, Path(checkpoint_path), eval_result, export_path)
        )
