"""The door to Optuna: a study that proposes params, keeps results, and knows the median.

Only `sweep.py` opens it, under the lock of the parent directory. All that it knows is in Optuna's
journal. A proposal depends on the seed, the trial's number and the results before it alone, so a
study that was interrupted proposes what it would have proposed.
"""

import json
import math
import statistics
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment.status import Status
from src.printable import printable
from src.searching.journal import mend
from src.sweeping.space import Dimension

try:
    import optuna
    from optuna.distributions import check_distribution_compatibility
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import TrialState

    from src.searching.sampler import Seeded, distribution_of, values_of
except ModuleNotFoundError as error:
    raise UserError(
        f"--search: {error.name} is not installed; accepted: an environment with the extra search "
        '(pip install ".[search]")'
    ) from None

JOURNAL_FILE = "search.journal"

MIN_FINISHED = 4
"""Nothing is pruned before so many trainings have finished."""

_NAME = "search"
_RANDOM_TRIALS = 10  # the first of TPE; a third of all if there are fewer than 30
# How Optuna is told of each end. TPE ranks what was pruned below everything finished, and ignores
# what failed. What diverged or collapsed is a bad result of its params, so it is not ignored.
_STATES = {
    Status.FINISHED: TrialState.COMPLETE,
    Status.PRUNED: TrialState.PRUNED,
    Status.DIVERGED: TrialState.PRUNED,
    Status.COLLAPSED: TrialState.PRUNED,
    Status.FAILED: TrialState.FAIL,
}


_DAMAGES = (ValueError, LookupError, TypeError, AssertionError, AttributeError, RuntimeError)
"""What Optuna raises if a journal's lines are JSON, but not those that were written."""


@dataclass(frozen=True)
class Trial:
    """A proposal, and what became of it.

    Attributes:
        number: counts from 0.
        values: the value of each key that was searched then.
        status: `running`, or how it ended.
        value: the metric; None if it has not finished.
        seconds: how long the search had run when it ended; None before.
        reason: why it failed, or anything else to be told; empty if nothing.
        reports: the best value so far after each evaluation.
    """

    number: int
    values: Mapping[str, Any]
    status: str
    value: float | None
    seconds: float | None
    reason: str
    reports: Mapping[int, float]

    @property
    def key(self) -> str:
        """A text that is equal for equal values."""
        return key_of(self.values)


def key_of(values: Mapping[str, Any]) -> str:
    """Return a text that is equal for equal values."""
    return json.dumps(values, sort_keys=True)


class Study:
    """A study in a parent directory."""

    def __init__(
        self,
        parent_dir: Path,
        space: Mapping[str, Dimension],
        *,
        search: str,
        metric: str,
        is_higher_better: bool,
        seed: int,
        num_trials: int | None,
    ) -> None:
        """Open the study, or begin it.

        Args:
            parent_dir: where the journal is; its lock is held.
            space: what is searched.
            search: `random` or `tpe`; for another one, only `propose` with values works.
            metric: what is optimized.
            is_higher_better: the direction.
            seed: of the proposals.
            num_trials: how many are planned; None if time decides.

        Raises:
            UserError: the journal is damaged, or the study had another metric, search or seed.
        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._path = parent_dir / JOURNAL_FILE
        self._distributions = {key: distribution_of(value) for key, value in space.items()}
        mend(self._path)
        path = str(self._path)
        random_trials = _RANDOM_TRIALS
        if num_trials is not None:
            random_trials = min(random_trials, max(-(-num_trials // 3), 1))
        try:
            self._study = optuna.create_study(
                study_name=_NAME,
                storage=JournalStorage(JournalFileBackend(path, _NoLock(path))),
                sampler=Seeded(search, seed, random_trials),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=MIN_FINISHED, n_warmup_steps=0),
                direction="maximize" if is_higher_better else "minimize",
                load_if_exists=True,
            )
            _check_entries(self._study.get_trials(deepcopy=False))
        except _DAMAGES as error:
            raise UserError(
                f"{printable(str(self._path))}: damaged ({printable(str(error)[:200])}); accepted: "
                "the journal that sweep.py wrote, or another --parent_dir"
            ) from None
        self._keep({"metric": metric, "search": search, "seed": seed})
        self._check_space()

    def _keep(self, settings: Mapping[str, Any]) -> None:
        """Note the settings of a new study; refuse others for an old one."""
        known = self._study.user_attrs
        for name, value in settings.items():
            if name not in known:
                self._study.set_user_attr(name, value)
            elif known[name] != value:
                option = f"--{name}" if name != "seed" else "seed of params.json"
                raise UserError(
                    f"{option}: found {printable(str(value))}, but the search in "
                    f"{printable(str(self._path))} has {printable(str(known[name]))}; accepted: "
                    "that, or another --parent_dir"
                )

    def _check_space(self) -> None:
        """Refuse other choices, or another kind of range, for a key of an old study."""
        for trial in self._study.get_trials(deepcopy=False):
            for key, before in trial.distributions.items():
                now = self._distributions.get(key)
                try:
                    if now is not None:
                        check_distribution_compatibility(before, now)
                except ValueError:
                    raise UserError(
                        f"--param {printable(key)}: not the choices, or not the kind of range, of "
                        f"the search in {printable(str(self._path))}; accepted: the same; another "
                        "range of the same kind; or another --parent_dir"
                    ) from None

    def trials(self) -> list[Trial]:
        """Return all trials, by number; those without all of their values are left out."""
        found = []
        for trial in self._study.get_trials(deepcopy=False):
            attrs = trial.user_attrs
            if "is_complete" not in attrs:
                continue
            found.append(
                Trial(
                    trial.number,
                    values_of(trial),
                    Status.RUNNING if not trial.state.is_finished() else attrs["status"],
                    trial.value if trial.state == TrialState.COMPLETE else None,
                    attrs.get("seconds"),
                    attrs.get("reason", ""),
                    trial.intermediate_values,
                )
            )
        return found

    def propose(self, values: Mapping[str, Any] | None = None) -> Trial:
        """Return a new trial; a proposal that a kill has interrupted is made again.

        Args:
            values: the values, if the search does not choose them.
        """
        trials = self._study.get_trials(deepcopy=False)
        sampler = self._study.sampler
        assert isinstance(sampler, Seeded)
        sampler.given = dict(values or {})
        begun = [one for one in trials if "is_complete" not in one.user_attrs]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # experimental, and choices in the form of text
            trial = (
                optuna.trial.Trial(self._study, begun[0]._trial_id) if begun else self._study.ask()
            )
            for key, distribution in self._distributions.items():
                trial._suggest(key, distribution)
        trial.set_user_attr("is_complete", True)
        return next(one for one in self.trials() if one.number == trial.number)

    def report(self, number: int, evaluation: int, value: float) -> float | None:
        """Note the best value of a running trial after an evaluation, unless that is known.

        Args:
            number: the trial.
            evaluation: counts from 1.
            value: the best value of its evaluations until then.

        Returns:
            The median that it is worse than, if it should be pruned; otherwise None.
        """
        trial = self._trial(number)
        known = self._study.get_trials(deepcopy=False)[number].intermediate_values
        if evaluation < max(known, default=0):
            return None
        if evaluation not in known:  # else a kill may have come between it and the answer
            trial.report(value, evaluation)
        # Repeated proposals were not trained: they have a value, but no evaluations.
        complete = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        num_trained = sum(bool(one.intermediate_values) for one in complete)
        if num_trained < MIN_FINISHED or not trial.should_prune():
            return None
        return self.median(evaluation)

    def median(self, evaluation: int) -> float | None:
        """Return the median of the finished trials' best values after an evaluation."""
        values = [
            trial.intermediate_values[evaluation]
            for trial in self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            if evaluation in trial.intermediate_values
        ]
        return statistics.median(values) if values else None

    def end(
        self, number: int, status: str, value: float | None, seconds: float, reason: str = ""
    ) -> None:
        """Note how a trial ended.

        Args:
            number: the trial.
            status: `finished`, `pruned`, `diverged`, `collapsed` or `failed`.
            value: the metric if it has finished.
            seconds: how long the search has run.
            reason: why it failed.
        """
        trial = self._trial(number)
        for name, attr in (("status", str(status)), ("seconds", seconds), ("reason", reason)):
            trial.set_user_attr(name, attr)
        self._study.tell(trial, value, state=_STATES[Status(status)])

    def importances(self) -> dict[str, float] | None:
        """Return how much each key matters for the metric, in shares of 1 (fANOVA).

        Returns:
            None if too few trainings have finished, or all have the same metric.
        """
        finished = self._study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        num_trained = len({key_of(values_of(trial)) for trial in finished})
        if num_trained < MIN_FINISHED or len({trial.value for trial in finished}) < 2:
            return None
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
            except (ValueError, RuntimeError):  # no key that all of them have varies
                return None
        return dict(found) or None

    def _trial(self, number: int) -> "optuna.trial.Trial":
        found = self._study.get_trials(deepcopy=False)[number]
        return optuna.trial.Trial(self._study, found._trial_id)


def _check_entries(trials: Iterable["optuna.trial.FrozenTrial"]) -> None:
    """Check that the trials of a journal have what `Study` writes.

    Raises:
        ValueError: something is missing, or is of another kind; others of `_DAMAGES` too.
    """
    for trial in trials:
        attrs = trial.user_attrs
        numbers: list[Any] = list(trial.intermediate_values.values())
        values_of(trial)
        if trial.state.is_finished():
            if "is_complete" not in attrs or attrs.get("status") not in {*map(str, _STATES)}:
                raise ValueError(f"trial {trial.number} has ended without a status")
            if not isinstance(attrs.get("reason"), str):
                raise ValueError(f"trial {trial.number} has ended without a reason")
            numbers.append(attrs.get("seconds"))
        if trial.state == TrialState.COMPLETE:
            numbers.append(trial.value)
        if not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers):
            raise ValueError(f"trial {trial.number}: a value is missing, or no finite number")


class _NoLock(JournalFileOpenLock):
    """No lock: the parent directory's is held, and one left by a killed process would stay."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass
