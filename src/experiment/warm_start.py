"""The experiment that another one starts from (`init_from`), and the record of what it gave."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from src.data.class_names import listed
from src.errors import UserError
from src.experiment.checkpoint_files import digest_of, files_of, index_of, step_of
from src.experiment.experiment import Experiment
from src.params.messages import shown
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

_MAX_BYTES = 2**20
_MAX_NAMED = 12


@dataclass(frozen=True)
class WarmStart:
    """Which weights a training started from.

    Attributes:
        init_from: the other experiment's directory, as params state it.
        step: the global step of its checkpoint.
        sha256: of that checkpoint's values, in hexadecimal; see `digest_of`.
        num_layers: how many layers have its weights.
        others: the layers that kept their random weights, by name.
        flatters: which of this experiment's data the other one was trained on, a line each; see
            `src.experiment.source_data`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")

    init_from: str
    step: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    num_layers: Annotated[int, Field(ge=1)]
    others: Annotated[tuple[str, ...], Field(strict=False)]
    flatters: Annotated[tuple[str, ...], Field(strict=False)] = ()

    def describe(self) -> str:
        """Return a line for the console, which names the other layers."""
        num_all = self.num_layers + len(self.others)
        names = listed([printable(name) for name in self.others], _MAX_NAMED)
        others = f"; random: {names}" if self.others else ""
        return (
            f"weights of {printable(self.init_from)}, step {self.step}, for {self.num_layers} of "
            f"{num_all} layers{others}"
        )


def find_source(init_from: str, own: Experiment) -> Experiment:
    """Return the experiment that `init_from` names, relative to the working directory.

    Raises:
        UserError: it is this experiment, or nothing is trained there.
    """
    where = f"{own.params_path}: init_from: found {shown(init_from)}"
    accepted = "accepted: the directory of another experiment that is trained"
    try:
        source = Experiment(Path(init_from))
        if source.model_dir.resolve() == own.model_dir.resolve():
            raise UserError("this experiment itself")
        if not source.model_dir.is_dir():
            raise UserError("no directory")
        if source.evaluated_step() is None:
            raise UserError("which has no checkpoint")
    except UserError as error:
        reason = str(error).partition("; accepted: ")[0]
        raise UserError(f"{where}, {reason}; {accepted}") from None
    return source


def save_warm_start(path: Path, record: WarmStart) -> None:
    """Write the record."""
    with atomic_write(path) as file:
        file.write(json.dumps(asdict(record), indent=2).encode() + b"\n")


def read_warm_start_record(own: Experiment) -> WarmStart | None:
    """Return what `save_warm_start` wrote; None if the training did not begin so.

    Raises:
        UserError: the file is damaged.
    """
    path = own.warm_start_path
    try:
        return TypeAdapter(WarmStart).validate_json(read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return None
    except (UserError, ValueError):
        raise UserError(
            f"{path}: damaged; it is unknown whether the source of the weights has changed"
        ) from None


def source_warnings(own: Experiment) -> list[str]:
    """Return what to know of the source of a training that resumes, a line each.

    What it has seen of this experiment's data, and whether it has other weights now. The training
    itself continues with its own checkpoint, for which the latter does not matter. It matters to
    who trains again, or compares.
    """
    try:
        record = read_warm_start_record(own)
    except UserError as error:
        return [str(error)]
    return [*record.flatters, *_changes(own.warm_start_path, record)] if record else []


def _changes(path: Path, record: WarmStart) -> list[str]:
    """Return a line if the source has other weights than at `record`, which is in `path`."""
    then = f"{path}: the weights were those of {printable(record.init_from)} at step {record.step}"
    try:
        checkpoint = Experiment(Path(record.init_from)).evaluated_checkpoint
        if checkpoint is None or not index_of(checkpoint).is_file():
            return [f"{then}, where no checkpoint is left"]
        if not all(path.is_file() for path in files_of(checkpoint)):  # a pipe would block
            return [f"{then}, which cannot be read any more"]
        if digest_of(checkpoint) == record.sha256:
            return []
        return [f"{then}; its best checkpoint is now another one, of step {step_of(checkpoint)}"]
    except (UserError, OSError):
        return [f"{then}, which cannot be read any more"]
