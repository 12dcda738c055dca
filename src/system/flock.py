"""Locks an open file with the system's `flock`; a process that dies loses its lock."""

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def try_flock(descriptor: int) -> bool | None:
    """Try to lock an open file without waiting. The lock lasts until its descriptor is closed.

    Args:
        descriptor: open for writing, because NFS requires it.

    Returns:
        Whether this process now has the lock; None if the file system has no locks.
    """
    return None if fcntl is None else _flock(descriptor, fcntl.LOCK_EX)


def is_flocked(descriptor: int) -> bool | None:
    """Return whether another process has the lock of a file; None if the file system has no locks.

    On a network file system this sees other machines' locks, if the mount shares locks at all. For
    an instant the lock is taken in part (shared): others who look are not disturbed, but a
    process that wants the lock in that instant must try again.

    Args:
        descriptor: open for reading.
    """
    if fcntl is None:
        return None
    is_free = _flock(descriptor, fcntl.LOCK_SH)
    if is_free:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return None if is_free is None else not is_free


def _flock(descriptor: int, kind: int) -> bool | None:
    """Return whether this process now has the lock; None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        return None
    return True


def is_at(path: Path, descriptor: int) -> bool:
    """Return whether `path` still names the open file; others may remove or replace it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
