"""Which machine this is, and which of its processes live.

A process number alone names no process: two machines, or two containers of one machine, may both
have it, and one machine uses it again.
"""

import functools
import hashlib
import os
import socket
from pathlib import Path


@functools.cache
def machine_id() -> str:
    """Return a short name of the running system, equal in all containers that share its locks.

    Unlike the host's name, no other machine has it, and a restarted one has another.
    """
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = socket.gethostname()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def process_namespace() -> str | None:
    """Return the name of the container in whose numbers a process number is meant, if known."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def process_exists(pid: int) -> bool:
    """Return whether a process with this number runs in this container of this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):  # no such process; not a valid number
        return False
    except PermissionError:  # another user's process
        pass
    return True


def process_started(pid: int) -> str | None:
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
