"""Atomic writes: a file is written under a temporary name, synced, then renamed.

A reader sees a complete file or none. A full or read-only disk raises `UserError` with the path.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from src.errors import UserError
from src.system.flock import is_at, try_flock
from src.system.machine import machine_id

if TYPE_CHECKING:
    from typing_extensions import Buffer


# A temporary file of another machine is abandoned after so many seconds without a write.
_ABANDONED_AFTER = 24 * 60 * 60


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing; a reader sees the old file or the whole new one.

    The content is on the disk when the block ends: `kill -9` or a power loss leaves no half file.
    Temporary files that killed writers of this file left behind are removed: those of this machine
    at once, others after a day.

    Args:
        path: the file to create or replace; missing folders are created.

    Yields:
        A binary file. It is renamed to `path` when the block ends, removed if the block raises.

    Raises:
        UserError: the disk is full, or the file cannot be written there.
    """
    needed = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as temporary:
            _remove_leftovers(path, temporary)
            with _Writer(io.FileIO(temporary, "wb")) as file:
                try:
                    yield file
                finally:
                    needed = file.needed
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_directory(path.parent)
    except OSError as error:
        if error.filename is None or _is_of_writing(path, Path(error.filename)):
            raise disk_error(path, error.errno, needed=needed) from error
        raise  # the error is about another file that the block uses


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Create a file beside `path`; it is locked during the block and removed at the end.

    The lock shows other processes that the writer is alive. Without locks, only the file's age
    shows it.
    """
    while True:
        name = f".{path.name}.{machine_id()}-{secrets.token_hex(8)}.tmp"
        temporary = path.with_name(name)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        is_locked = try_flock(descriptor)
        if is_locked is None:
            os.close(descriptor)
            break
        if is_locked and is_at(temporary, descriptor):
            break
        os.close(descriptor)  # another process removed it as a leftover before it was locked
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # on a read-only disk, which raises its own error
            temporary.unlink(missing_ok=True)
        if is_locked:
            os.close(descriptor)


def _temporary_pattern(path: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(path.name)}\.(?:([^.]+)-)?[^.-]+\.tmp")


def _is_of_writing(path: Path, other: Path) -> bool:
    """Return whether an error about `other` comes from writing `path`."""
    is_temporary = other.parent == path.parent and _temporary_pattern(path).fullmatch(other.name)
    return bool(is_temporary) or other in (path, *path.parents)


def _remove_leftovers(path: Path, temporary: Path) -> None:
    """Remove temporary files of `path` whose writers are dead.

    Args:
        path: the file.
        temporary: this process's own new temporary file; its time is the file server's time.
    """
    now = temporary.stat().st_mtime
    pattern = _temporary_pattern(path)
    for entry in os.listdir(path.parent):
        match = pattern.fullmatch(entry)
        if match and entry != temporary.name:
            with contextlib.suppress(OSError):  # another user's file, or another process removes it
                is_own = match[1] == machine_id()
                _remove_leftover(path.parent / entry, now, is_of_this_machine=is_own)


def _remove_leftover(leftover: Path, now: float, *, is_of_this_machine: bool) -> None:
    """Remove a temporary file unless its writer may be alive.

    A locked file is kept. An unlocked file of this machine is removed. For other files age decides,
    because locks of other machines may be invisible here.
    """
    # Do not follow a link; do not wait for a pipe.
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(leftover, flags)
    try:
        is_old = now - os.fstat(descriptor).st_mtime > _ABANDONED_AFTER
        is_free = try_flock(descriptor)
        if is_free is not False and (is_old or (is_free and is_of_this_machine)):
            leftover.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


class _Writer(io.BufferedWriter):
    """A binary file that counts the bytes it needs, including those that do not fit on the disk.

    Attributes:
        needed: bytes written so far, or attempted.
    """

    needed = 0

    def write(self, data: "Buffer") -> int:
        """Write `data`."""
        self.needed = max(self.needed, self.tell() + memoryview(data).nbytes)
        return super().write(data)


def disk_error(path: Path, error_number: int | None, *, needed: int, what: str = "it") -> UserError:
    """Return the error for a file that cannot be written.

    Args:
        path: the file, or the directory for the files.
        error_number: the system's, as in `errno`.
        needed: the least number of bytes that `what` needs.
        what: the file itself, or what must fit beside it.
    """
    if error_number in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path}: the disk is full: {what} takes {needed:,} bytes or more, "
            f"{free_bytes(path):,} are free; accepted: a disk with more free space"
        )
    if error_number == errno.EISDIR:
        return UserError(f"{path}: found a directory; accepted: a file, or nothing")
    if error_number in (errno.EEXIST, errno.ENOTDIR):
        return UserError(f"{path}: one of its folders is a file; accepted: a folder")
    reason = os.strerror(error_number) if error_number else "cannot be written"
    return UserError(f"{path}: {reason}; accepted: a path that this user may write to")


def free_bytes(path: Path) -> int:
    """Return the bytes this user may still write at `path`, which need not exist."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _sync_directory(directory: Path) -> None:
    """Make the new name survive a power loss, if the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
