"""One training of a sweep: what to run, the process that runs it, and how it ended."""

import errno
import os
import re
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.printable import printable
from src.system.lock import has_writer, one_writer

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


class Running:
    """A job's process.

    Attributes:
        job: the job.
        started: when the process started, in seconds since the epoch.
        first_message: what to print about its start.
    """

    def __init__(self, job: Job, environment: Mapping[str, str]) -> None:
        """Start the process.

        Args:
            job: the job.
            environment: variables that the process gets in addition to those of this one.

        Raises:
            OSError: its log cannot be written, or the system starts no more processes.
        """
        self.job = job
        self.started = time.time()
        self.first_message = f"started ({job.log_path})"
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

    def last_message(self) -> str:
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
        if user_of(self.job.experiment):
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
