"""The system's lock on an open file, which a process loses when it dies."""

import errno
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


def try_flock(descriptor: int) -> bool | None:
    """Lock an open file, without waiting, until its descriptor is closed.

    Args:
        descriptor: open for writing, which NFS asks for.

    Returns:
        Whether this process has the lock now; None if the file system has no locks.
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
    """Return whether `path` still names the open file, which others may remove or replace."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
