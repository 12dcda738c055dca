"""Regular files alone are opened: no pipe that waits, no device without an end, no excess."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from src.errors import UserError
from src.printable import printable
from src.system.atomic import disk_error

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
"""What `stat.S_IFMT` says of a file, in words."""

_CHUNK_BYTES = 2**20


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file that is regular, itself or where a symbolic link leads.

    Args:
        path: of the file.
        max_bytes: the most that it may hold; never more is read, whatever size it claims.

    Raises:
        UserError: it is not regular, larger, or cannot be read.
        FileNotFoundError: there is nothing of this name.
    """
    with open_regular(path) as file:
        try:
            content = bytearray()
            size = os.fstat(file.fileno()).st_size
            while size <= max_bytes and (chunk := file.read(_CHUNK_BYTES)):
                content += chunk
                size = max(size, len(content))
        except OSError as error:
            raise _unreadable(path, error) from None
    if size > max_bytes:
        raise UserError(
            f"{printable(str(path))}: {size:,} bytes or more; accepted: at most {max_bytes:,}"
        )
    return bytes(content)


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, as `read_regular` does; closed when the block ends.

    Raises:
        UserError: it is not regular, or cannot be opened.
        FileNotFoundError: there is nothing of this name.
    """
    try:
        # Looked at before, for a device may do something when it is opened; and after, for another
        # file may have come in its place. Not to wait, for a pipe may.
        _check(path, os.stat(path))
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: NUL or a lone surrogate in the name
        if isinstance(error, UserError):
            raise
        raise _unreadable(path, error) from None
    with open(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor))
        yield file


@contextmanager
def open_to_append(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to be written at its end, made where missing; never where a link leads.

    Raises:
        UserError: it is not regular, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        require_regular(path)
        raise disk_error(path, error.errno, needed=0) from None
    with open(descriptor, "ab") as file:
        require_regular(path, descriptor)
        yield file


def require_regular(path: Path, descriptor: int | None = None) -> None:
    """Raise `UserError` where `path`, or what is open of it, is there and no regular file."""
    with suppress(OSError):
        _check(path, os.lstat(path) if descriptor is None else os.fstat(descriptor))


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
        raise UserError(f"{printable(str(path))}: {kind}; accepted: a regular file")


def _unreadable(path: Path, error: OSError | ValueError) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else "not a name that a file can have"
    return UserError(
        f"{printable(str(path))}: {reason or 'cannot be read'}; accepted: a regular file that this "
        "user may read"
    )
