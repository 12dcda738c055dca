"""Reads the evaluations of running trainings from their event files, and reports them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from src.experiment.curves import read_curves
from src.experiment.pruned import Pruned, read_pruned
from src.experiment.status import Status
from src.searching.goal import Goal
from src.searching.study import Study
from src.sweeping.plan import Child


class Evaluations:
    """Reports to a study the best value so far after each evaluation of its trainings."""

    def __init__(self, study: Study, goal: Goal) -> None:
        """Report the metric of `goal` to `study`."""
        self._study = study
        self._goal = goal
        # For each training: how many evaluations are reported, and the files that they are from.
        self._seen: dict[str, tuple[int, dict[str, int]]] = {}

    def num_reported(self, name: str) -> int:
        """Return how many evaluations of a training have been reported by this process."""
        return self._seen.get(name, (0, {}))[0]

    def report(self, number: int, child: Child) -> Pruned | None:
        """Report a training's new evaluations, if its event files have grown.

        Of evaluations that an earlier process has reported, nothing changes. After the evaluation
        at which a training was pruned none counts, however many it still made.

        Returns:
            The first of them at which it is worse than the median, and some training is left;
            otherwise None.
        """
        folder = child.experiment.model_dir / "eval_validation"
        files = _sizes(folder)
        num_reported, seen = self._seen.get(child.name, (0, {}))
        if files == seen:
            return None
        pruned = read_pruned(child.experiment.model_dir)
        until = pruned.evaluation if pruned and child.status == Status.TO_RUN else np.inf
        metric = self._goal.metric
        steps, values = read_curves(folder).get(metric.partition(".")[2], ([], []))
        best = best_so_far(values, self._goal.is_higher_better)
        max_steps = (child.experiment.progress() or {}).get("max_steps", np.inf)
        self._seen[child.name] = max(len(steps), num_reported), files
        for evaluation, (step, value) in enumerate(zip(steps, best, strict=True), start=1):
            if num_reported < evaluation <= until and np.isfinite(value):
                median = self._study.report(number, evaluation, value)
                if median is not None and step < max_steps:
                    self._seen[child.name] = evaluation, files
                    return Pruned(evaluation=evaluation, metric=metric, value=value, median=median)
        return None


def best_so_far(values: Sequence[float], is_higher_better: bool) -> list[float]:
    """Return the best of each value and those before it; NaN before the first number."""
    best = np.fmax if is_higher_better else np.fmin
    return [float(value) for value in best.accumulate(np.asarray(values, float))] if values else []


def _sizes(folder: Path) -> dict[str, int]:
    try:
        return {path.name: path.stat().st_size for path in folder.glob("events.*")}
    except OSError:  # such as a network's; it is read next time
        return {}
