"""Directs the trainings of a search while they run: which is next, which to stop, how each ended.

It tells the study what the trainings' files say. The files decide: whatever was killed, the next
run reads them again.
"""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.facts import check_without_data
from src.experiment.pruned import is_pruned, read_pruned, save_pruned
from src.experiment.status import Status
from src.params.reading import format_value
from src.searching.child import child_of
from src.searching.comparable import check_comparable
from src.searching.ending import Ending, ending, trial_name
from src.searching.evaluations import Evaluations
from src.searching.goal import Goal
from src.searching.record import SearchRecord, TrialRecord, save_record
from src.searching.study import Study, Trial, key_of
from src.sweeping.job import Elsewhere, Job, Started, Unfinished
from src.sweeping.plan import Child, write_params
from src.sweeping.space import Dimension

_SECONDS_BETWEEN_LOOKS = 1.0  # at the trainings' evaluations
_SECONDS_BETWEEN_RECORDS = 5.0
_MAX_FRUITLESS = 20
"""After so many proposals in a row without a result, nothing more is proposed."""


@dataclass
class Director:
    """Proposes and judges trainings for `run_jobs`.

    Attributes:
        parent_dir: where the search is.
        parent: the content of the parent's `params.json`, as a child needs it.
        study: proposes and remembers.
        space: what is searched.
        goal: what the user wants.
        seed: of the order of a grid.
        make_job: returns the training of a child.
        record: what is known without the trials; `seconds` is from earlier runs.
    """

    parent_dir: Path
    parent: Mapping[str, Any]
    study: Study
    space: Mapping[str, Dimension]
    goal: Goal
    seed: int
    make_job: Callable[[Child], Job]
    record: SearchRecord
    _began: float = field(default_factory=time.monotonic)
    _looked: float = 0.0
    _recorded: float = 0.0
    _resumed: deque[Trial] = field(default_factory=deque)
    _active: dict[str, tuple[int, Child]] = field(default_factory=dict)
    _evaluations: Evaluations = field(init=False)
    _combinations: Iterator[dict[str, Any]] = field(init=False)
    _stopping: set[str] = field(default_factory=set)
    _news: list[str] = field(default_factory=list)
    _fruitless: int = 0
    _has_told: bool = False
    _is_closed: bool = False

    def __post_init__(self) -> None:
        """Take up the trials that had not ended."""
        self._evaluations = Evaluations(self.study, self.goal)
        self._combinations = self._grid()
        trials = self.study.trials()
        self._resumed.extend(one for one in trials if one.status == Status.RUNNING)
        self.save()

    @property
    def total(self) -> int | None:
        """How many trials there will be; None if time decides."""
        return self.goal.num_trials

    @property
    def num_ended(self) -> int:
        """How many trials have ended."""
        return sum(one.status != Status.RUNNING for one in self.study.trials())

    @property
    def seconds(self) -> float:
        """How long the search has run, all runs together."""
        return self.record.seconds + time.monotonic() - self._began

    @property
    def minutes_left(self) -> float | None:
        """How long the search may still run; None if that has no limit."""
        minutes = self.goal.minutes
        return None if minutes is None else max(minutes - self.seconds / 60, 0.0)

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        minutes = self.goal.minutes
        if not self._is_closed and minutes is not None and self.seconds >= 60 * minutes:
            self._is_closed = True
            self._news.append(f"the {minutes:g} minutes are over")
        return self._is_closed

    def child(self, trial: Trial) -> Child:
        """Return the experiment of a trial.

        Raises:
            UserError: its params contradict each other.
        """
        return child_of(self.parent_dir, self.parent, trial)

    def next_job(self) -> Job | None:
        """Return the next training; None if there is none, or none now.

        What has ended since an earlier run is noted, even if no time is left.
        """
        self._has_told &= self._fruitless >= _MAX_FRUITLESS
        while self._fruitless < _MAX_FRUITLESS and (self._resumed or not self.is_over):
            trial = self._resumed.popleft() if self._resumed else self._propose()
            if trial is None:
                return None
            job = self._prepared(trial)
            if job is not None and not self.is_over:
                return job
        if self._fruitless >= _MAX_FRUITLESS and not self._has_told:
            self._has_told = True
            self._news.append(f"{_MAX_FRUITLESS} proposals in a row without a result: no more")
        return None

    def _propose(self) -> Trial | None:
        trials = self.study.trials()
        if self.goal.num_trials is not None and len(trials) >= self.goal.num_trials:
            return None
        if self.goal.search != "grid":
            return self.study.propose()
        known = {one.key for one in trials}
        # What was left out is proposed already, so the walk goes on where it was.
        values = next((one for one in self._combinations if key_of(one) not in known), None)
        return None if values is None else self.study.propose(values)

    def _grid(self) -> Iterator[dict[str, Any]]:
        """Yield all combinations, in an order that the seed decides."""
        axes = [
            value if isinstance(value, list) else value.values(key)
            for key, value in self.space.items()
        ]
        combinations = list(itertools.product(*axes))
        for index in np.random.default_rng(self.seed).permutation(len(combinations)):
            yield dict(zip(self.space, combinations[index], strict=True))

    def _prepared(self, trial: Trial) -> Job | None:
        """Return a trial's training, after writing its params; None if none is needed."""
        name = trial_name(trial.number)
        alike = next((one for one in self.study.trials() if one.key == trial.key), trial)
        if alike.number < trial.number:
            self._fruitless += 1
            if alike.status != Status.RUNNING:
                self._end_alike(trial, alike)
            return None  # else with the one that runs
        try:
            child = self.child(trial)
            check_comparable([child])
            ended = ending(child, self.goal.metric)
            if ended is None:
                check_without_data(child.params, Path(name))
                write_params(child)
        except UserError as error:
            lines = [line.removeprefix(f"{name}: ") for line in str(error).split("\n")]
            ended = Ending(Status.FAILED, None, "; ".join(lines))
        if ended is not None:
            if ended.status == Status.FAILED:
                self._news.append(f"{name}: {ended.reason}")
            else:
                self._evaluations.report(trial.number, child)
            self._end(trial.number, ended)
            return None
        self._active[name] = trial.number, child
        job = self.make_job(child)

        def status() -> str:
            return Status.PRUNED if is_pruned(child.experiment) else job.status()

        if not self.is_over:
            self._news.append(f"{name}: {said(trial.values)}")
        return replace(job, status=status)

    def to_stop(self, running: Sequence[Started]) -> list[Started]:
        """Report new evaluations to the study; return the trainings to stop now.

        Processes that an earlier run has left are not stopped; its jobs in a queue are.
        """
        now = time.monotonic()
        if now - self._recorded >= _SECONDS_BETWEEN_RECORDS:
            self.save()
        ours = [
            one
            for one in running
            if not isinstance(one, Elsewhere) and one.job.name not in self._stopping
        ]
        if self.is_over:
            chosen = ours
        elif now - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = now
            chosen = [one for one in ours if self._is_to_be_pruned(one.job.name)]
        else:
            return []
        self._stopping.update(one.job.name for one in chosen)
        return chosen

    def _is_to_be_pruned(self, name: str) -> bool:
        """Report a training's new evaluations; note in its directory if it is to be pruned."""
        number, child = self._active[name]
        reports = self._evaluations.num_reported(name)
        pruned = self._evaluations.report(number, child)
        if self._evaluations.num_reported(name) > reports:
            self._fruitless = 0
        if pruned is None or not self.goal.prunes:
            return False
        save_pruned(child.experiment.model_dir, pruned)
        return True

    def ended(self, job: Job, status: str, *, is_interrupted: bool) -> str | None:
        """Note how a training ended.

        Args:
            job: the training.
            status: what its launcher says.
            is_interrupted: whether the search was told to stop.

        Returns:
            What to print; None if the training can go on and the launcher knows why it ended.
        """
        number, child = self._active.pop(job.name)
        was_stopped = job.name in self._stopping
        self._stopping.discard(job.name)
        try:
            ended = ending(child, self.goal.metric)
            stopped = (child.experiment.metrics() or {}).get("status") == Status.STOPPED
        except UserError as error:
            ended, stopped = Ending(Status.FAILED, None, str(error)), False
        if ended is None:
            if status == Status.TO_RUN:
                self._resumed.appendleft(self._trial(number))
                return None
            if is_interrupted or was_stopped:
                return "stopped; the same command with time left resumes it"
            is_unfinished = isinstance(status, Unfinished)
            if stopped or is_unfinished:  # by a time limit, or by somebody else; or not submitted
                self._fruitless += is_unfinished
                return f"not finished: {status}"
            ended = Ending(Status.FAILED, None, status)
        if ended.status != Status.FAILED and ended.status != Status.PRUNED:
            self._evaluations.report(number, child)
        self._end(number, ended)
        of = "so far" if self.goal.num_trials is None else f"of {self.goal.num_trials}"
        left = self.minutes_left
        time_left = "" if left is None else f"; {left:.1f} minutes left"
        return f"{self._message(child, ended)} ({self.num_ended} {of}{time_left})"

    def _message(self, child: Child, ended: Ending) -> str:
        if ended.status == Status.PRUNED:
            pruned = read_pruned(child.experiment.model_dir)
            assert pruned is not None
            return (
                f"pruned after evaluation {pruned.evaluation}: {pruned.value:.4f}, the median is "
                f"{pruned.median:.4f}"
            )
        if ended.value is None:
            return f"{ended.status} {ended.reason}".strip()
        others = [
            one.value
            for one in self.study.trials()
            if one.value is not None and trial_name(one.number) != child.name
        ]
        is_best = all(self.is_better(ended.value, other) for other in others)
        return f"finished: {ended.value:.4f}{', the best so far' if is_best else ''}"

    def is_better(self, one: float, other: float) -> bool:
        """Return whether a value of the metric is better than another one."""
        return one > other if self.goal.is_higher_better else one < other

    def _end(self, number: int, ended: Ending) -> None:
        """Tell the study how a trial ended, and all that wait for its result."""
        self._fruitless = self._fruitless + 1 if ended.status == Status.FAILED else 0
        model_dir = self.parent_dir / trial_name(number)
        if ended.status == Status.PRUNED and (pruned := read_pruned(model_dir)) is not None:
            step = Experiment(model_dir).latest_step()
            save_pruned(model_dir, pruned.model_copy(update={"latest_step": step}))
        seconds = round(self.seconds, 1)
        self.study.end(number, ended.status, ended.value, seconds, ended.reason)
        trial = self._trial(number)
        for one in self.study.trials():
            if one.key == trial.key and one.status == Status.RUNNING:
                self._end_alike(one, trial)
        self.save()

    def _end_alike(self, trial: Trial, alike: Trial) -> None:
        reason = f"the values of {trial_name(alike.number)}"
        self.study.end(trial.number, alike.status, alike.value, round(self.seconds, 1), reason)
        self._resumed = deque(one for one in self._resumed if one.number != trial.number)
        self._news.append(f"{trial_name(trial.number)}: {reason}, not trained again")

    def _trial(self, number: int) -> Trial:
        return next(one for one in self.study.trials() if one.number == number)

    def news(self) -> list[str]:
        """Return what is to be printed since the last call."""
        news, self._news = self._news, []
        return news

    def save(self, **changes: Any) -> None:
        """Write the search's record."""
        self._recorded = time.monotonic()
        trials = [
            TrialRecord(
                number=one.number,
                name=trial_name(one.number),
                values=dict(one.values),
                status=str(one.status),
                value=one.value,
                seconds=one.seconds,
                reason=one.reason[:1000],
            )
            for one in self.study.trials()
        ]
        update = {"seconds": round(self.seconds, 1), "trials": trials, **changes}
        save_record(self.parent_dir, self.record.model_copy(update=update))


def said(values: Mapping[str, Any]) -> str:
    """Return values for a line of text: `margin 0.137, triplet_strategy batch_hard`."""
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {format_value(value)}"
        for key, value in values.items()
    )
