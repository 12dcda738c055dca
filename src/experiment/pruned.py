"""`pruned.json` in an experiment's directory: a search has stopped its training early, and why.

The search writes it before it stops the training, and again when the training has ended. `train.py`
does not know the file. It no longer counts once the training has been taken up again.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.lock import has_writer
from src.system.regular_file import read_regular

PRUNED_FILE = "pruned.json"

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
    path = model_dir / PRUNED_FILE
    try:
        return Pruned.model_validate_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(
            f"{printable(str(path))}: damaged ({printable(error.errors()[0]['msg'])}); accepted: "
            "the file that sweep.py wrote, or none"
        ) from None


def save_pruned(model_dir: Path, pruned: Pruned) -> None:
    """Write an experiment's file."""
    with atomic_write(model_dir / PRUNED_FILE) as file:
        file.write(pruned.model_dump_json(indent=2).encode() + b"\n")


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
