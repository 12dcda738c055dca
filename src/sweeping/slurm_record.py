"""The file in an experiment's directory that says which job of SLURM trains it.

It is written before the job is submitted, without its number, and then with it. So a sweep that is
killed in between leaves a file that tells the next one to search the queue for the job's name.
"""

import hashlib
import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

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
    directory: _Count
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
    path = experiment.model_dir / RECORD_FILE
    try:
        record = Record.model_validate_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(
            f"{printable(str(path))}: damaged ({printable(error.errors()[0]['msg'])}); accepted: "
            "the file that sweep.py wrote, or none if no job of this experiment is in the queue"
        ) from None
    return record if record.directory == directory_number(experiment) else None


def save_record(experiment: Experiment, record: Record) -> None:
    """Write the record of an experiment's job.

    Raises:
        UserError: it cannot be written.
    """
    with atomic_write(_path(experiment)) as file:
        file.write(record.model_dump_json(indent=2).encode() + b"\n")


def _path(experiment: Experiment) -> Path:
    return experiment.model_dir / RECORD_FILE
