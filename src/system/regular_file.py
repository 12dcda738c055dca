"""Opens regular files only: pipes, devices and files over a size limit are refused."""

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
"""The kinds of files that `stat.S_IFMT` returns, in words."""

_CHUNK_BYTES = 2**20


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; symbolic links are followed.

    Args:
        path: the file's path.
        max_bytes: the size limit; never more is read, whatever size the file reports.

    Raises:
        UserError: the file is not regular, is larger, or cannot be read.
        FileNotFoundError: nothing has this name.
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
    """Open a regular file for reading, as `read_regular` does; it is closed when the block ends.

    Raises:
        UserError: the file is not regular, or cannot be opened.
        FileNotFoundError: nothing has this name.
    """
    try:
        # Checked before opening, because opening a device may have effects; and after, because the
        # file may have been replaced. O_NONBLOCK, because opening a pipe may wait.
        _check(path, os.stat(path))
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: NUL or lone surrogate in the name
        if isinstance(error, UserError):
            raise
        raise _unreadable(path, error) from None
    with open(descriptor, "rb") as file:
        _check(path, os.fstat(descriptor))
        yield file


@contextmanager
def open_to_append(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to append to it; create it if missing. Links are not followed.

    Raises:
        UserError: the file is not regular, or cannot be written.
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
    """Raise `UserError` if `path`, or its open descriptor, exists and is not a regular file."""
    with suppress(OSError):
        _check(path, os.lstat(path) if descriptor is None else os.fstat(descriptor))


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
        raise UserError(f"{printable(str(path))}: {kind}; accepted: a regular file")


def _unreadable(path: Path, error: OSError | ValueError) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else "not a valid file name"
    return UserError(
        f"{printable(str(path))}: {reason or 'cannot be read'}; accepted: a regular file that this "
        "user may read"
    )
