"""What a search is for: the metric, its direction, and what ends it."""

from dataclasses import dataclass

from src.errors import UserError
from src.params.metric_names import AGAINST_GALLERY, LOWER_IS_BETTER, WITHIN
from src.printable import printable
from src.registry import did_you_mean
from src.sweeping.plan import MAX_CHILDREN

DEFAULT_METRIC = "validation.map_at_r_within"
SEARCHES = ("grid", "random", "tpe")


@dataclass(frozen=True)
class Goal:
    """What the user wants.

    Attributes:
        search: `grid`, `random` or `tpe`.
        metric: what is optimized: `validation.map_at_r_within`.
        is_higher_better: its direction.
        prunes: whether trainings worse than the median are stopped.
        num_trials: how many are proposed; None for no limit.
        minutes: how long the search may run, all runs together; None for no limit.
    """

    search: str
    metric: str
    is_higher_better: bool
    prunes: bool
    num_trials: int | None
    minutes: float | None


def make_goal(
    search: str, metric: str, prune: str, num_trials: int | None, minutes: float | None
) -> Goal:
    """Return the goal.

    Raises:
        UserError: the metric cannot be searched for, or nothing ends the search.
    """
    split, _, name = metric.partition(".")
    known = [*WITHIN, *(() if prune == "median" else AGAINST_GALLERY)]
    if split != "validation" or name not in known:
        names = [f"validation.{one}" for one in known]
        raise UserError(
            f"--metric: found {printable(metric)!r}{did_you_mean(metric, names)}; accepted: "
            f"validation.NAME (other splits are for the end, and losses of different margins do "
            f"not compare), of {', '.join(known)}"
        )
    if search != "grid" and num_trials is None and minutes is None:
        raise UserError(f"--search {search}: found no end; accepted: --trials N or --minutes M")
    if num_trials is not None and num_trials > MAX_CHILDREN:
        raise UserError(f"--trials: found {num_trials}; accepted: at most {MAX_CHILDREN}")
    return Goal(search, metric, name not in LOWER_IS_BETTER, prune == "median", num_trials, minutes)
