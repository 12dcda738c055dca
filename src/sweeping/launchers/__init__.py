"""Launchers: what runs the trainings of a sweep. A file each; `LAUNCHERS` in src/registry.py.

A launcher starts a job, tells its state, and passes a signal on to one job or to several. The sweep
decides which jobs to start and how many at once, and shows them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from signal import Signals
from typing import Protocol

from src.sweeping.job import Job, Started

DEFAULT = "local"


class TryLater(Exception):
    """A job cannot be started now, for a reason that may pass; the message says why."""


@dataclass(frozen=True)
class Settings:
    """What the user chose.

    Attributes:
        at_once: the largest number of jobs that run at the same time; None if not chosen.
        job_minutes: after so many minutes a job is stopped; None for never.
        options: the launcher's own options, `key=value,key=value` each.
    """

    at_once: int | None = None
    job_minutes: float | None = None
    options: Sequence[str] = ()


class Launcher(Protocol):
    """Starts jobs.

    Attributes:
        at_once: how many jobs to start at the same time; None for all.
        cancels_on_interrupt: whether its jobs are stopped if the sweep is interrupted and the user
            has not chosen.
        look_every_seconds: how often it is worth looking at the jobs.
    """

    at_once: int | None
    cancels_on_interrupt: bool
    look_every_seconds: float

    def command(self, job: Job) -> Sequence[str]:
        """Return the command that starts a job, to be printed."""

    def check(self) -> None:
        """Check that jobs could be started, before anything is written.

        Raises:
            UserError: they could not.
        """

    def find(self, job: Job) -> Started | None:
        """Return a job that this launcher still runs since an earlier sweep; None if there is none.

        Jobs that are processes of this machine are found without it, by the experiment's lock.

        Raises:
            TryLater: this cannot be told now.
            UserError: the job's record is damaged.
        """

    def start(self, job: Job) -> Started:
        """Start a job.

        Raises:
            OSError: it cannot be started.
            TryLater: it cannot be started now.
        """

    def stop(self, started: Sequence[Started], number: Signals) -> None:
        """Pass a signal on to those jobs that this launcher runs; it does not wait for their end.

        A training saves a checkpoint at the first SIGINT or SIGTERM and ends. SIGKILL ends it at
        once. A job that has not begun does not begin.
        """

    def news(self) -> Sequence[str]:
        """Return what has happened since the last call, a line each."""
