"""Files that are complete or absent: written to a temporary name, synced, then renamed.

A disk that is full or may not be written to is bad input: a `UserError` names the path.
"""

import contextlib
import errno
import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from src.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Buffer


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing such that a reader sees the old file or the whole new one.

    What the block has written is on the disk when it ends: neither `kill -9` nor a loss of power
    leaves half a file. Temporary files of processes that were killed while they wrote this very
    file are removed.

    Args:
        path: the file to create or replace; missing folders are created.

    Yields:
        A binary file, renamed to `path` when the block ends, removed when it raises.

    Raises:
        UserError: the disk is full, or the file cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    needed = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        try:
            with _Writer(io.FileIO(temporary, "wb")) as file:
                try:
                    yield file
                finally:
                    needed = file.needed
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):  # a read-only disk, whose own error is on its way
                temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.filename is None or Path(error.filename) in (temporary, path, *path.parents):
            raise disk_error(path, error.errno, needed=needed) from error
        raise  # of another file, which the block has to do with


class _Writer(io.BufferedWriter):
    """A binary file that knows how many bytes it takes, also those that the disk has no room for.

    Attributes:
        needed: the bytes written so far, or meant to be.
    """

    needed = 0

    def write(self, data: "Buffer") -> int:
        """Write `data`."""
        self.needed = max(self.needed, self.tell() + memoryview(data).nbytes)
        return super().write(data)


def disk_error(path: Path, error_number: int | None, *, needed: int, what: str = "it") -> UserError:
    """Return what to say of a file that cannot be written.

    Args:
        path: the file, or the directory where files go.
        error_number: the system's, as in `errno`.
        needed: bytes that `what` takes at the least.
        what: the file itself, or what has to fit beside it.
    """
    if error_number in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path}: the disk is full: {what} takes {needed:,} bytes or more, "
            f"{free_bytes(path):,} are free; accepted: a disk with room"
        )
    if error_number == errno.EISDIR:
        return UserError(f"{path}: a directory; accepted: a file of this name, or nothing")
    if error_number in (errno.EEXIST, errno.ENOTDIR):
        return UserError(f"{path}: one of its folders is a file; accepted: a folder")
    reason = os.strerror(error_number) if error_number else "cannot be written"
    return UserError(f"{path}: {reason}; accepted: a place where this user may write")


def free_bytes(path: Path) -> int:
    """Return the bytes that this user may still write where `path` is, or would be."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers are dead."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.tmp")
    for entry in os.listdir(path.parent):
        match = pattern.fullmatch(entry)
        if match and not process_exists(int(match[1])):
            (path.parent / entry).unlink(missing_ok=True)


def process_exists(pid: int) -> bool:
    """Return whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # none now; no number of a process
        return False
    except PermissionError:  # another user's
        pass
    return True


def _sync_directory(directory: Path) -> None:
    """Have the new name outlive a loss of power, too, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
