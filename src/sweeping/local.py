"""Runs trainings as processes, several at a time; shows their progress and passes on signals."""

import errno
import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.experiment.table import MISSING
from src.printable import printable
from src.system.lock import has_writer, one_writer
from src.system.signals import SIGNALS

_LOOK_EVERY_SECONDS = 0.1
# The reason of a failure is searched in this many bytes at the end of a job's log.
_TAIL_BYTES = 2**16
_REASON_LENGTH = 500


@dataclass(frozen=True)
class Job:
    """A training to run.

    Attributes:
        experiment: the experiment it trains; progress is read from its directory.
        command: the program and its arguments; no shell is involved.
        log_path: the file that its output is appended to.
        status: returns the experiment's state: `to run`, `finished`, or why it does not run again.
    """

    experiment: Experiment
    command: Sequence[str]
    log_path: Path
    status: Callable[[], str] = lambda: Status.TO_RUN

    @property
    def name(self) -> str:
        """The name of the experiment's directory."""
        return self.experiment.model_dir.name


@dataclass
class Outcome:
    """How the jobs ended.

    Attributes:
        finished: the names of the jobs that ended well.
        failed: for each failed job, why it failed.
        stopped_by: the signal that ended the run early; unfinished jobs are in neither list.
    """

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    stopped_by: signal.Signals | None = None


class _Running:
    """A job's process."""

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        self.job = job
        self.started = time.time()
        self.says = f"started ({job.log_path})"
        log = _open_log(job.log_path)
        try:
            os.write(log, f"$ {shlex.join(job.command)}\n".encode(errors="surrogateescape"))
            self._log_begins = os.lseek(log, 0, os.SEEK_END)
            # In its own session, so that a terminal's Ctrl-C reaches only this program, which
            # passes it on once.
            self._process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )
        finally:
            os.close(log)  # the process has its own copy

    def has_ended(self) -> bool:
        """Return whether it has ended."""
        return self._process.poll() is not None

    def left(self) -> str:
        """Return its final message if it has neither finished nor failed."""
        return f"stopped after {time.time() - self.started:.0f} s"

    def stop(self, number: signal.Signals) -> None:
        """Pass a signal on."""
        self._process.send_signal(number)

    def progress(self) -> dict[str, Any] | None:
        """Return its progress; None until this run has written it (earlier runs do not count)."""
        experiment = self.job.experiment
        try:
            written = experiment.progress_path.stat().st_mtime
        except OSError:
            return None
        return experiment.progress() if written >= self.started else None

    def status(self) -> str:
        """Return `finished`, why it failed, or `to run` if another process started it first."""
        if self._process.returncode == 0:
            return Status.FINISHED
        if _user(self.job.experiment):
            return Status.TO_RUN
        return Status.FINISHED if self.job.status() == Status.FINISHED else self._reason()

    def _reason(self) -> str:
        """Return why it failed: its last line of output, and the path of its log."""
        code = self._process.returncode
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        with open(self.job.log_path, "rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_begins, size - _TAIL_BYTES))
            said = re.split(r"[\r\n]", log.read(_TAIL_BYTES).decode(errors="replace"))
        last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
        last = last.removeprefix("error: ").removeprefix(f"{self.job.experiment.model_dir}: ")
        return f"{printable(last[:_REASON_LENGTH])} ({ended}; {self.job.log_path})"


class _Elsewhere:
    """A job whose experiment is trained by another process, such as one left by a killed sweep."""

    def __init__(self, job: Job, user: str) -> None:
        self.job = job
        self.started = time.time()
        self.says = f"{user}; waiting for it"

    def has_ended(self) -> bool:
        """Return whether no process trains it any more."""
        return _user(self.job.experiment) is None

    def left(self) -> str:
        """Return its final message if it has neither finished nor failed."""
        return "not finished by the other process" if self.has_ended() else "left to go on"

    def progress(self) -> dict[str, Any] | None:
        """Return its progress."""
        return self.job.experiment.progress()

    def status(self) -> str:
        """Return the experiment's state: `to run` if the training has not ended."""
        return self.job.status()


def _user(experiment: Experiment) -> str | None:
    """Return a description of the process that trains an experiment; None if there is none.

    A process on another machine cannot be detected here; the error comes when training starts.
    """
    if not has_writer(experiment.model_dir):
        return None
    try:
        with one_writer(experiment.model_dir):  # just ended, or dead but still listed
            return None
    except UserError as error:
        return str(error).partition("; accepted")[0].removeprefix(f"{experiment.model_dir}: ")


def _open_log(path: Path) -> int:
    """Open a regular file to append to and return its descriptor; links are refused.

    Raises:
        OSError: the file cannot be written, or is not a regular file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return descriptor


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
    outcome = Outcome()
    waiting = deque(jobs)
    running: list[_Running | _Elsewhere] = []
    at_once = min(at_once, len(jobs))
    environment = threads_environment(at_once)
    num_passed_on = 0
    with _received_signals() as received, _View(len(jobs) + num_done, num_done, at_once) as view:
        while running or (waiting and not received):
            while waiting and len(running) < at_once and not received:
                job = waiting.popleft()
                try:
                    user = _user(job.experiment)
                    running.append(_Elsewhere(job, user) if user else _Running(job, environment))
                except OSError as error:  # a full disk, no more processes
                    outcome.failed[job.name] = f"could not be started: {error}"
                    view.not_started(job, outcome)
                else:
                    view.started(running[-1])
            for number in received[num_passed_on:2]:
                ours = [one for one in running if isinstance(one, _Running)]
                if num_passed_on == 0:
                    view.write(f"{number.name}: waiting for {len(ours)} to stop")
                    for one in running:
                        if isinstance(one, _Elsewhere):
                            view.ended(one, outcome)
                    running = list(ours)
                for one in ours:
                    one.stop(signal.SIGKILL if num_passed_on else number)
                num_passed_on += 1
            for ended in [one for one in running if one.has_ended()]:
                running.remove(ended)
                status = _status(ended)
                if status == Status.FINISHED:
                    outcome.finished.append(ended.job.name)
                elif status == Status.TO_RUN:
                    waiting.appendleft(ended.job)
                elif not received:
                    outcome.failed[ended.job.name] = status
                view.ended(ended, outcome)
            view.refresh(running)
            time.sleep(_LOOK_EVERY_SECONDS)
        outcome.stopped_by = received[0] if received else None
    return outcome


def _status(ended: _Running | _Elsewhere) -> str:
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


class _View:
    """On a terminal, one bar for all jobs and one for each running job; always, event lines."""

    def __init__(self, total: int, done: int, at_once: int) -> None:
        self._all = tqdm(
            total=total,
            initial=done,
            desc="all",
            bar_format="{desc}: {percentage:.0f}%|{bar}| {n:.1f}/{total} [{elapsed}<{remaining}]",
            disable=None,  # disabled if stderr is not a terminal
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
        """Print a line above the bars; flush it, also if the output is a file."""
        tqdm.write(line)
        sys.stdout.flush()

    def started(self, running: _Running | _Elsewhere) -> None:
        """Show a job."""
        if self._all.disable or isinstance(running, _Elsewhere):
            self.write(f"{running.job.name}: {running.says}")
        position = self._free.pop()
        bar = tqdm(
            desc=running.job.name,
            unit=" steps",
            bar_format="{desc}: starting [{elapsed}]"
            if isinstance(running, _Running)
            else "{desc}: waiting [{elapsed}]",
            position=position,
            disable=None,
            leave=False,
            dynamic_ncols=True,
        )
        self._bars[running.job.name] = position, bar

    def refresh(self, running: Sequence[_Running | _Elsewhere]) -> None:
        """Update the bars with the jobs' progress."""
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
                loss, fraction = (
                    MISSING if progress[key] is None else f"{progress[key]:.4f}"
                    for key in ("loss", "fraction_positive")
                )
                losses = f"loss {loss}, fraction_positive {fraction}"
                is_trained = progress["step"] >= progress["max_steps"]
                bar.set_postfix_str("evaluating" if is_trained else losses, refresh=False)
                moved += bar.n / max(bar.total, 1)
            bar.refresh()
        self._all.n = self._done + moved
        self._all.refresh()

    def not_started(self, job: Job, outcome: Outcome) -> None:
        """Print that a job could not be started."""
        self._done += 1
        self.write(f"{job.name}: {outcome.failed[job.name]} ({self._done} of {self._total})")

    def ended(self, ended: _Running | _Elsewhere, outcome: Outcome) -> None:
        """Remove a job's bar and print how it ended."""
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
            self.write(f"{name}: {ended.left()}")
