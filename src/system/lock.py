"""Locks that let one process work at a time; the system frees the lock of a dead process."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from src.errors import UserError
from src.printable import printable
from src.system.atomic import disk_error, process_exists
from src.system.flock import is_at, try_flock
from src.system.regular_file import open_regular, require_regular

LOCK_FILE = "train.lock"

# Do not follow a link; do not wait for a pipe.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_POLL_SECONDS = 0.1
_POLLS_BEFORE_A_WORD = 10

_Text = Annotated[str, Field(max_length=255)]


class _Record(BaseModel):
    """The content of a lock file: which process holds the lock."""

    model_config = ConfigDict(strict=True)

    pid: Annotated[int, Field(ge=1, lt=2**31)]
    host: _Text
    since: _Text = "(unknown)"
    process_started: _Text | None = None


class InUse(UserError):
    """Another process has the lock.

    Attributes:
        holder: that process, as far as the lock file names it.
    """

    def __init__(self, message: str, holder: str) -> None:
        """Keep the message and the holder."""
        super().__init__(message)
        self.holder = holder


@contextmanager
def one_writer(model_dir: Path) -> Iterator[None]:
    """Make this process the only writer of checkpoints in `model_dir` during the block.

    The lock is `flock` on a file in `model_dir`. A process that dies loses it at once, and no later
    process with the same number is mistaken for it. The file names the holder and is removed at the
    end. Decision 15 has the reasons.

    Network file systems: NFS since Linux 2.6.12, CIFS, Lustre (mounted with `flock`) and CephFS
    lock across machines. NFS mounted with `nolock` or `local_lock` locks on its own machine only.

    Without `flock`, the file itself is the lock. If its process ran on this machine and is dead
    (checked by number and start time), the lock is taken over. If it ran on another machine, the
    user must remove the file.

    Args:
        model_dir: the experiment; created if missing.

    Raises:
        UserError: another process holds the lock, or nothing can be written there.
    """
    path = model_dir / LOCK_FILE
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(model_dir, error.errno, needed=0) from error
    try:
        descriptor = _acquire(path)
    except OSError as error:
        require_regular(path)
        raise disk_error(model_dir, error.errno, needed=0) from error
    with _held(path, descriptor):
        yield


@contextmanager
def in_turn(path: Path, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Run the block in one process at a time; the others wait. A signal ends the wait.

    Args:
        path: the lock file, as in `one_writer`; removed at the end.
        on_wait: called with the holder after one second of waiting, and when the holder changes.

    Raises:
        OSError: nothing can be written there.
        UserError: `path` is not a regular file.
    """
    polls, told = 0, None
    while True:
        try:
            descriptor = _acquire(path)
            break
        except InUse as error:
            polls += 1
            if polls >= _POLLS_BEFORE_A_WORD and told != error.holder:
                on_wait(error.holder)
                told = error.holder
            time.sleep(_POLL_SECONDS)
    with _held(path, descriptor):
        yield


@contextmanager
def _held(path: Path, descriptor: int) -> Iterator[None]:
    """Release the lock when the block ends."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while still locked: later it may be another process's file
        os.close(descriptor)


def has_writer(model_dir: Path) -> bool | None:
    """Return whether a process is in `one_writer` there; None if only another machine knows.

    This is a check, not a lock: a process may start to write meanwhile.
    """
    try:
        with open_regular(model_dir / LOCK_FILE) as file:
            record = _read_record(file.fileno())
    except FileNotFoundError:
        return False
    except UserError:
        return None
    if record is None or record.host != socket.gethostname():
        return None
    return _may_live(record)


def _acquire(path: Path) -> int:
    """Return the descriptor of the locked file, after writing this process's record to it."""
    while True:
        descriptor = os.open(path, _FLAGS, 0o644)
        try:
            require_regular(path, descriptor)
            _lock(path, descriptor)
            # The previous holder may have removed the file before it was locked here.
            if is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, _own_record().model_dump_json().encode() + b"\n")
                os.fsync(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    """Lock the file, or raise `InUse` with what is known of the holder."""
    is_locked = try_flock(descriptor)
    if is_locked is False:
        raise _in_use(path, _read_record(descriptor))
    if is_locked is None:
        record = _read_record(descriptor)
        if record and _may_live(record):
            raise _in_use(path, record, f"; if that process is dead, remove {path}")


def _own_record() -> _Record:
    """Return this process's record for the lock file."""
    return _Record(
        pid=os.getpid(),
        host=socket.gethostname(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        process_started=_process_started(os.getpid()),
    )


def _read_record(descriptor: int) -> _Record | None:
    """Return the record in the lock file; None if it is incomplete, perhaps still being written."""
    try:
        return _Record.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:
        return None


def _may_live(record: _Record) -> bool:
    """Return whether the process that wrote `record` may be running."""
    if record.host != socket.gethostname():
        return True
    if record.pid == os.getpid() or not process_exists(record.pid):
        return False
    started = record.process_started
    return started is None or started == _process_started(record.pid)


def _process_started(pid: int) -> str | None:
    """Return the start time of a process of this machine; None if the system does not tell it.

    Also None for a process that has ended but is still listed (a zombie).
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field, the program's name in parentheses, may itself hold spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{fields[18]} ticks after boot {boot}"


def _in_use(path: Path, record: _Record | None, remedy: str = "") -> InUse:
    who = "another process"
    if record:
        who = printable(f"process {record.pid} on {record.host} since {record.since}")
    message = f"{path.parent}: in use by {who}; accepted: one train.py at a time{remedy}"
    return InUse(message, who + remedy)
