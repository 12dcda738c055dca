"""Runs trainings as processes, several at a time; shows their progress and passes on signals."""

import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from src.errors import UserError
from src.experiment.status import Status
from src.sweeping.job import Elsewhere, Job, Outcome, Running, user_of
from src.sweeping.view import View
from src.system.signals import SIGNALS

_LOOK_EVERY_SECONDS = 0.1


def threads_environment(jobs: int) -> dict[str, str]:
    """Return environment variables that divide the processor among `jobs` processes.

    Otherwise, each process would start as many threads as there are cores. Variables that the user
    has set stay. GPU memory grows on demand; otherwise, TensorFlow would take all of it for the
    first process.
    """
    if jobs <= 1:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(max(1, (cores or 1) // jobs))
    wanted = {
        "TF_NUM_INTRAOP_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    }
    return {key: value for key, value in wanted.items() if key not in os.environ}


def run_jobs(jobs: Sequence[Job], *, at_once: int, num_done: int = 0) -> Outcome:
    """Run all jobs and show their progress.

    If a job fails, the others still run. If another process already trains a job's experiment, the
    job waits for it, and runs afterwards if the experiment is not finished. A waiting job counts
    towards `at_once`.

    SIGINT, SIGTERM and SIGHUP are passed on to the running jobs. The function then waits for these
    jobs and starts no others. A second signal kills them. Processes that were not started here get
    no signal.

    Args:
        jobs: the jobs, in the order to run them.
        at_once: the largest number of jobs that run at the same time.
        num_done: the number of jobs finished earlier, shown in the progress.
    """
    at_once = min(at_once, len(jobs))
    with _received_signals() as received, View(len(jobs) + num_done, num_done, at_once) as view:
        run = _Run(deque(jobs), at_once, received, view)
        while run.running or (run.waiting and not received):
            run.start_waiting()
            run.pass_signals_on()
            run.remove_ended()
            view.refresh(run.running)
            time.sleep(_LOOK_EVERY_SECONDS)
        run.outcome.stopped_by = received[0] if received else None
    return run.outcome


@dataclass
class _Run:
    """The state of `run_jobs`.

    Attributes:
        waiting: the jobs to start, in this order.
        at_once: the largest number of jobs that run at the same time.
        received: the signals received so far, in order; the first two count.
        view: shows the progress.
        running: the jobs that run, here or elsewhere.
        outcome: how the other jobs ended.
        num_passed_on: how many signals have been passed on.
    """

    waiting: deque[Job]
    at_once: int
    received: Sequence[signal.Signals]
    view: View
    running: list[Running | Elsewhere] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    num_passed_on: int = 0

    def start_waiting(self) -> None:
        """Start jobs until `at_once` are running; none after a signal."""
        while self.waiting and len(self.running) < self.at_once and not self.received:
            job = self.waiting.popleft()
            try:
                user = user_of(job.experiment)
                variables = threads_environment(self.at_once)
                started = Elsewhere(job, user) if user else Running(job, variables)
            except OSError as error:  # a full disk, no more processes
                self.outcome.failed[job.name] = f"could not be started: {error}"
                self.view.not_started(job, self.outcome)
            else:
                self.running.append(started)
                self.view.started(started)

    def pass_signals_on(self) -> None:
        """Pass the first signal on to the jobs started here, and no longer wait for the others.

        At the second signal, kill the jobs.
        """
        for number in self.received[self.num_passed_on : 2]:
            ours = [one for one in self.running if isinstance(one, Running)]
            if self.num_passed_on == 0:
                self.view.write(f"{number.name}: waiting for {len(ours)} to stop")
                for one in self.running:
                    if isinstance(one, Elsewhere):
                        self.view.ended(one, self.outcome)
                self.running = list(ours)
            for one in ours:
                one.stop(signal.SIGKILL if self.num_passed_on else number)
            self.num_passed_on += 1

    def remove_ended(self) -> None:
        """Note how jobs ended. A job that another process left unfinished waits to be started."""
        for ended in [one for one in self.running if one.has_ended()]:
            self.running.remove(ended)
            status = _status(ended)
            if status == Status.FINISHED:
                self.outcome.finished.append(ended.job.name)
            elif status == Status.TO_RUN:
                self.waiting.appendleft(ended.job)
            elif not self.received:
                self.outcome.failed[ended.job.name] = status
            self.view.ended(ended, self.outcome)


def _status(ended: Running | Elsewhere) -> str:
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
