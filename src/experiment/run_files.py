"""What a run writes to its experiment's directory: the names, and how all of it is moved away.

Nothing here follows a symbolic link: what is checked, moved and removed is in the directory itself.
"""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from src.errors import UserError
from src.experiment import checkpoint_files
from src.printable import printable
from src.system.atomic import disk_error
from src.system.regular_file import KINDS

FOLDERS = (
    *("best", "damaged", "untrained", "export", "projector", "figures"),
    *("eval_train", "eval_validation", "eval_test", "eval_unseen"),
    *checkpoint_files.FOLDERS,
)
FILES = (
    *("trained_params.json", "trained_data.npz", "network.txt", "metrics.json", "progress.json"),
    *("triplets-*.npy", "events.out.tfevents.*", "tensorflow.log"),
    *checkpoint_files.FILES,
)
NAMES = (*FOLDERS, *FILES)
"""Patterns of the names; nothing else that lies in the directory is a run's."""

# As long as it is there, what earlier runs have left is being moved into it, and does not count.
_DISCARDING = ".discarding"
_REMOVED = ".removed-"


def is_being_discarded(model_dir: Path) -> bool:
    """Return whether `discard` has begun there, and has not come to its end."""
    return os.path.lexists(model_dir / _DISCARDING)


def discard(model_dir: Path, keep: Collection[str] = ()) -> list[str]:
    """Move away all that earlier runs wrote, then remove it; other files stay.

    Wherever this ends, by a kill or by a file that cannot be moved, nothing of those runs counts
    from its first step on: that makes a folder, and `is_being_discarded`. All is moved into it, the
    folder gets another name, and only then is anything removed. The next call goes on with what an
    earlier one has left.

    Args:
        model_dir: the experiment.
        keep: names that stay.

    Returns:
        What cannot be removed, a line each: it is out of the way, but takes room.

    Raises:
        UserError: something cannot be moved.
    """
    entries = [path for path in _generated(model_dir) if path.name not in keep]
    if entries or is_being_discarded(model_dir):
        discarding = model_dir / _DISCARDING
        try:
            os.mkdir(discarding)
        except FileExistsError:
            pass
        except OSError as error:
            raise disk_error(model_dir, error.errno, needed=0) from None
        if discarding.is_symlink() or not discarding.is_dir():
            raise UserError(f"{discarding}: no folder; accepted: nothing of this name (remove it)")
        with _named(discarding):
            folder = tempfile.mkdtemp(dir=discarding)
        for path in entries:
            with _named(path), suppress(FileNotFoundError):
                os.rename(path, os.path.join(folder, path.name))
        with _named(discarding):
            os.rename(discarding, model_dir / f"{_REMOVED}{secrets.token_hex(8)}")
    return remove_discarded(model_dir)


def check_own(model_dir: Path, patterns: Iterable[str] = NAMES) -> None:
    """Refuse what a run would not have made itself, where it is about to write or to move.

    Args:
        model_dir: the experiment.
        patterns: of the names that are looked at, with all that is in folders.

    Raises:
        UserError: there is a symbolic link, a pipe, a device, or a folder in place of a file.
    """
    for path in _generated(model_dir, patterns):
        is_folder = any(fnmatchcase(path.name, pattern) for pattern in FOLDERS)
        _check_kind(path, stat.S_IFDIR if is_folder else stat.S_IFREG)
        for folder, folders, files in os.walk(path) if is_folder else ():
            for names, kind in ((folders, stat.S_IFDIR), (files, stat.S_IFREG)):
                for name in names:
                    _check_kind(Path(folder, name), kind)


def _check_kind(path: Path, wanted: int) -> None:
    try:
        found = stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return  # temporary, and renamed by now
    if found != wanted:
        name = "a folder" if wanted == stat.S_IFDIR else "a regular file"
        raise UserError(
            f"{printable(str(path))}: {KINDS.get(found, 'of an unknown kind')}; accepted: {name} "
            "of the experiment's own, or nothing (remove it)"
        )


def _generated(model_dir: Path, patterns: Iterable[str] = NAMES) -> list[Path]:
    """Return what is in the directory and has a name that a run gives, in the order of names."""
    patterns = tuple(patterns)
    try:
        names = sorted(os.listdir(model_dir))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(
            f"{printable(str(model_dir))}: {error.strerror}; accepted: a directory that this user "
            "may read and write"
        ) from None
    return [
        model_dir / name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name `path` where the system refuses what the block does with it."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{printable(str(path))}: cannot be moved away ({error.strerror}); accepted: nothing "
            "of this name (remove it); until then nothing of the earlier training counts"
        ) from None


def remove_discarded(model_dir: Path) -> list[str]:
    """Remove what `discard` has moved away, in calls that were killed too.

    Returns:
        What cannot be removed, a line each.
    """
    left = []
    for path in sorted(model_dir.glob(f"{_REMOVED}*")):
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            left.append(f"{path}: cannot be removed; left by an earlier training, no longer used")
    return left
