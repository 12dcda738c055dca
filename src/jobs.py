"""Trainings as processes: some at once, with one view of their progress; signals are passed on."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO

from tqdm import tqdm  # type: ignore[import-untyped]

from src.experiment import Experiment
from src.stopping import SIGNALS

_LOOK_EVERY_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """A training to run.

    Attributes:
        experiment: what it trains; its progress is read there.
        command: the program and its arguments; no shell is involved.
        log_path: takes what it prints, behind what is there.
    """

    experiment: Experiment
    command: Sequence[str]
    log_path: Path

    @property
    def name(self) -> str:
        """The name of the experiment's directory."""
        return self.experiment.model_dir.name


@dataclass
class Outcome:
    """How the jobs ended.

    Attributes:
        finished: the names of those that ended well.
        failed: why each of the others failed.
        stopped_by: the signal that ended the run early; those unfinished are in neither.
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped_by: signal.Signals | None = None


class _Running:
    """A job's process."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.job = job
        self.started = time.time()
        self._log: BinaryIO = open(job.log_path, "ab")  # noqa: SIM115
        self._log.write(f"$ {shlex.join(job.command)}\n".encode())
        self._log.flush()
        self._log_begins = self._log.tell()
        # In a session of its own: a terminal's Ctrl-C reaches this program alone, which passes it
        # on once.
        self.process = subprocess.Popen(
            job.command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )

    def has_ended(self) -> bool:
        """Return whether it has ended."""
        if self.process.poll() is None:
            return False
        self._log.close()
        return True

    def progress(self) -> dict[str, Any] | None:
        """Return how far it is; None as long as it has not said so, whatever an earlier run has."""
        experiment = self.job.experiment
        try:
            written = experiment.progress_path.stat().st_mtime
        except FileNotFoundError:
            return None
        return experiment.progress() if written >= self.started else None

    def reason(self) -> str:
        """Return why it failed: what it said last, and where the rest is."""
        code = self.process.returncode
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        with open(self.job.log_path, "rb") as log:
            log.seek(self._log_begins)
            said = log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
        last = last.removeprefix("error: ").removeprefix(f"{self.job.experiment.model_dir}: ")
        return f"{last} ({ended}; {self.job.log_path})"


def threads_environment(jobs: int) -> dict[str, str]:
    """Return the environment that divides the processor among `jobs` processes.

    Each would else start as many threads as there are cores. What the user has set stays. A GPU
    is shared by growth, for TensorFlow would else take all its memory for the first process.
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
    """Run every job, and show their progress.

    A job that fails does not keep the others from running. SIGINT, SIGTERM and SIGHUP are passed
    on to those that run, which are waited for; no other is started. A second one kills them.

    Args:
        jobs: what to run, in this order.
        at_once: how many at the same time, at the most.
        num_done: how many have been finished before, for the view.
    """
    outcome = Outcome()
    waiting = deque(jobs)
    running: list[_Running] = []
    environment = threads_environment(min(at_once, len(jobs)))
    num_passed_on = 0
    with _received_signals() as received, _View(len(jobs) + num_done, num_done, at_once) as view:
        while running or (waiting and not received):
            while waiting and len(running) < at_once and not received:
                job = waiting.popleft()
                try:
                    running.append(_Running(job, environment))
                except OSError as error:  # a full disk, no more processes
                    outcome.failed[job.name] = f"could not be started: {error}"
                    view.not_started(job, outcome)
                else:
                    view.started(running[-1])
            for number in received[num_passed_on:2]:
                if num_passed_on == 0:
                    view.write(f"{number.name}: waiting for {len(running)} to stop")
                for one in running:
                    one.process.send_signal(signal.SIGKILL if num_passed_on else number)
                num_passed_on += 1
            for ended in [one for one in running if one.has_ended()]:
                running.remove(ended)
                if ended.process.returncode == 0:
                    outcome.finished.append(ended.job.name)
                elif not received:
                    outcome.failed[ended.job.name] = ended.reason()
                view.ended(ended, outcome)
            view.refresh(running)
            time.sleep(_LOOK_EVERY_SECONDS)
        outcome.stopped_by = received[0] if received else None
    return outcome


@contextmanager
def _received_signals() -> Iterator[list[signal.Signals]]:
    """Collect signals that ask to stop, in a list, instead of being ended by them.

    Those that this program was started to ignore (`nohup`) stay ignored.
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


class _View:
    """A bar of all jobs and one of each that runs, on a terminal; everywhere, lines of events."""

    def __init__(self, total: int, done: int, at_once: int) -> None:
        self._all = tqdm(
            total=total,
            initial=done,
            desc="all",
            bar_format="{desc}: {percentage:.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
            disable=None,  # where stderr is no terminal
            leave=False,
            dynamic_ncols=True,
        )
        self._total = total
        self._done = done
        self._free = list(range(at_once, 0, -1))
        self._bars: dict[str, tuple[int, tqdm]] = {}

    def __enter__(self) -> "_View":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for _, bar in self._bars.values():
            bar.close()
        self._all.close()

    def write(self, line: str) -> None:
        """Print a line above the bars, at once also where it goes to a file."""
        tqdm.write(line)
        sys.stdout.flush()

    def started(self, running: _Running) -> None:
        """Show a job."""
        if self._all.disable:
            self.write(f"{running.job.name}: started ({running.job.log_path})")
        position = self._free.pop()
        bar = tqdm(
            desc=running.job.name,
            unit=" steps",
            bar_format="{desc}: starting [{elapsed}]",
            position=position,
            disable=None,
            leave=False,
            dynamic_ncols=True,
        )
        self._bars[running.job.name] = position, bar

    def refresh(self, running: Sequence[_Running]) -> None:
        """Move the bars to where the jobs are."""
        if self._all.disable:
            return
        moved = 0.0
        for job in running:
            _, bar = self._bars[job.job.name]
            progress = job.progress()
            if progress is not None:
                if bar.total is None:
                    bar.bar_format = None  # tqdm's own
                    bar.reset(progress["max_steps"])
                    bar.initial = progress["step"]
                bar.n = progress["step"]
                losses = (
                    f"loss {progress['loss']:.4f}, "
                    f"fraction_positive {progress['fraction_positive']:.4f}"
                )
                is_trained = progress["step"] >= progress["max_steps"]
                bar.set_postfix_str("evaluating" if is_trained else losses, refresh=False)
                moved += bar.n / bar.total
            bar.refresh()
        self._all.n = self._done + moved
        self._all.refresh()

    def not_started(self, job: Job, outcome: Outcome) -> None:
        """Say that a job could not be started."""
        self._done += 1
        self.write(f"{job.name}: {outcome.failed[job.name]} ({self._done} of {self._total})")

    def ended(self, ended: _Running, outcome: Outcome) -> None:
        """Take a job's bar away, and say how it ended."""
        name = ended.job.name
        position, bar = self._bars.pop(name)
        self._free.append(position)
        bar.close()
        seconds = f"{time.time() - ended.started:.0f} s"
        self._done += name in outcome.finished or name in outcome.failed
        if name in outcome.finished:
            self.write(f"{name}: finished in {seconds} ({self._done} of {self._total})")
        elif name in outcome.failed:
            self.write(f"{name}: failed after {seconds} ({self._done} of {self._total})")
        else:
            self.write(f"{name}: stopped after {seconds}")
