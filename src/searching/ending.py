"""How a training of a search has ended, by its files."""

from dataclasses import dataclass

from src.experiment.pruned import is_pruned
from src.experiment.status import Status
from src.sweeping.plan import Child


@dataclass(frozen=True)
class Ending:
    """How a training ended.

    Attributes:
        status: `finished`, `pruned`, `diverged`, `collapsed` or `failed`.
        value: the metric, if it has finished.
        reason: why it failed.
    """

    status: str
    value: float | None = None
    reason: str = ""


def trial_name(number: int) -> str:
    """Return the name of a trial's directory."""
    return f"trial_{number:04d}"


def ending(child: Child, metric: str) -> Ending | None:
    """Return how a training ended, by its files; None if it can go on.

    Raises:
        UserError: a file is damaged.
    """
    experiment = child.experiment
    metrics = experiment.metrics() or {}
    if experiment.is_finished(child.params):
        split, _, name = metric.partition(".")
        value = metrics["splits"].get(split, {}).get(name)
        if value is None:
            return Ending(Status.FAILED, None, f"{metric} is undefined, or was not measured")
        return Ending(Status.FINISHED, float(value))
    if metrics.get("status") in (Status.DIVERGED, Status.COLLAPSED):
        return Ending(metrics["status"])
    return Ending(Status.PRUNED) if is_pruned(experiment) else None
