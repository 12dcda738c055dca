"""Files that are complete or absent: written to a temporary name, synced, then renamed.

A disk that is full or may not be written to is bad input: a `UserError` names the path.
"""

import contextlib
import errno
import functools
import hashlib
import io
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from src.errors import UserError
from src.system.flock import is_at, try_flock

if TYPE_CHECKING:
    from typing_extensions import Buffer


# Seconds without a write after which a temporary file of another machine is nobody's any more.
_ABANDONED_AFTER = 24 * 60 * 60


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for writing such that a reader sees the old file or the whole new one.

    What the block has written is on the disk when it ends: neither `kill -9` nor a loss of power
    leaves half a file. Temporary files of processes that were killed while they wrote this very
    file are removed: at once if this machine wrote them, otherwise after a day.

    Args:
        path: the file to create or replace; missing folders are created.

    Yields:
        A binary file, renamed to `path` when the block ends, removed when it raises.

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
        raise  # of another file, which the block has to do with


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Create a file beside `path` that is locked while the block runs, and removed at its end.

    The lock shows other processes that its writer lives. Without locks only its age does.
    """
    while True:
        name = f".{path.name}.{_machine()}-{secrets.token_hex(8)}.tmp"
        temporary = path.with_name(name)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        is_locked = try_flock(descriptor)
        if is_locked is None:
            os.close(descriptor)
            break
        if is_locked and is_at(temporary, descriptor):
            break
        os.close(descriptor)  # taken for a leftover before it was locked
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):  # a read-only disk, whose own error is on its way
            temporary.unlink(missing_ok=True)
        if is_locked:
            os.close(descriptor)


def _temporary_pattern(path: Path) -> re.Pattern[str]:
    return re.compile(rf"\.{re.escape(path.name)}\.(?:([^.]+)-)?[^.-]+\.tmp")


def _is_of_writing(path: Path, other: Path) -> bool:
    """Return whether an error of `other` is one of writing `path`."""
    is_temporary = other.parent == path.parent and _temporary_pattern(path).fullmatch(other.name)
    return bool(is_temporary) or other in (path, *path.parents)


@functools.cache
def _machine() -> str:
    """Return a short name of the running system: one for all containers that share its locks."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _remove_leftovers(path: Path, temporary: Path) -> None:
    """Remove temporary files of `path` whose writers are dead.

    Args:
        path: the file.
        temporary: this process' own one, just created: it tells the time of the file's server.
    """
    now = temporary.stat().st_mtime
    pattern = _temporary_pattern(path)
    for entry in os.listdir(path.parent):
        match = pattern.fullmatch(entry)
        if match and entry != temporary.name:
            with contextlib.suppress(OSError):  # another user's, or another process removes it
                _remove_leftover(path.parent / entry, now, match[1] == _machine())


def _remove_leftover(leftover: Path, now: float, is_of_this_machine: bool) -> None:
    """Remove a temporary file, unless its writer may live.

    A lock of this machine is decisive. That a file is not locked says nothing of other machines:
    their locks may not be seen here.
    """
    # A link is not followed, a pipe not waited for.
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
