"""Runs the trainings of a sweep, several at a time; shows their progress and passes on signals."""

import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from src.errors import UserError
from src.experiment.status import Status
from src.sweeping.job import Elsewhere, Job, Outcome, Started, Unfinished, user_of
from src.sweeping.launchers import Launcher, TryLater
from src.sweeping.view import View
from src.system.signals import SIGNALS

_SIGNALS_EVERY_SECONDS = 0.1  # how often signals are heeded
_SECONDS_TO_SAVE = 120  # from the SIGTERM of a job that is stopped early to SIGKILL
_SECONDS_AFTER_SIGKILL = 30  # as long as killed jobs are waited for
# If nothing runs that could make place for it, a job is tried so often before it counts as failed.
_TRIES = 4
_SECONDS_BETWEEN_TRIES = 10


class Source(Protocol):
    """Has jobs that are not known in advance, and stops some early."""

    @property
    def total(self) -> int | None:
        """How many jobs there will be, with those finished earlier; None if unknown."""

    @property
    def is_over(self) -> bool:
        """Whether its time is over: nothing starts any more, and what runs is to be stopped."""

    def next_job(self) -> Job | None:
        """Return the next job to start; None if there is none, or none now."""

    def to_stop(self, running: Sequence[Started]) -> Sequence[Started]:
        """Return those jobs that are to save a checkpoint and end now; each of them once."""

    def ended(self, job: Job, status: str, *, is_interrupted: bool) -> str | None:
        """Note how a job ended; return what to print about it, or None for the usual."""

    def news(self) -> Sequence[str]:
        """Return what has happened since the last call, a line each."""


def run_jobs(
    jobs: Sequence[Job],
    launcher: Launcher,
    *,
    num_done: int = 0,
    cancels: bool | None = None,
    source: Source | None = None,
) -> Outcome:
    """Run all jobs and show their progress.

    If a job fails, the others still run. If another process already trains a job's experiment, the
    job waits for it, and runs afterwards if the experiment is not finished. A waiting job counts
    towards the launcher's `at_once`.

    SIGINT, SIGTERM and SIGHUP are passed on to the running jobs. The function then waits for these
    jobs and starts no others. A second signal kills them. Processes that were not started here get
    no signal. With `cancels=False`, a signal only ends the function; the jobs run on.

    Args:
        jobs: the jobs, in the order to run them.
        launcher: starts them.
        num_done: the number of jobs finished earlier, shown in the progress.
        cancels: whether a signal is passed on; None if the launcher decides.
        source: has more jobs, once `jobs` have been started; the launcher then has an `at_once`.
    """
    at_once = min(launcher.at_once or len(jobs), len(jobs)) if source is None else launcher.at_once
    total = len(jobs) + num_done if source is None else source.total
    if cancels is None:
        cancels = launcher.cancels_on_interrupt
    with _received_signals() as received, View(total, num_done, at_once or 1) as view:
        run = _Run(deque(jobs), launcher, at_once or 1, received, view, source)
        try:
            _until_ended(run, cancels=cancels)
        except BaseException:  # a full disk, a closed console: nobody waits for what runs
            if cancels:
                launcher.stop(run.running, signal.SIGTERM)
            raise
        run.tell_news()
        run.outcome.stopped_by = received[0] if received else None
    return run.outcome


def _until_ended(run: "_Run", *, cancels: bool) -> None:
    """Start jobs and look at them until the last has ended, or a signal ends the waiting."""
    received, view = run.received, run.view
    while run.running or (not received and run.has_waiting()):
        run.start_waiting()
        run.stop_chosen()
        run.tell_news()
        if received and not cancels:
            view.write(f"{received[0].name}: {len(run.running)} still run")
            return
        run.pass_signals_on()
        if run.killed_at is not None and time.monotonic() > run.killed_at + _SECONDS_AFTER_SIGKILL:
            view.write(f"not waiting any longer for {len(run.running)} to end")
            return
        run.remove_ended()
        view.refresh(run.running)
        _sleep(run.launcher.look_every_seconds, run)


@dataclass
class _Run:
    """The state of `run_jobs`.

    Attributes:
        waiting: the jobs to start, in this order.
        launcher: starts them.
        at_once: the largest number of jobs that run at the same time.
        received: the signals received so far, in order; the first two count.
        view: shows the progress.
        source: has more jobs; None if `waiting` are all.
        running: the jobs that run, here or elsewhere.
        outcome: how the other jobs ended.
        num_passed_on: how many signals have been passed on.
        killed_at: when the second was passed on, by a clock without jumps.
        num_tries: how often, one after the other, a job could not be started now.
        next_try: when to try again, by the same clock.
        stopping: those stopped before the end, and when, by the same clock.
    """

    waiting: deque[Job]
    launcher: Launcher
    at_once: int
    received: Sequence[signal.Signals]
    view: View
    source: Source | None = None
    running: list[Started] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    num_passed_on: int = 0
    killed_at: float | None = None
    num_tries: int = 0
    next_try: float = 0
    stopping: dict[str, float] = field(default_factory=dict)

    def tell_news(self) -> None:
        """Print what the launcher and the source have to tell."""
        for line in (*self.launcher.news(), *(self.source.news() if self.source else ())):
            self.view.write(line)

    def has_waiting(self) -> bool:
        """Return whether a job waits to be started; get one from the source if none does."""
        if not self.waiting and self.source and (job := self.source.next_job()):
            self.waiting.append(job)
        return bool(self.waiting)

    def start_waiting(self) -> None:
        """Start jobs until `at_once` are running; none after a signal."""
        while len(self.running) < self.at_once and not self.received and self.has_waiting():
            if time.monotonic() < self.next_try:
                return
            job = self.waiting.popleft()
            try:
                started = self._start(job)
            except TryLater as error:
                self._try_later(job, str(error))
            except (UserError, OSError) as error:  # a full disk, no more processes
                self._not_started(job, Unfinished(f"could not be started: {error}"))
            else:
                self.num_tries = 0
                self.running.append(started)
                self.view.started(started)

    def _start(self, job: Job) -> Started:
        """Start a job, unless it is already running somewhere."""
        if (found := self.launcher.find(job)) is not None:
            return found
        if user := user_of(job.experiment):
            return Elsewhere(job, user)
        return self.launcher.start(job)

    def _try_later(self, job: Job, reason: str) -> None:
        """Put a job back that cannot be started now; give up if nothing changes."""
        self.num_tries += 1
        if self.num_tries >= _TRIES and not self.running:
            self.num_tries = 0
            self._not_started(job, Unfinished(f"could not be started: {reason}"))
            return
        if self.num_tries == 1:
            self.view.write(f"{job.name}: not started yet: {reason}")
        self.waiting.appendleft(job)
        self.next_try = time.monotonic() + _SECONDS_BETWEEN_TRIES

    def _not_started(self, job: Job, reason: str) -> None:
        if self.source is not None:
            self.source.ended(job, reason, is_interrupted=False)
        self.outcome.failed[job.name] = reason
        self.view.not_started(job, self.outcome)

    def stop_chosen(self) -> None:
        """Stop the jobs that the source chooses; kill those that have not ended in time."""
        if self.source is None or self.received:
            return
        chosen = self.source.to_stop(self.running)
        if chosen:
            self.stopping |= {one.job.name: time.monotonic() for one in chosen}
            self.launcher.stop(chosen, signal.SIGTERM)
        late = time.monotonic() - _SECONDS_TO_SAVE
        hanging = [one for one in self.running if self.stopping.get(one.job.name, late) < late]
        if hanging:
            for one in hanging:
                self.stopping[one.job.name] += _SECONDS_TO_SAVE
            self.launcher.stop(hanging, signal.SIGKILL)
        if self.source.is_over:  # nobody waits for jobs of other processes then
            self.waiting.clear()
            for one in [one for one in self.running if isinstance(one, Elsewhere)]:
                self.running.remove(one)
                self.view.ended(one, self.outcome)

    def pass_signals_on(self) -> None:
        """Pass the first signal on to the jobs started here, and no longer wait for the others.

        At the second signal, kill the jobs.
        """
        for number in self.received[self.num_passed_on : 2]:
            if self.num_passed_on == 0:
                ours = [one for one in self.running if not isinstance(one, Elsewhere)]
                self.view.write(f"{number.name}: waiting for {len(ours)} to stop")
                for one in self.running:
                    if isinstance(one, Elsewhere):
                        self.view.ended(one, self.outcome)
                self.running = ours
                self.launcher.stop(self.running, number)
            else:
                self.killed_at = time.monotonic()
                self.launcher.stop(self.running, signal.SIGKILL)
            self.num_passed_on += 1

    def remove_ended(self) -> None:
        """Note how jobs ended. A job that another process left unfinished waits to be started."""
        for ended in [one for one in self.running if one.has_ended()]:
            self.running.remove(ended)
            self.stopping.pop(ended.job.name, None)
            status = _status(ended)
            if self.source is not None:
                message = self.source.ended(ended.job, status, is_interrupted=bool(self.received))
                self.view.ended(ended, self.outcome, message)
                continue
            if status == Status.FINISHED:
                self.outcome.finished.append(ended.job.name)
            elif status == Status.TO_RUN:
                self.waiting.appendleft(ended.job)
            elif not self.received:
                self.outcome.failed[ended.job.name] = status
            self.view.ended(ended, self.outcome)


def _sleep(seconds: float, run: _Run) -> None:
    """Sleep, but not for long after a signal."""
    num_received = len(run.received)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and len(run.received) == num_received:
        time.sleep(min(left, _SIGNALS_EVERY_SECONDS))


def _status(ended: Started) -> str:
    """Return how a job ended; damaged files count as a failure."""
    try:
        return ended.status()
    except (UserError, OSError) as error:
        return str(error)


@contextmanager
def _received_signals() -> Iterator[list[signal.Signals]]:
    """Collect stop signals in a list instead of being ended by them.

    Signals that were ignored when this program started (`nohup`) stay ignored.
    """
    received: list[signal.Signals] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))

    before = {
        number: signal.signal(number, receive)
        for number in set(SIGNALS)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
