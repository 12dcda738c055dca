"""`pruned.json` in an experiment's directory: a search has stopped its training early, and why.

The search writes it before it stops the training, and again when the training has ended. `train.py`
does not read it, and removes it with `--overwrite`. It no longer counts once the training has been
taken up again.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from src.experiment.experiment import Experiment
from src.experiment.run_files import PRUNED_FILE
from src.experiment.status import Status
from src.system.lock import has_writer
from src.system.records import read_model, write_model

_MAX_BYTES = 2**14
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]


class Pruned(BaseModel):
    """The file's content.

    Attributes:
        evaluation: after which evaluation it was stopped; the first is 1.
        metric: the metric that decided.
        value: the best value of the metric until then.
        median: the median of the finished trainings' best values at the same evaluation.
        latest_step: the global step of the latest checkpoint when the training had ended; None
            before.
    """

    model_config = ConfigDict(strict=True, frozen=True)

    evaluation: _Count
    metric: Annotated[str, Field(max_length=200)]
    value: _Number
    median: _Number
    latest_step: _Count | None = None


def read_pruned(model_dir: Path) -> Pruned | None:
    """Return the content of an experiment's file; None if there is none.

    Raises:
        UserError: the file is damaged.
    """
    accepted = "the file that sweep.py wrote, or none"
    return read_model(model_dir / PRUNED_FILE, Pruned, _MAX_BYTES, accepted)


def save_pruned(model_dir: Path, pruned: Pruned) -> None:
    """Write an experiment's file."""
    write_model(model_dir / PRUNED_FILE, pruned)


def is_pruned(experiment: Experiment) -> bool:
    """Return whether a search has stopped the training and nobody has taken it up again.

    Raises:
        UserError: a file is damaged.
    """
    pruned = read_pruned(experiment.model_dir)
    if pruned is None or has_writer(experiment.model_dir):
        return False
    status = (experiment.metrics() or {}).get("status")
    return status in (Status.STOPPED, Status.RUNNING) and pruned.latest_step in (
        None,
        experiment.latest_step(),
    )
