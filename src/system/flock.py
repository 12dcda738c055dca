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
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
