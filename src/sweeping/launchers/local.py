"""Runs trainings as processes of this machine, which share its cores and GPUs."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from src.experiment.status import Status
from src.sweeping.job import Job, Started, Unfinished, begin_log, open_log, reason_in_log, user_of
from src.sweeping.launchers import Settings

_SECONDS_TO_SAVE = 120  # from SIGTERM at the limit to SIGKILL; saving takes seconds
_GPU_QUERY_SECONDS = 30


def launcher(settings: Settings) -> "Local":
    """Return the launcher."""
    return Local(settings.at_once or 1, settings.job_minutes)


class Local:
    """Starts a process for each job.

    Attributes:
        at_once: how many jobs run at the same time, by default one.
        cancels_on_interrupt: the processes end with the sweep: nobody else watches them.
        look_every_seconds: processes are cheap to look at.
    """

    cancels_on_interrupt = True
    look_every_seconds = 0.1

    def __init__(self, at_once: int = 1, job_minutes: float | None = None) -> None:
        """Divide the machine among `at_once` jobs, each stopped after `job_minutes`."""
        self.at_once: int | None = at_once
        self._job_minutes = job_minutes
        # With one job at a time the training itself decides, because it may use several.
        self._gpus = gpus() if at_once > 1 else []
        self._running: list[tuple[LocalJob, str | None]] = []

    def command(self, job: Job) -> Sequence[str]:
        """Return the job's command."""
        return job.command

    def check(self) -> None:
        """Do nothing: this machine can start processes."""

    def find(self, job: Job) -> None:
        """Return None: such a process holds the experiment's lock, which the sweep looks at."""

    def start(self, job: Job) -> "LocalJob":
        """Start a process; it gets the GPU that the fewest jobs use."""
        self._running = [(one, gpu) for one, gpu in self._running if not one.has_ended()]
        variables = threads_environment(self.at_once or 1)
        gpu = None
        if self._gpus:
            used = Counter(gpu for _, gpu in self._running)
            gpu = min(self._gpus, key=lambda name: used[name])
            variables["CUDA_VISIBLE_DEVICES"] = gpu
        started = LocalJob(job, variables, self._job_minutes)
        self._running.append((started, gpu))
        return started

    def stop(self, started: Sequence[Started], number: signal.Signals) -> None:
        """Send the signal to each process."""
        for one in started:
            if isinstance(one, LocalJob):
                one.send(number)

    def news(self) -> Sequence[str]:
        """Return nothing: everything else is seen by looking at a job."""
        return ()


class LocalJob:
    """A job's process.

    Attributes:
        job: the job.
        started: when the process started, in seconds since the epoch.
        first_message: what to print about its start.
    """

    def __init__(self, job: Job, environment: Mapping[str, str], minutes: float | None) -> None:
        """Start the process.

        Args:
            job: the job.
            environment: variables that the process gets in addition to those of this one.
            minutes: after so many it gets SIGTERM; None for never.

        Raises:
            OSError: its log cannot be written, or the system starts no more processes.
        """
        self.job = job
        self.started = time.time()
        self.first_message = f"started ({job.log_path})"
        self._minutes = minutes
        self._begun = time.monotonic()  # unlike the time of day, it makes no jumps
        self._sent: signal.Signals | None = None
        log = open_log(job.log_path)
        try:
            self._log_begins = begin_log(job, log)
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
        """Return whether it has ended; at its time limit, have it end."""
        if self._process.poll() is not None:
            return True
        if self._minutes is not None:
            over = time.monotonic() - self._begun - 60 * self._minutes
            if over > 0 and self._sent is None:
                self._sent = signal.SIGTERM
                self.send(self._sent)
            elif over > _SECONDS_TO_SAVE and self._sent is signal.SIGTERM:
                self._sent = signal.SIGKILL
                self.send(self._sent)
        return False

    def last_message(self) -> str:
        """Return its final message if it has neither finished nor failed."""
        return f"stopped after {time.time() - self.started:.0f} s"

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
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
        status = self.job.status()
        if status in (Status.FINISHED, Status.PRUNED):
            return status
        if self._sent and status == Status.TO_RUN:
            return Unfinished(
                f"stopped after --job_minutes {self._minutes:g}; the same command resumes it "
                f"({self.job.log_path})"
            )
        code = self._process.returncode
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return reason_in_log(self.job, self._log_begins, ended)


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


def gpus() -> list[str]:
    """Return the GPUs to use, as `CUDA_VISIBLE_DEVICES` names them.

    If the user has set that variable, these are its GPUs, perhaps none. Otherwise, they are those
    that NVIDIA's driver lists.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        # CUDA stops reading at the first one that is none.
        end = next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))
        return names[:end]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, timeout=_GPU_QUERY_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no driver
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip().isdecimal()]
