"""The file `checkpoint`, in which TensorFlow names the latest checkpoint and all that are kept.

Its paths may lead anywhere, and TensorFlow restores, and removes, what they name. Of a run's own
file each is the plain name of a checkpoint beside it.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from src.system.atomic import atomic_write
from src.system.regular_file import read_regular

_MAX_BYTES = 2**24  # far more than there are files in a directory

_NAME = r"model\.ckpt-(0|[1-9][0-9]{0,15})"
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


def read_state(model_dir: Path) -> CheckpointState | None:
    """Return what the file says; None where there is none.

    Raises:
        UserError: it is no regular file, or cannot be read.
    """
    try:
        content = read_regular(model_dir / "checkpoint", _MAX_BYTES)
    except FileNotFoundError:
        return None
    latest = _LATEST.search(content)
    return CheckpointState(int(latest[1]) if latest else None, bool(_PLAIN.fullmatch(content)))


def write_state(model_dir: Path, steps: Iterable[int]) -> None:
    """Write the file as TensorFlow does: the latest, then all; remove it where there are none."""
    path, names = model_dir / "checkpoint", [checkpoint_name(step) for step in sorted(steps)]
    if not names:
        path.unlink(missing_ok=True)
        return
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    with atomic_write(path) as file:
        file.write("\n".join(lines).encode() + b"\n")


def checkpoint_name(step: int) -> str:
    """Return what the names of a checkpoint's files begin with."""
    return f"model.ckpt-{step}"


def checkpoint_steps(folder: Path, ending: str) -> set[int]:
    """Return the steps of the checkpoints in a folder that have a file of this ending, a regex."""
    pattern = re.compile(rf"{_NAME}\.{ending}")
    matches = (pattern.fullmatch(path.name) for path in folder.glob("model.ckpt-*"))
    return {int(match[1]) for match in matches if match}
