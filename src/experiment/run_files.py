"""The names of the files that a run writes to its experiment, and how all of them are moved away.

No symbolic link is followed: everything checked, moved or removed is in the directory itself.
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

PRUNED_FILE = "pruned.json"
"""Written by a search, about a training that it stopped."""

FOLDERS = (
    *("best", "damaged", "untrained", "export", "projector", "figures"),
    *("eval_train", "eval_validation", "eval_test", "eval_unseen"),
    *checkpoint_files.FOLDERS,
)
FILES = (
    *("trained_params.json", "trained_data.npz", "network.txt", "init_from.json"),
    *("metrics.json", "progress.json", PRUNED_FILE),
    *("triplets-*.npy", "events.out.tfevents.*", "tensorflow.log"),
    *checkpoint_files.FILES,
)
NAMES = (*FOLDERS, *FILES)
"""Patterns of the names. Other files in the directory do not belong to a run."""

# While this folder exists, the files of earlier runs are being moved into it and do not count.
_DISCARDING = ".discarding"
_REMOVED = ".removed-"


def is_being_discarded(model_dir: Path) -> bool:
    """Return whether `discard` has started there and has not finished."""
    return os.path.lexists(model_dir / _DISCARDING)


def discard(model_dir: Path, keep: Collection[str] = ()) -> list[str]:
    """Move away everything earlier runs wrote, then remove it; other files stay.

    The first step creates a folder, which makes `is_being_discarded` true. From then on, nothing of
    those runs counts, even after a kill or if a file cannot be moved. All files are moved into the
    folder, the folder is renamed, and only then are files removed. The next call continues an
    interrupted one.

    Args:
        model_dir: the experiment.
        keep: names that stay.

    Returns:
        What cannot be removed, one line each. It is moved away, but uses disk space.

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
            raise UserError(
                f"{discarding}: not a folder; accepted: nothing of this name; to continue, "
                "remove it"
            )
        with _named(discarding):
            folder = tempfile.mkdtemp(dir=discarding)
        for path in entries:
            with _named(path), suppress(FileNotFoundError):
                os.rename(path, os.path.join(folder, path.name))
        with _named(discarding):
            os.rename(discarding, model_dir / f"{_REMOVED}{secrets.token_hex(8)}")
    return remove_discarded(model_dir)


def check_own(model_dir: Path, patterns: Iterable[str] = NAMES) -> None:
    """Refuse what a run cannot have made itself, in places where it will write or move files.

    Args:
        model_dir: the experiment.
        patterns: the names to check, with the contents of folders.

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
        return  # a temporary file that has been renamed
    if found != wanted:
        name = "a folder" if wanted == stat.S_IFDIR else "a regular file"
        raise UserError(
            f"{printable(str(path))}: {KINDS.get(found, 'of an unknown kind')}; accepted: {name}, "
            "or nothing; to continue, remove it"
        )


def _generated(model_dir: Path, patterns: Iterable[str] = NAMES) -> list[Path]:
    """Return the paths in the directory with a name that a run gives, sorted by name."""
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
    """Raise an error that names `path` if the system refuses what the block does."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{printable(str(path))}: cannot be moved ({error.strerror}); accepted: nothing of "
            "this name; to continue, remove it; until then, files of earlier trainings are ignored"
        ) from None


def remove_discarded(model_dir: Path) -> list[str]:
    """Remove what `discard` moved away, including by calls that were killed.

    Returns:
        What cannot be removed, one line each.
    """
    left = []
    for path in sorted(model_dir.glob(f"{_REMOVED}*")):
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            left.append(f"{path}: cannot be removed; it was part of an earlier training")
    return left
