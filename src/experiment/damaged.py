"""Moves files that a run cannot read to a folder `damaged` beside them."""

import os
import shutil
from pathlib import Path

from src.errors import UserError


def set_aside(path: Path) -> Path:
    """Move a damaged file or folder to the folder `damaged` beside it, and return that folder.

    Raises:
        UserError: it cannot be moved.
    """
    damaged = path.with_name("damaged")
    target = damaged / path.name
    try:
        damaged.mkdir(exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)  # a folder with files cannot be replaced by a rename
        elif path.is_dir():
            target.unlink(missing_ok=True)
        os.replace(path, target)
    except OSError as error:
        raise UserError(
            f"{path}: damaged, and cannot be moved to {damaged} ({error.strerror}); accepted: "
            "an intact file, or nothing; to continue, remove it"
        ) from None
    return damaged
