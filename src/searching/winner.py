"""The end of a search: the best are trained with more seeds, and the winner is written."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.params.reading import check_params
from src.searching.director import said
from src.searching.ending import ending, trial_name
from src.searching.goal import Goal
from src.searching.record import WINNER_DIR
from src.searching.study import Trial
from src.sweeping.content import with_values
from src.sweeping.plan import Child
from src.system.atomic import atomic_write

NUM_BEST = 3
"""So many are trained with more seeds."""


@dataclass(frozen=True)
class Finalist:
    """A trial among the best, and its trainings with other seeds.

    Attributes:
        trial: the trial.
        own: its training.
        others: its trainings with other seeds.
    """

    trial: Trial
    own: Child
    others: Sequence[Child]

    @property
    def name(self) -> str:
        """The name of the trial's directory."""
        return trial_name(self.trial.number)


@dataclass(frozen=True)
class Winner:
    """What won.

    Attributes:
        finalist: the trial and its trainings.
        values: the metric of each of its trainings, the trial's own first.
    """

    finalist: Finalist
    values: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        return math.fsum(self.values) / len(self.values)


def finished_trials(
    trials: Sequence[Trial], child_of: Callable[[Trial], Child], goal: Goal, parent_dir: Path
) -> list[tuple[float, Trial, Child]]:
    """Return the trials that have finished: value, trial and experiment.

    The files count: a pruned training that somebody has finished by hand is among them. If one that
    had finished has not by its files, a line is printed.

    Args:
        trials: all trials.
        child_of: returns the experiment of a trial.
        goal: the metric.
        parent_dir: where the experiments are.
    """
    found: dict[str, tuple[float, Trial, Child]] = {}
    for trial in trials:
        if trial.key in found or not (parent_dir / trial_name(trial.number)).is_dir():
            continue
        try:
            child = child_of(trial)
            ended = ending(child, goal.metric)
        except UserError:  # damaged, or of params that contradict each other
            continue
        if ended is not None and ended.value is not None:
            found[trial.key] = ended.value, trial, child
    lost = {
        trial.key: trial_name(trial.number)
        for trial in reversed(trials)  # the first of equal ones has the directory
        if trial.status == Status.FINISHED and trial.key not in found
    }
    for name in sorted(lost.values()):
        print(
            f"warning: {parent_dir / name}: had finished, but its files are gone or damaged: it "
            "cannot win",
            flush=True,
        )
    return list(found.values())


def finalists(
    finished: Sequence[tuple[float, Trial, Child]],
    goal: Goal,
    parent: Mapping[str, Any],
    num_seeds: int,
) -> list[Finalist]:
    """Return the best trials, the best first.

    Args:
        finished: see `finished_trials`.
        goal: the direction of the metric.
        parent: the content of the parent's `params.json`, as a child needs it.
        num_seeds: how many trainings each shall have, the trial's own included.
    """
    sign = -1 if goal.is_higher_better else 1
    ordered = sorted(finished, key=lambda one: (sign * one[0], one[1].number))
    best = ordered[: NUM_BEST if num_seeds > 1 else 1]
    return [
        Finalist(trial, child, _with_other_seeds(child, parent, trial, num_seeds))
        for _, trial, child in best
    ]


def _with_other_seeds(
    child: Child, parent: Mapping[str, Any], trial: Trial, num_seeds: int
) -> list[Child]:
    """Return a trial's experiments with the seeds that follow its own."""
    children = []
    for seed in range(child.params.seed + 1, child.params.seed + num_seeds):
        name = f"{child.name}-seed_{seed}"
        content = with_values(parent, {**trial.values, "seed": seed})
        params = check_params(content, Path(name))
        children.append(
            Child(Experiment(child.experiment.model_dir.with_name(name)), content, params)
        )
    return children


def choose(candidates: Sequence[Finalist], goal: Goal) -> Winner | None:
    """Return the finalist with the best mean over its seeds; None if none has finished them all."""
    complete = []
    for one in candidates:
        endings = [ending(child, goal.metric) for child in (one.own, *one.others)]
        values = [found.value for found in endings if found and found.status == Status.FINISHED]
        if len(values) == len(endings):
            complete.append(Winner(one, [value for value in values if value is not None]))
    sign = -1 if goal.is_higher_better else 1
    return min(complete, key=lambda one: sign * one.mean, default=None)


def how_found(winner: Winner, goal: Goal, num_trials: int, minutes: float) -> str:
    """Return the line that says how the winner was found."""
    n = len(winner.values)
    reached = f"{goal.metric} {winner.mean:.4f}"
    if n > 1:
        deviation = math.sqrt(math.fsum((v - winner.mean) ** 2 for v in winner.values) / (n - 1))
        others = math.fsum(winner.values[1:]) / (n - 1)
        reached += (
            f" ± {deviation:.4f} over {n} seeds (its first was chosen for being good; the "
            f"{'other' if n == 2 else 'others'} alone: {others:.4f})"
        )
    else:
        reached += " with one seed, chosen for being good: not repeated"
    pruning = ", pruned by the median" if goal.prunes else ""
    return (
        f"{winner.finalist.name} of sweep.py --search {goal.search}, {num_trials} trials in "
        f"{minutes:.1f} minutes{pruning}: {said(winner.finalist.trial.values)}: {reached}"
    )


def write_winner(parent_dir: Path, winner: Winner, line: str) -> str:
    """Write the winner's `params.json`, unless its folder has been trained since.

    Returns:
        A line that says what was written, or where else the params are.
    """
    best = Experiment(parent_dir / WINNER_DIR)
    if best.has_checkpoints() or best.trained_params_path.exists():
        own = winner.finalist.own.experiment.params_path
        return f"{best.model_dir}: has been trained, so it stays as it is; these params: {own}"
    best.model_dir.mkdir(exist_ok=True)
    path = best.params_path
    content = {"$comment": line, **winner.finalist.own.values}
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
    return f"wrote {path}"
