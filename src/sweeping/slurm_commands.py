"""SLURM's programs: options of `sbatch`, what the queue holds, submitting and cancelling."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from src.errors import UserError
from src.printable import printable

ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "TIMEOUT", "REVOKED"}
)
"""The states of jobs that do not run any more; any other, also an unknown one, is of a job to come
or running."""

_SECONDS_TO_ANSWER = 60
_MAX_MESSAGE = 300
_MAX_JOBS_A_CALL = 500
_SHORTEST_LOOK, _LONGEST_LOOK = 0.5, 15.0  # seconds
_SECONDS_BEFORE_A_WORD = 60

# Options of `sbatch` that the launcher sets itself, or that make something else of the job.
_OWN_OPTIONS = frozenset(
    {"array", "chdir", "clusters", "error", "help", "input", "job-name", "no-requeue", "open-mode"}
    | {"output", "parsable", "requeue", "test-only", "usage", "version", "wait", "wrap"}
)


class SlurmError(Exception):
    """One of SLURM's programs failed, or did not answer; the message says why."""


def parse_options(texts: Sequence[str]) -> dict[str, str | None]:
    """Return options of `sbatch` by their names without dashes; None for one without a value.

    Args:
        texts: `partition=gpu,gres=gpu:1,time=4:00:00` each. A part without `=` belongs to the value
            before it, as in `exclude=n1,n2`; the first may be an option without a value
            (`exclusive`).

    Raises:
        UserError: a text is something else, or has an option that sweeps set themselves.
    """
    options: dict[str, str | None] = {}
    for text in texts:
        key = None
        for part in text.split(","):
            found = re.fullmatch(r"(?:--)?([a-z][a-z-]+)(?:=(.*))?", part, re.DOTALL)
            if found and (key is None or found[2] is not None):
                key = found[1]
                options[key] = found[2]
            elif key is not None and options[key]:
                options[key] = f"{options[key]},{part}"
            else:
                raise UserError(
                    f"--slurm: found {printable(text)!r}; accepted: options of sbatch without "
                    "dashes, such as partition=gpu,gres=gpu:1,time=4:00:00"
                )
    for key, value in options.items():
        if key in _OWN_OPTIONS:
            raise UserError(f"--slurm {key}: set by the sweep itself; accepted: other options")
        if value == "" or not printable(value or "x") == (value or "x"):
            raise UserError(f"--slurm {key}: found {value!r}; accepted: {key}=VALUE, or {key}")
        if key == "signal" and not re.fullmatch(r"B:TERM@[0-9]{1,5}", value or ""):
            raise UserError(
                f"--slurm signal: found {value!r}; accepted: B:TERM@SECONDS, at which a training "
                "saves a checkpoint and ends"
            )
    return options


def as_arguments(options: Mapping[str, str | None]) -> list[str]:
    """Return options as arguments: `--time=4:00:00`."""
    return [f"--{key}" if value is None else f"--{key}={value}" for key, value in options.items()]


def call(
    command: Sequence[str], script: bytes = b"", pass_descriptors: Sequence[int] = ()
) -> tuple[str, str]:
    """Run one of SLURM's programs; return what it prints to standard output and standard error.

    Args:
        command: the program and its arguments.
        script: its standard input.
        pass_descriptors: open files of this process that it shares.

    Raises:
        SlurmError: it failed, or did not answer in time. What it was to do may still have happened.
    """
    try:
        done = subprocess.run(
            command,
            input=script,
            capture_output=True,
            timeout=_SECONDS_TO_ANSWER,
            pass_fds=pass_descriptors,
            start_new_session=True,  # a terminal's Ctrl-C does not interrupt it
            env=_without_filters(),
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer in {_SECONDS_TO_ANSWER} s") from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: {error.strerror}") from None
    out, said = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    if done.returncode:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        first = lines[0] if lines else f"exit code {done.returncode}"
        first = re.sub(r"^[a-z]+: (error: )?", "", first)
        raise SlurmError(f"{command[0]}: {printable(first[:_MAX_MESSAGE])}")
    return out, said


def _without_filters() -> dict[str, str]:
    """Return the environment without the user's own choice of what `squeue` shows."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}


def submit(command: Sequence[str], script: bytes, lock: int) -> str:
    """Run `sbatch --parsable`; return the job's number.

    Args:
        command: `sbatch` with its arguments.
        script: what the job runs.
        lock: an open file that `sbatch` shares until it ends.

    Raises:
        SlurmError: the job was not submitted, or perhaps was.
    """
    out, _ = call(command, script, [lock])
    last = out.strip().rpartition("\n")[2].partition(";")[0]
    if not re.fullmatch("[0-9]{1,18}", last):
        raise SlurmError(f"sbatch: found no job number in {printable(out[:_MAX_MESSAGE])!r}")
    return last


def cancel(job_ids: Sequence[str], *options: str) -> None:
    """Run `scancel` for jobs, a few hundred a call.

    Raises:
        SlurmError: it failed; jobs that have ended are no failure.
    """
    for first in range(0, len(job_ids), _MAX_JOBS_A_CALL):
        call(["scancel", *options, *job_ids[first : first + _MAX_JOBS_A_CALL]])


@dataclass(frozen=True)
class Cluster:
    """What a cluster says of itself.

    Attributes:
        name: its name.
        hides_others: whether users see their own jobs alone.
    """

    name: str = ""
    hides_others: bool = False


def cluster() -> Cluster:
    """Ask the cluster.

    Raises:
        SlurmError: it does not answer.
    """
    out, _ = call(["scontrol", "show", "config"])
    name = re.search(r"^ClusterName\s*=\s*(\S+)", out, re.MULTILINE)
    hides_others = re.search(r"^PrivateData\s*=.*\bjobs\b", out, re.MULTILINE)
    return Cluster(name[1] if name else "", hides_others is not None)


@dataclass(frozen=True)
class QueuedJob:
    """What the queue says of a job.

    Attributes:
        job_id: its number.
        name: its name.
        state: such as `PENDING` or `RUNNING`.
        where: the nodes that it runs on, or why it waits.
    """

    job_id: str
    name: str
    state: str
    where: str


class Queue:
    """What `squeue` says of some users' jobs, looked at now and then.

    The more often something changes, the more often it is looked at, from twice a second to four
    times a minute: all users of a cluster share the program that answers. If it does not answer,
    what it said before stays valid.

    Attributes:
        number: how many looks have been answered.
    """

    def __init__(self) -> None:
        """Begin with this user's jobs and without a look."""
        self.number = 0
        self._users = {os.getuid()}
        self._jobs: dict[str, QueuedJob] = {}
        self._looked = self._answered = self._changed = time.monotonic()
        self._is_due = True
        self._has_told = False
        self._news: list[str] = []

    def include_user(self, user_id: int) -> None:
        """Include another user's jobs from the next look on."""
        if user_id not in self._users:
            self._users.add(user_id)
            self._is_due = True

    def look_soon(self) -> None:
        """Make the next look as early as possible."""
        self._changed = time.monotonic()

    def jobs(self) -> Mapping[str, QueuedJob]:
        """Return the jobs by their numbers, as of a recent look."""
        now = time.monotonic()
        interval = min(max((now - self._changed) / 10, _SHORTEST_LOOK), _LONGEST_LOOK)
        if self._is_due or now - self._looked >= interval:
            try:
                self.look()
            except SlurmError as error:
                if now - self._answered > _SECONDS_BEFORE_A_WORD and not self._has_told:
                    self._has_told = True
                    self._news.append(f"no answer for a minute ({error}); still trying")
        return self._jobs

    def look(self) -> Mapping[str, QueuedJob]:
        """Look now; return the jobs by their numbers.

        Raises:
            SlurmError: there was no answer.
        """
        self._is_due = False
        users = ",".join(map(str, sorted(self._users)))
        columns = "--format=%i|%j|%T|%R"
        try:
            # --all: also of partitions that are hidden.
            out, _ = call(
                ["squeue", "--all", "--noheader", "--states=all", f"--user={users}", columns]
            )
        finally:
            self._looked = time.monotonic()  # it may have taken long, and all jobs ask in turn
        found = (line.split("|", 3) for line in out.splitlines() if line.count("|") >= 3)
        jobs = {line[0]: QueuedJob(*map(str.strip, line)) for line in found}
        self._answered = time.monotonic()
        if self._has_told:
            self._news.append("the queue answers again")
        self._has_told = False
        self.number += 1
        if jobs != self._jobs:
            self._changed = self._answered
        self._jobs = jobs
        return jobs

    def news(self) -> list[str]:
        """Return what is to be told since the last call."""
        news, self._news = self._news, []
        return news
