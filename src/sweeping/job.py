"""One training of a sweep: what to run, what is known while it runs, and how it ended."""

import errno
import os
import re
import shlex
import signal
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.printable import printable
from src.system.lock import writer

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


class Unfinished(str):
    """Why a job ended before its end, in words; the same command takes it up again."""


class Started(Protocol):
    """A job that has been started, or is waited for.

    Attributes:
        job: the job.
        started: when it was started, in seconds since the epoch.
        first_message: what to print about its start.
    """

    job: Job
    started: float
    first_message: str

    def has_ended(self) -> bool:
        """Return whether it has ended."""

    def last_message(self) -> str:
        """Return its final message if it has neither finished nor failed."""

    def progress(self) -> dict[str, Any] | None:
        """Return its progress, as in `progress.json`; None if there is none yet."""

    def status(self) -> str:
        """Return how it ended: `finished`, `to run` to be started again, or why it failed."""


class Elsewhere:
    """A job whose experiment is trained by another process, such as one left by a killed sweep.

    Attributes:
        job: the job.
        started: when the waiting began, in seconds since the epoch.
        first_message: what to print about the other process.
    """

    def __init__(self, job: Job, user: str) -> None:
        """Wait for `user`, a description of the other process."""
        self.job = job
        self.started = time.time()
        self.first_message = f"{user}; waiting for it"

    def has_ended(self) -> bool:
        """Return whether no process trains it any more."""
        return user_of(self.job.experiment) is None

    def last_message(self) -> str:
        """Return its final message if it has neither finished nor failed."""
        return (
            "not finished by the other process"
            if self.has_ended()
            else "still in use by the other process"
        )

    def progress(self) -> dict[str, Any] | None:
        """Return its progress."""
        return self.job.experiment.progress()

    def status(self) -> str:
        """Return the experiment's state: `to run` if the training has not ended."""
        return self.job.status()


def user_of(experiment: Experiment) -> str | None:
    """Return a description of the process that trains an experiment; None if there is none.

    A process on another machine is seen if the file system shares its locks (decision 15).
    Otherwise, the error comes when training starts.
    """
    who = writer(experiment.model_dir)
    return None if who is None else f"in use by {who}"


def open_log(path: Path) -> int:
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


def begin_log(job: Job, log: int) -> int:
    """Write a job's command to its open log; return the position at which its output begins."""
    os.write(log, f"$ {shlex.join(job.command)}\n".encode(errors="surrogateescape"))
    return os.lseek(log, 0, os.SEEK_END)


def reason_in_log(job: Job, begins: int, ended: str) -> str:
    """Return why a job failed: its last line of output, how it ended, and the path of its log.

    Args:
        job: the job.
        begins: the position in the log at which its output begins.
        ended: how it ended: `exit code 1`.
    """
    with open(job.log_path, "rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(begins, size - _TAIL_BYTES))
        said = re.split(r"[\r\n]", log.read(_TAIL_BYTES).decode(errors="replace"))
    last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
    last = last.removeprefix("error: ").removeprefix(f"{job.experiment.model_dir}: ")
    return f"{printable(last[:_REASON_LENGTH])} ({ended}; {job.log_path})"
