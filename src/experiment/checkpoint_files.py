"""The files of checkpoints: their names, and the file `checkpoint`, which lists them.

TensorFlow names there the latest checkpoint and all that are kept. Its paths may lead anywhere, and
TensorFlow restores, and removes, what they name. In the file of a run each is the plain name of a
checkpoint beside it.
"""

import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from src.errors import UserError
from src.experiment.damaged import set_aside
from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

_PREFIX = "model.ckpt-"
_STATE = "checkpoint"

# What TensorFlow leaves if it is killed while it writes.
_LEFT_FOLDERS = (f"{_PREFIX}*_temp",)
_LEFT_FILES = (f"{_PREFIX}*.tmp*", f"{_STATE}.tmp*", "graph.pbtxt.tmp*")

FOLDERS = _LEFT_FOLDERS
FILES = (_STATE, "graph.pbtxt", f"{_PREFIX}*", *_LEFT_FILES)
"""Patterns of all names that TensorFlow gives beside those of event files."""

_MAX_BYTES = 2**24  # far more than there are files in a directory

_NAME = rf"{re.escape(_PREFIX)}(0|[1-9][0-9]{{0,15}})"
_LATEST = re.compile(rf'^model_checkpoint_path: "(?:[^"\n]*/)?{_NAME}"$'.encode(), re.MULTILINE)
_PLAIN = re.compile(
    rf'model_checkpoint_path: "{_NAME}"\n'
    rf'(?:all_model_checkpoint_paths: "{_NAME}"\n'
    r"|(?:all_model_checkpoint_timestamps|last_preserved_timestamp): [0-9.e+-]+\n)*".encode()
)


class CheckpointState(NamedTuple):
    """What a file `checkpoint` says.

    Attributes:
        latest_step: the global step of the checkpoint that it names as the latest, by the name
            alone; None where it names none.
        is_plain: whether it has names of checkpoints beside it, and nothing else.
    """

    latest_step: int | None
    is_plain: bool


def state_path(model_dir: Path) -> Path:
    """Return the path of the file `checkpoint`."""
    return model_dir / _STATE


def read_state(model_dir: Path) -> CheckpointState | None:
    """Return what the file says; None where there is none.

    Raises:
        UserError: it is no regular file, or cannot be read.
    """
    try:
        content = read_regular(state_path(model_dir), _MAX_BYTES)
    except FileNotFoundError:
        return None
    latest = _LATEST.search(content)
    return CheckpointState(int(latest[1]) if latest else None, bool(_PLAIN.fullmatch(content)))


def write_state(model_dir: Path, steps: Iterable[int]) -> None:
    """Write the file as TensorFlow does: the latest, then all; remove it where there are none."""
    path, names = state_path(model_dir), [checkpoint_name(step) for step in sorted(steps)]
    if not names:
        path.unlink(missing_ok=True)
        return
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with atomic_write(path) as file:
        file.write("\n".join(lines).encode() + b"\n")


def state_or_aside(model_dir: Path) -> CheckpointState | None:
    """Return what the file says; if it cannot be read, move it away: it says nothing."""
    try:
        return read_state(model_dir)
    except UserError:
        set_aside(state_path(model_dir))
        return CheckpointState(latest_step=None, is_plain=False)


def checkpoint_name(step: int) -> str:
    """Return what the names of a checkpoint's files begin with."""
    return f"{_PREFIX}{step}"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of a checkpoint, without the endings of its files."""
    return folder / checkpoint_name(step)


def step_of(checkpoint: Path) -> int:
    """Return the global step of a checkpoint, given its path without the endings of its files."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def checkpoint_steps(folder: Path, ending: str) -> set[int]:
    """Return the steps of the checkpoints in a folder that have a file of this ending, a regex."""
    pattern = re.compile(rf"{_NAME}\.{ending}")
    matches = (pattern.fullmatch(path.name) for path in folder.glob(f"{_PREFIX}*"))
    return {int(match[1]) for match in matches if match}


def has_files(model_dir: Path) -> bool:
    """Return whether there is a file of a checkpoint, whole or not, or the file `checkpoint`."""
    return os.path.lexists(state_path(model_dir)) or any(model_dir.glob(f"{_PREFIX}*"))


def files_of(checkpoint: Path) -> list[Path]:
    """Return the files of a checkpoint, given its path without their endings."""
    return list(checkpoint.parent.glob(f"{checkpoint.name}.*"))


def index_of(checkpoint: Path) -> Path:
    """Return the file that is written last: without it, there is no checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.index")


def largest_size(folder: Path) -> int:
    """Return how many bytes the largest checkpoint takes; 0 if there is none."""
    sizes: dict[str, int] = {}
    for path in folder.glob(f"{_PREFIX}*.*"):
        with suppress(FileNotFoundError):  # rotation has removed it meanwhile
            sizes[path.stem] = sizes.get(path.stem, 0) + path.lstat().st_size
    return max(sizes.values(), default=0)


def remove_others(checkpoint: Path) -> None:
    """Remove the files of all other checkpoints in the folder of this one."""
    for path in checkpoint.parent.glob(f"{_PREFIX}*"):
        if path.stem != checkpoint.name:
            path.unlink()


def remove_leftovers(model_dir: Path) -> None:
    """Remove what TensorFlow left of files that it did not come to complete."""
    for pattern in (*_LEFT_FOLDERS, *_LEFT_FILES):
        for path in model_dir.glob(pattern):
            with suppress(OSError):  # they do no harm
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def set_checkpoint_aside(checkpoint: Path) -> Path:
    """Move the files of a checkpoint to a folder of their own, and return that."""
    for path in files_of(checkpoint):
        folder = set_aside(path)
    return folder
