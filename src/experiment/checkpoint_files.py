"""The files of checkpoints: their names, and the file `checkpoint`, which lists them.

In this file TensorFlow names the latest checkpoint and all kept ones. TensorFlow restores and
removes what its paths name, and they may lead anywhere. In a run's own file, each path is the plain
name of a checkpoint beside it.
"""

import hashlib
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

# Files that TensorFlow leaves if it is killed while writing.
_LEFT_FOLDERS = (f"{_PREFIX}*_temp",)
_LEFT_FILES = (f"{_PREFIX}*.tmp*", f"{_STATE}.tmp*", "graph.pbtxt.tmp*")

FOLDERS = _LEFT_FOLDERS
FILES = (_STATE, "graph.pbtxt", f"{_PREFIX}*", *_LEFT_FILES)
"""Patterns of all names that TensorFlow gives, except those of event files."""

_MAX_BYTES = 2**24  # far more than the names of all files in a directory need

_NAME = rf"{re.escape(_PREFIX)}(0|[1-9][0-9]{{0,15}})"
_LATEST = re.compile(rf'^model_checkpoint_path: "(?:[^"\n]*/)?{_NAME}"$'.encode(), re.MULTILINE)
_PLAIN = re.compile(
    rf'model_checkpoint_path: "{_NAME}"\n'
    rf'(?:all_model_checkpoint_paths: "{_NAME}"\n'
    r"|(?:all_model_checkpoint_timestamps|last_preserved_timestamp): [0-9.e+-]+\n)*".encode()
)


class CheckpointState(NamedTuple):
    """The content of a file `checkpoint`.

    Attributes:
        latest_step: the global step in the name of the latest checkpoint; None if none is named.
        is_plain: whether the file has only plain names of checkpoints beside it.
    """

    latest_step: int | None
    is_plain: bool


def state_path(model_dir: Path) -> Path:
    """Return the path of the file `checkpoint`."""
    return model_dir / _STATE


def read_state(model_dir: Path) -> CheckpointState | None:
    """Return the content of the file; None if it does not exist.

    Raises:
        UserError: it is not a regular file, or cannot be read.
    """
    try:
        content = read_regular(state_path(model_dir), _MAX_BYTES)
    except FileNotFoundError:
        return None
    latest = _LATEST.search(content)
    return CheckpointState(int(latest[1]) if latest else None, bool(_PLAIN.fullmatch(content)))


def write_state(model_dir: Path, steps: Iterable[int]) -> None:
    """Write the file as TensorFlow does: the latest, then all. Without steps, remove it."""
    path, names = state_path(model_dir), [checkpoint_name(step) for step in sorted(steps)]
    if not names:
        path.unlink(missing_ok=True)
        return
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with atomic_write(path) as file:
        file.write("\n".join(lines).encode() + b"\n")


def state_or_aside(model_dir: Path) -> CheckpointState | None:
    """Return the file's content; if it cannot be read, move it away and return an empty state."""
    try:
        return read_state(model_dir)
    except UserError:
        set_aside(state_path(model_dir))
        return CheckpointState(latest_step=None, is_plain=False)


def checkpoint_name(step: int) -> str:
    """Return the common start of the names of a checkpoint's files."""
    return f"{_PREFIX}{step}"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of a checkpoint, without file endings."""
    return folder / checkpoint_name(step)


def step_of(checkpoint: Path) -> int:
    """Return the global step of a checkpoint, given its path without file endings."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def checkpoint_steps(folder: Path, ending: str) -> set[int]:
    """Return the steps of a folder's checkpoints that have a file with this ending (a regex)."""
    pattern = re.compile(rf"{_NAME}\.{ending}")
    matches = (pattern.fullmatch(path.name) for path in folder.glob(f"{_PREFIX}*"))
    return {int(match[1]) for match in matches if match}


def has_files(model_dir: Path) -> bool:
    """Return whether there is any checkpoint file, complete or not, or the file `checkpoint`."""
    return os.path.lexists(state_path(model_dir)) or any(model_dir.glob(f"{_PREFIX}*"))


def files_of(checkpoint: Path) -> list[Path]:
    """Return the files of a checkpoint, given its path without file endings."""
    return list(checkpoint.parent.glob(f"{checkpoint.name}.*"))


def digest_of(checkpoint: Path) -> str:
    """Return the SHA-256 of a checkpoint's values, in hexadecimal, given its path as `files_of`.

    Two runs that end with the same values have the same digest.
    """
    digest = hashlib.sha256()
    for path in sorted(files_of(checkpoint)):
        if ".data-" in path.name:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def index_of(checkpoint: Path) -> Path:
    """Return the path of the file that is written last; without it there is no checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.index")


def largest_size(folder: Path) -> int:
    """Return the size of the largest checkpoint in bytes; 0 if there is none."""
    sizes: dict[str, int] = {}
    for path in folder.glob(f"{_PREFIX}*.*"):
        with suppress(FileNotFoundError):  # rotation has removed the file meanwhile
            sizes[path.stem] = sizes.get(path.stem, 0) + path.lstat().st_size
    return max(sizes.values(), default=0)


def remove_others(checkpoint: Path) -> None:
    """Remove the files of all other checkpoints in this checkpoint's folder."""
    for path in checkpoint.parent.glob(f"{_PREFIX}*"):
        if path.stem != checkpoint.name:
            path.unlink()


def remove_leftovers(model_dir: Path) -> None:
    """Remove unfinished files that TensorFlow left."""
    for pattern in (*_LEFT_FOLDERS, *_LEFT_FILES, "export/best/temp-*"):
        for path in model_dir.glob(pattern):
            with suppress(OSError):  # leftovers do no harm
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def set_checkpoint_aside(checkpoint: Path) -> Path:
    """Move a checkpoint's files to the folder `damaged`, and return that folder."""
    for path in files_of(checkpoint):
        folder = set_aside(path)
    return folder
