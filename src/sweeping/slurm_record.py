"""The file in an experiment's directory that says which job of SLURM trains it.

It is written before the job is submitted, without its number, and then with it. So a sweep that is
killed in between leaves a file that tells the next one to search the queue for the job's name.
"""

import hashlib
import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from src.experiment.experiment import Experiment
from src.system.records import read_model, write_model

RECORD_FILE = "slurm_job.json"
LOCK_FILE = "slurm_job.lock"
"""Held while a job is being submitted."""

_MAX_BYTES = 2**16

_Text = Annotated[str, Field(max_length=1000)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class Record(BaseModel):
    """The file's content.

    Attributes:
        job_id: the job's number; None if it was about to be submitted.
        name: the job's name; no other job has it.
        cluster: the cluster's name.
        user_id: the user who submitted it.
        directory: the inode number of the experiment's directory; a copy of it has another one, and
            the same directory has the same one on all machines.
        submitted: when it was submitted, in seconds since the epoch.
        step: the step of the latest checkpoint then; None if there was none.
        log_begins: the position in the log at which the job's output begins.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    job_id: Annotated[str, Field(pattern="^[0-9]{1,18}$")] | None
    name: _Text
    cluster: _Text
    user_id: _Count
    directory: Annotated[int, Field(ge=0, lt=2**64)]
    submitted: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    step: _Count | None
    log_begins: _Count


def job_name(experiment: Experiment) -> str:
    """Return a name that tells the experiment to people, with a digest of its path."""
    path = experiment.model_dir.resolve()
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return f"{path.name}.{digest}".replace("|", "_")


def directory_number(experiment: Experiment) -> int:
    """Return the inode number of an experiment's directory."""
    return experiment.model_dir.stat().st_ino


def read_record(experiment: Experiment) -> Record | None:
    """Return the record of an experiment's latest job.

    Returns:
        None if there is none, or if it belongs to the experiment that this one is a copy of.

    Raises:
        UserError: the file is damaged.
    """
    accepted = "the file that sweep.py wrote, or none if no job of this experiment is in the queue"
    record = read_model(experiment.model_dir / RECORD_FILE, Record, _MAX_BYTES, accepted)
    is_own = record is not None and record.directory == directory_number(experiment)
    return record if is_own else None


def save_record(experiment: Experiment, record: Record) -> None:
    """Write the record of an experiment's job.

    Raises:
        UserError: it cannot be written.
    """
    write_model(experiment.model_dir / RECORD_FILE, record)
