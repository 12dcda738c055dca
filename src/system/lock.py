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
from src.system.atomic import disk_error
from src.system.flock import is_at, is_flocked, try_flock
from src.system.machine import machine_id, process_exists, process_namespace, process_started
from src.system.regular_file import open_regular, require_regular

LOCK_FILE = "train.lock"

# Do not follow a link; do not wait for a pipe.
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_POLL_SECONDS = 0.1
_POLLS_BEFORE_A_WORD = 10
# A process that only looks whether a lock is free holds it for an instant (`is_flocked`). Who is
# refused tries again, so that a look never refuses a training.
_TRIES = 5
_SECONDS_BETWEEN_TRIES = 0.04

_Text = Annotated[str, Field(max_length=255)]


class _Record(BaseModel):
    """The content of a lock file: which process holds the lock."""

    model_config = ConfigDict(strict=True)

    pid: Annotated[int, Field(ge=1, lt=2**31)]
    host: _Text
    since: _Text = "(unknown)"
    process_started: _Text | None = None
    machine: _Text | None = None
    process_namespace: _Text | None = None

    @property
    def is_of_this_machine(self) -> bool:
        """Whether it was written on this machine since its start, if perhaps in a container."""
        if self.machine is None:  # by an earlier version
            return self.host == socket.gethostname()
        return self.machine == machine_id()


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
    lock across the machines that mount them. NFS mounted with `nolock` or `local_lock` locks on its
    own machine only. A process on the NFS server itself does not see the locks of its clients.

    Without `flock`, the file itself is the lock. If its process ran on this machine, in the same
    container, and is dead (checked by number and start time), the lock is taken over. Otherwise,
    the user must remove the file.

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
        descriptor = _acquire_in_tries(path)
    except OSError as error:
        require_regular(path)
        raise disk_error(model_dir, error.errno, needed=0) from error
    with _held(path, descriptor):
        yield


@contextmanager
def in_turn(path: Path, on_wait: Callable[[str], None]) -> Iterator[int]:
    """Run the block in one process at a time; the others wait. A signal ends the wait.

    Args:
        path: the lock file, as in `one_writer`; removed at the end.
        on_wait: called with the holder after one second of waiting, and when the holder changes.

    Yields:
        The descriptor of the lock. If a program gets it (`pass_fds`), the turn lasts until that
        has ended too, also if this process is killed.

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
        yield descriptor


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

    A lock that is held here tells of a writer on any machine. A free lock tells that there is none
    on this machine; another machine's lock may be invisible here.

    This is a check, not a lock: a process may start to write meanwhile.
    """
    return _look(model_dir / LOCK_FILE)[0]


def writer(model_dir: Path) -> str | None:
    """Return a description of the process that is in `one_writer` there.

    Returns:
        None if there is none, or if only another machine knows.
    """
    is_held, record = _look(model_dir / LOCK_FILE)
    return _description(record) if is_held else None


def _look(path: Path) -> tuple[bool | None, _Record | None]:
    """Return what `has_writer` does, and the record in the lock file."""
    try:
        with open_regular(path) as file:
            is_locked = is_flocked(file.fileno())
            record = _read_record(file.fileno())
    except FileNotFoundError:
        return False, None
    except (UserError, OSError):
        return None, None
    if is_locked:
        return True, record
    if record is None or not record.is_of_this_machine:
        return None, record
    return _lives(record) if is_locked is None else False, record


def _acquire_in_tries(path: Path) -> int:
    """Return the descriptor of the locked file; raise `InUse` if it is in use for a while."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(InUse):
            return _acquire(path)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    return _acquire(path)


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
        if record and _lives(record) is not False:
            raise _in_use(path, record, f"; if that process is dead, remove {path}")


def _own_record() -> _Record:
    """Return this process's record for the lock file."""
    return _Record(
        pid=os.getpid(),
        host=socket.gethostname(),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        process_started=process_started(os.getpid()),
        machine=machine_id(),
        process_namespace=process_namespace(),
    )


def _read_record(descriptor: int) -> _Record | None:
    """Return the record in the lock file; None if it is incomplete, perhaps still being written."""
    try:
        return _Record.model_validate_json(os.pread(descriptor, 4096, 0))
    except ValidationError:
        return None


def _lives(record: _Record) -> bool | None:
    """Return whether the process that wrote `record` runs; None if this cannot be told from here.

    Another machine or container has its own process numbers.
    """
    is_of_this_container = record.process_namespace in (None, process_namespace())
    if not (record.is_of_this_machine and is_of_this_container):
        return None
    if record.pid == os.getpid() or not process_exists(record.pid):
        return False
    started = record.process_started
    return started is None or started == process_started(record.pid)


def _description(record: _Record | None) -> str:
    """Return words for the process that wrote `record`."""
    if record is None:
        return "another process"
    return printable(f"process {record.pid} on {record.host} since {record.since}")


def _in_use(path: Path, record: _Record | None, remedy: str = "") -> InUse:
    who = _description(record)
    message = f"{path.parent}: in use by {who}; accepted: one train.py at a time{remedy}"
    return InUse(message, who + remedy)
