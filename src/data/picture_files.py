"""The pictures of a dataset, in files or in the rows of a table: their state, and their pixels."""

import errno
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from src.data.decode import PASSING_ERRORS, BadImage, decode, decode_file
from src.data.digests import digest, file_digest
from src.errors import UserError
from src.printable import printable

VERSION = 3
"""The version of the decoded pixels; a cache of another version is rebuilt.

Increase it whenever `decode` changes.
"""

OF_SYSTEM = frozenset(
    ("missing", "not a regular file", "outside the folder of pictures", "MemoryError")
    + tuple(map(os.strerror, errno.errorcode))
)
"""Reasons for a bad picture that may pass while its own state stays the same."""

# The longest period in which all changes of a file get the same time: one tick of Linux's slowest
# clock, plus a margin.
_TICK_NANOSECONDS = 20_000_000

# A larger file is read completely only after it has been decoded as a picture.
_MAX_BYTES_READ_FIRST = 1 << 24


# Returns the decoded picture of a content's digest, or None if it must be decoded.
Known = Callable[[int], NDArray[np.uint8] | None]


def _known_none(_: int) -> None:
    """Know no picture."""


class Pictures(Protocol):
    """The pictures from which a cache is built.

    Attributes:
        folder: where they are; with a name it says which picture a message is about.
        names: of the N pictures, within `folder`.
        shape: the shape of all pictures together, (N, S, S, C).
        key: the versions and settings that determine the decoded pixels, as JSON.
    """

    folder: Path
    names: Sequence[str]
    shape: tuple[int, int, int, int]
    key: str

    def facts(self) -> NDArray[np.uint64]:
        """Return a hash of each picture's name and state, uint64 [N], without decoding any."""

    def read(self, row: int, known: Known = _known_none) -> tuple[NDArray[np.uint8] | str, int]:
        """Read a picture.

        Args:
            row: the picture's position.
            known: given the digest of a picture's content, returns the decoded picture, or None if
                it must be decoded.

        Returns:
            The picture, uint8 [S, S, C], or the reason if it is bad.
            The digest of its content; 0 if the picture is bad.
        """


class PictureFiles:
    """Pictures in files; see `Pictures`."""

    def __init__(self, folder: Path, names: Sequence[str], settings: dict[str, Any]) -> None:
        """Read no file yet; `names` are paths within `folder`, `settings` those of `decode`."""
        self.folder = folder
        self.names = names
        self.shape = _shape(names, settings)
        self.key = _key(settings)
        self._settings = settings
        self._resolved_folder = folder.resolve()

    def facts(self) -> NDArray[np.uint64]:
        """Return a hash of each file's name and state, uint64 [N], without reading the files.

        Any later change of a file changes its hash. The hash omits the device number, because that
        of a network file system changes with each restart.
        """
        hashes, newest = [], 0
        for name in self.names:
            path = os.path.join(self.folder, name)
            try:
                s = os.stat(path)
                state = f"{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}"
                newest = max(newest, s.st_ctime_ns)
            except OSError as error:
                state = f"errno {error.errno}"
            except ValueError:
                state = "not a name that a file can have"
            hashes.append(_fact(name, state))
        if 0 <= time.time_ns() - newest < _TICK_NANOSECONDS:
            # Wait: a second write within the same clock tick would not change the file's times.
            time.sleep(_TICK_NANOSECONDS / 1e9)
        return np.frombuffer(b"".join(hashes), np.uint64)

    def read(self, row: int, known: Known = _known_none) -> tuple[NDArray[np.uint8] | str, int]:
        """Read a picture; see `Pictures`."""
        path = self.folder / self.names[row]
        try:
            if not path.resolve().is_relative_to(self._resolved_folder):
                return "outside the folder of pictures", 0
            status = path.stat()
            # Opening a pipe would block forever.
            if not stat.S_ISREG(status.st_mode):
                return "not a regular file", 0
            of_file = _digest(path) if status.st_size <= _MAX_BYTES_READ_FIRST else 0
            image = known(of_file)
            if image is None:
                image = decode(path, **self._settings)
            return image, of_file or _digest(path)
        except BadImage as error:
            return str(error), 0
        except FileNotFoundError:
            return "missing", 0
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
                said = f"{error.strerror}; accepted: a picture that can be read now"
                raise UserError(f"{printable(str(path))}: {said}") from None
            # RuntimeError: circular links, before Python 3.13. ValueError: an invalid file name.
            return getattr(error, "strerror", None) or str(error), 0


class RowPictures:
    """Pictures in the rows of a table, which has their encoded bytes; see `Pictures`."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        settings: dict[str, Any],
        *,
        states: Sequence[str],
        content: Callable[[int], bytes],
    ) -> None:
        """Read no row yet.

        Args:
            folder: names the table in messages.
            names: N names of the rows; each once.
            settings: the keyword arguments of `decode_file`.
            states: N texts; one changes if the picture of this row may have changed.
            content: given a position, returns the bytes of a picture file. It may be called by
                several threads. It raises BadImage if there is none.
        """
        self.folder = folder
        self.names = names
        self.shape = _shape(names, settings)
        self.key = _key(settings)
        self._settings = settings
        self._states = states
        self._content = content

    def facts(self) -> NDArray[np.uint64]:
        """Return a hash of each row's name and state, uint64 [N]."""
        pairs = zip(self.names, self._states, strict=True)
        return np.frombuffer(b"".join(_fact(*pair) for pair in pairs), np.uint64)

    def read(self, row: int, known: Known = _known_none) -> tuple[NDArray[np.uint8] | str, int]:
        """Read a picture; see `Pictures`."""
        try:
            content = self._content(row)
            of_content = digest(content)
            image = known(of_content)
            if image is None:
                image = decode_file(io.BytesIO(content), **self._settings)
            return image, of_content
        except BadImage as error:
            return str(error), 0


def _shape(names: Sequence[str], settings: dict[str, Any]) -> tuple[int, int, int, int]:
    return len(names), settings["size"], settings["size"], len(settings["mode"])


def _key(settings: dict[str, Any]) -> str:
    return json.dumps([VERSION, pillow_version, settings])


def _fact(name: str, state: str) -> bytes:
    text = f"{name}\0{state}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()


def _digest(path: Path) -> int:
    with path.open("rb") as file:
        return file_digest(file)
