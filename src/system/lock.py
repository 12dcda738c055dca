"""One process at a time: locks that the system takes from a process that dies."""

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

# A link is not followed, a pipe not waited for.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_POLL_SECONDS = 0.1
_POLLS_BEFORE_A_WORD = 10

_Text = Annotated[str, Field(max_length=255)]


class _Record(BaseModel):
    """What a lock's file says of the process that holds it."""

    model_config = ConfigDict(strict=True)

    pid: Annotated[int, Field(ge=1, lt=2**31)]
    host: _Text
    since: _Text = "(unknown)"
    process_started: _Text | None = None


class InUse(UserError):
    """Another process has the lock.

    Attributes:
        holder: which one, as far as its file says.
    """

    def __init__(self, message: str, holder: str) -> None:
        """Keep the message and the holder."""
        super().__init__(message)
        self.holder = holder


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
    """Run the block in one process at a time; the others wait for it. A signal ends the wait.

    Args:
        path: the lock's file, as that of `one_writer`; removed at the end.
        on_wait: told whom this process waits for, after a second and whenever that changes.

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
    """Give up the lock when the block ends."""
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
    """Return the descriptor of the locked file, which says that it is ours."""
    while True:
        descriptor = os.open(path, _FLAGS, 0o644)
        try:
            require_regular(path, descriptor)
            _lock(path, descriptor)
            # The one before may have removed the file between our opening and locking it.
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
    """Lock the file, or raise `InUse` with what is known of who has."""
    is_locked = try_flock(descriptor)
    if is_locked is False:
        raise _in_use(path, _read_record(descriptor))
    if is_locked is None:
        record = _read_record(descriptor)
        if record and _may_live(record):
            raise _in_use(path, record, f", or {path} removed if it is dead")


def _own_record() -> _Record:
    """Return what the lock's file says of this process."""
    return _Record(
        pid=os.getpid(),
        host=socket.gethostname(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        process_started=_process_started(os.getpid()),
    )


def _read_record(descriptor: int) -> _Record | None:
    """Return what the lock's file says; None where that is not (or not yet) complete."""
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
    """Return when a process of this machine was started; None where the system does not say.

    Nor does it of one that has ended and is listed until its parent takes note.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # The second field is the program's name in parentheses, which may hold spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else f"{fields[18]} ticks after boot {boot}"


def _in_use(path: Path, record: _Record | None, remedy: str = "") -> InUse:
    who = "another process"
    if record:
        who = printable(f"process {record.pid} on {record.host} since {record.since}")
    message = f"{path.parent}: in use by {who}; accepted: one train.py at a time{remedy}"
    return InUse(message, who + remedy)
