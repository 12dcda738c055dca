"""What a run cannot read is kept, in a folder `damaged` beside it."""

import os
import shutil
from pathlib import Path

from src.errors import UserError


def set_aside(path: Path) -> Path:
    """Move a damaged file or folder of an experiment to its folder `damaged`, and return that.

    Raises:
        UserError: it cannot be moved.
    """
    damaged = path.with_name("damaged")
    target = damaged / path.name
    try:
        damaged.mkdir(exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)  # nothing is renamed onto a folder with files
        elif path.is_dir():
            target.unlink(missing_ok=True)
        os.replace(path, target)
    except OSError as error:
        raise UserError(
            f"{path}: damaged, and cannot be moved to {damaged} ({error.strerror}); accepted: "
            "nothing of this name (remove it)"
        ) from None
    return damaged
