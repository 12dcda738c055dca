"""One writer: an experiment's lock, which the system takes from a process that dies."""

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.atomic import disk_error, process_exists
from src.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = "train.lock"

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def one_writer(model_dir: Path) -> Iterator[None]:
    """Be the only process that writes checkpoints to `model_dir`, for the length of the block.

    The lock is `flock` on a file there, so a process that dies in whatever way loses it at once,
    and no later process of the same number can be taken for it. The file says who holds it, and is
    removed at the end.

    On network file systems: NFS since Linux 2.6.12, CIFS, Lustre (mounted with `flock`) and CephFS
    lock across machines. Where a mount locks on its own machine only (NFS with `nolock` or
    `local_lock`), so does this. Where there is no `flock` at all, the file itself is the lock: then
    it is taken over from a process of this machine that is dead, told by its number and the time of
    its start; of a process on another machine that cannot be known, and the file has to be removed
    by hand.

    Args:
        model_dir: the experiment; created where missing.

    Raises:
        UserError: another process holds the lock, or nothing can be written there.
    """
    path = model_dir / LOCK_FILE
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except OSError as error:
        raise disk_error(model_dir, error.errno, needed=0) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is still locked: else it might be another's by now
        os.close(descriptor)


def has_writer(model_dir: Path) -> bool | None:
    """Return whether a process is in `one_writer` there; None where only another machine knows.

    Only looks: a process that begins to write meanwhile is not kept from it.
    """
    try:
        descriptor = os.open(model_dir / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        record = _read_record(descriptor)
    finally:
        os.close(descriptor)
    if record is None or record.get("host") != socket.gethostname():
        return None
    return _may_live(record)


def _acquire(path: Path) -> int:
    """Return the descriptor of the locked file, which says that it is ours."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(path, descriptor)
            # The one before may have removed the file between our opening and locking it.
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, json.dumps(_own_record()).encode() + b"\n")
                os.fsync(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    """Lock the file, or raise `UserError` with what is known of who has."""
    try:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no flock")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _in_use(path, _read_record(descriptor)) from None
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        record = _read_record(descriptor)
        if record and _may_live(record):
            raise _in_use(path, record, f", or {path} removed if it is dead") from None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _own_record() -> dict[str, Any]:
    """Return what the lock's file says of this process."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "process_started": _process_started(os.getpid()),
    }


def _read_record(descriptor: int) -> dict[str, Any] | None:
    """Return what the lock's file says; None where that is not (or not yet) complete."""
    try:
        record = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _may_live(record: dict[str, Any]) -> bool:
    """Return whether the process that wrote `record` may be running."""
    pid = record.get("pid")
    if record.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    if pid == os.getpid() or not process_exists(pid):
        return False
    started = record.get("process_started")
    return started is None or started == _process_started(pid)


def _process_started(pid: int) -> str | None:
    """Return when a process of this machine was started; None where the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field is the program's name in parentheses, which may hold spaces and parentheses.
    return f"{stat.rpartition(')')[2].split()[19]} ticks after boot {boot}"


def _in_use(path: Path, record: dict[str, Any] | None, remedy: str = "") -> UserError:
    who = "another process"
    if record:
        who = "process {pid} on {host} since {since}".format(
            **{key: record.get(key, "(unknown)") for key in ("pid", "host", "since")}
        )
    return UserError(f"{path.parent}: in use by {who}; accepted: one train.py at a time{remedy}")
