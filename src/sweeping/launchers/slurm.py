"""Runs trainings as jobs of SLURM, on whatever nodes of the cluster.

A job is `train.py` itself, so SLURM's SIGTERM has it save a checkpoint and end; a requeued job goes
on from there. Jobs outlive the sweep; the next one finds them by a file in the experiment's
directory (`src/sweeping/slurm_record.py`).
"""

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from signal import SIGKILL, Signals
from typing import Any

from src.errors import UserError
from src.experiment.status import Status
from src.printable import printable
from src.sweeping.job import Job, Started, Unfinished, begin_log, open_log, reason_in_log, user_of
from src.sweeping.launchers import Settings, TryLater
from src.sweeping.slurm_commands import (
    ENDED,
    Cluster,
    Queue,
    QueuedJob,
    SlurmError,
    as_arguments,
    call,
    cancel,
    cluster,
    parse_options,
    submit,
)
from src.sweeping.slurm_record import (
    LOCK_FILE,
    RECORD_FILE,
    Record,
    directory_number,
    job_name,
    read_record,
    save_record,
)
from src.system.lock import in_turn

# `exec`, because SLURM sends its early SIGTERM to this script alone (B:). By itself, TensorFlow
# would start a thread for each core of the node, not of the job.
_SCRIPT = """\
#!/bin/sh
export PYTHONUNBUFFERED=1
export TF_NUM_INTRAOP_THREADS="${{TF_NUM_INTRAOP_THREADS:-$SLURM_CPUS_ON_NODE}}"
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-$SLURM_CPUS_ON_NODE}}"
exec {command}
"""
_TERM_BEFORE_THE_LIMIT = "B:TERM@120"

# States of jobs that the cluster ended, not the training or a person.
_ENDED_BY_THE_CLUSTER = {"NODE_FAIL", "PREEMPTED", "TIMEOUT"}


def launcher(settings: Settings) -> "Slurm":
    """Return the launcher.

    Raises:
        UserError: a setting is not for SLURM.
    """
    if settings.job_minutes is not None:
        raise UserError(
            "--job_minutes: found with --launcher slurm; accepted: --slurm time=MINUTES, which "
            "the scheduler knows too"
        )
    return Slurm(parse_options(settings.options), settings.at_once)


class Slurm:
    """Submits a job for each training.

    Attributes:
        at_once: how many jobs are in the queue at the same time; by default all, because the queue
            decides itself.
        cancels_on_interrupt: the jobs live on without the sweep: a closed terminal should not end
            what has waited in the queue.
        look_every_seconds: how often the jobs' files are worth a look.
    """

    cancels_on_interrupt = False
    look_every_seconds = 0.5

    def __init__(self, options: dict[str, str | None], at_once: int | None = None) -> None:
        """Use these options of `sbatch`, and have `at_once` jobs in the queue."""
        self.at_once = at_once
        self._options = {"signal": _TERM_BEFORE_THE_LIMIT, **options}
        self._queue = Queue()
        self._cluster = Cluster()
        self._news: list[str] = []

    def command(self, job: Job) -> Sequence[str]:
        """Return the call of `sbatch`; the job's own command is the script on its input."""
        log = str(job.log_path.absolute())
        return [
            *("sbatch", "--parsable", "--requeue", "--open-mode=append"),
            f"--job-name={job_name(job.experiment)}",
            f"--output={log.replace('%', '%%')}",
            *as_arguments(self._options),
        ]

    def check(self) -> None:
        """Have SLURM check the options without submitting anything."""
        try:
            self._cluster = cluster()
            call(["sbatch", "--test-only", *as_arguments(self._options)], b"#!/bin/sh\ntrue\n")
        except SlurmError as error:
            raise UserError(
                f"--launcher slurm: {error}; accepted: a cluster that answers, and options of "
                "--slurm that `sbatch --test-only` accepts"
            ) from None

    def find(self, job: Job) -> "SlurmJob | None":
        """Return the experiment's job if it is in the queue."""
        record = self._record(job)
        if record is None:
            return None
        if self._queue.number == 0:
            self._look()
        return self._among(self._queue.jobs(), job, record)

    def start(self, job: Job) -> "SlurmJob":
        """Submit a job, unless another sweep has done so meanwhile."""
        if "\\" in str(job.log_path.absolute()):  # which sbatch reads as something else
            raise UserError(
                f"{job.log_path}: found a backslash; accepted: a path without, in SLURM"
            )

        def later(holder: str) -> None:
            raise TryLater(f"{holder} is submitting it")

        # sbatch shares the lock: if this process is killed, nobody submits before sbatch has ended.
        with in_turn(job.experiment.model_dir / LOCK_FILE, later) as lock:
            record = self._record(job)
            if record is not None and (found := self._among(self._look(), job, record)):
                return found
            return self._submit(job, lock)

    def _look(self) -> Mapping[str, QueuedJob]:
        try:
            return self._queue.look()
        except SlurmError as error:
            raise TryLater(str(error)) from None

    def _record(self, job: Job) -> Record | None:
        """Return the record of the experiment's latest job."""
        record = read_record(job.experiment)
        if record is None:
            return None
        if record.cluster != self._cluster.name:
            raise UserError(
                f"{job.experiment.model_dir / RECORD_FILE}: submitted on the cluster "
                f"{printable(record.cluster)!r}, found {self._cluster.name!r}; accepted: a sweep "
                "on that cluster; if the job is not in its queue any more, remove the file"
            )
        if record.user_id != os.getuid() and self._cluster.hides_others:
            raise UserError(
                f"{job.experiment.model_dir / RECORD_FILE}: submitted by user {record.user_id}, "
                "whose jobs this cluster does not show; accepted: a sweep of that user; if the job "
                "is not in the queue any more, remove the file"
            )
        self._queue.include_user(record.user_id)  # perhaps a colleague
        return record

    def _among(
        self, queued: Mapping[str, QueuedJob], job: Job, record: Record
    ) -> "SlurmJob | None":
        """Return the job of a record if it is in the queue."""
        for one in queued.values():
            is_own = one.name == record.name and record.job_id in (None, one.job_id)
            if is_own and one.state not in ENDED:
                if record.job_id is None:
                    record = record.model_copy(update={"job_id": one.job_id})
                    save_record(job.experiment, record)
                message = f"job {one.job_id} is in the queue already ({one.state})"
                return SlurmJob(job, record, self._queue, self._news, message)
        return None

    def _submit(self, job: Job, lock: int) -> "SlurmJob":
        """Submit a job while holding the lock."""
        log = open_log(job.log_path)
        try:
            begins = begin_log(job, log)
        finally:
            os.close(log)
        record = Record(
            job_id=None,
            name=job_name(job.experiment),
            cluster=self._cluster.name,
            user_id=os.getuid(),
            directory=directory_number(job.experiment),
            submitted=time.time(),
            step=job.experiment.latest_step(),
            log_begins=begins,
        )
        save_record(job.experiment, record)
        script = _SCRIPT.format(command=shlex.join(job.command))
        try:
            job_id = submit(self.command(job), script.encode(errors="surrogateescape"), lock)
        except SlurmError as error:
            raise TryLater(str(error)) from None
        record = record.model_copy(update={"job_id": job_id})
        save_record(job.experiment, record)
        self._queue.look_soon()
        message = f"submitted as job {job_id} ({job.log_path})"
        return SlurmJob(job, record, self._queue, self._news, message)

    def stop(self, started: Sequence[Started], number: Signals) -> None:
        """Cancel jobs. SLURM sends SIGTERM, and SIGKILL half a minute later (its `KillWait`)."""
        job_ids = [one.job_id for one in started if isinstance(one, SlurmJob)]
        try:
            cancel(job_ids, *(["--signal=KILL", "--full"] if number is SIGKILL else []))
        except SlurmError as error:
            self._news.append(f"not cancelled: {error}")
        self._queue.look_soon()

    def news(self) -> Sequence[str]:
        """Return which jobs changed their state, and whether the queue answers."""
        news = [*self._news, *self._queue.news()]
        self._news.clear()
        return news


class SlurmJob:
    """A job in the queue.

    Attributes:
        job: what it trains.
        started: when it was submitted, in seconds since the epoch.
        first_message: what to print about its start.
        job_id: its number.
    """

    def __init__(
        self, job: Job, record: Record, queue: Queue, news: list[str], first_message: str
    ) -> None:
        """Follow the job that `record` names in `queue`; changes are told to `news`."""
        assert record.job_id is not None
        self.job = job
        self.started = record.submitted
        self.first_message = first_message
        self.job_id = record.job_id
        self._record = record
        self._queue = queue
        self._news = news
        self._state = "PENDING"
        self._seen_ended: int | None = None  # the first look in which it had ended
        self._since_look = queue.number

    def has_ended(self) -> bool:
        """Return whether two looks in a row have shown it ended, or no longer in the queue."""
        found = self._queue.jobs().get(self.job_id)
        if self._queue.number <= self._since_look:  # nothing newer than its submission
            return False
        if found is not None and found.name != self._record.name:  # the number is another job's
            found = None
        if found is not None and found.state not in ENDED:
            self._seen_ended = None
            self._tell(found)
            return False
        if found is not None:
            self._state = found.state
        elif self._state not in ENDED:
            self._state = "not in the queue"
        if self._seen_ended is None:
            self._seen_ended = self._queue.number
            self._queue.look_soon()
        return self._queue.number > self._seen_ended

    def _tell(self, found: QueuedJob) -> None:
        """Tell when it begins to run, and when it waits again."""
        if found.state == self._state:
            return
        before, self._state = self._state, found.state
        if found.state == "RUNNING":
            self._news.append(f"{self.job.name}: job {self.job_id} runs on {found.where}")
        elif before != "PENDING" and found.state in ("PENDING", "REQUEUED"):
            self._news.append(f"{self.job.name}: job {self.job_id} was requeued")

    def last_message(self) -> str:
        """Return its final message if it has neither finished nor failed."""
        return f"job {self.job_id} ended unfinished ({self._state})"

    def progress(self) -> dict[str, Any] | None:
        """Return its progress; None until it runs and has written it."""
        experiment = self.job.experiment
        if self._state in ("PENDING", "CONFIGURING"):
            return None
        try:  # both times are the file server's
            record_time = (experiment.model_dir / RECORD_FILE).stat().st_mtime
            is_new = experiment.progress_path.stat().st_mtime >= record_time
        except OSError:
            return None
        return experiment.progress() if is_new else None

    def status(self) -> str:
        """Return `finished`, `to run` if the cluster ended it early, or why it failed."""
        experiment = self.job.experiment
        status = self.job.status()
        if status in (Status.FINISHED, Status.PRUNED):
            return status
        if user_of(experiment):  # such as the process of a node that was lost
            return Status.TO_RUN
        if self._state == "CANCELLED":
            return Unfinished(f"cancelled (job {self.job_id}); the same command submits it again")
        if status == Status.TO_RUN and self._is_to_be_continued():
            return Status.TO_RUN
        ended = f"job {self.job_id}: {self._state}"
        return reason_in_log(self.job, self._record.log_begins, ended)

    def _is_to_be_continued(self) -> bool:
        """Return whether its time was over, or its node lost, after it has saved a new checkpoint.

        Without that condition, a job too short for the first checkpoint would be submitted forever.
        """
        experiment = self.job.experiment
        step, before = experiment.latest_step(), self._record.step
        if step is None or (before is not None and step <= before):
            return False
        if self._state == "FAILED":  # also by SIGTERM before the job's time is over
            return (experiment.metrics() or {}).get("status") == Status.STOPPED
        return self._state in _ENDED_BY_THE_CLUSTER
