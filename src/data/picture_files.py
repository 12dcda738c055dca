"""The picture files of a dataset: their state, and their pixels at one size."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from src.data.decode import BadImage, decode
from src.data.digests import file_digest

VERSION = 2
"""The version of the decoded pixels; a cache of another version is rebuilt.

Increase it whenever `decode` changes.
"""

# The longest period in which all changes of a file get the same time: one tick of Linux's slowest
# clock, plus a margin.
_TICK_NANOSECONDS = 20_000_000

# A larger file is read completely only after it has been decoded as a picture.
_MAX_BYTES_READ_FIRST = 1 << 24


class PictureFiles:
    """The picture files from which a cache is built.

    Attributes:
        folder: the folder of the pictures.
        names: N paths within `folder`.
        shape: the shape of all pictures together, (N, S, S, C).
        key: the versions and settings that determine the decoded pixels, as JSON.
    """

    def __init__(self, folder: Path, names: Sequence[str], settings: dict[str, Any]) -> None:
        """Read no file yet; `settings` are the keyword arguments of `decode`."""
        self.folder = folder
        self.names = names
        size = settings["size"]
        self.shape = (len(names), size, size, len(settings["mode"]))
        self.key = json.dumps([VERSION, pillow_version, settings])
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
            text = f"{name}\0{state}".encode("utf-8", "surrogatepass")
            hashes.append(hashlib.blake2b(text, digest_size=8).digest())
        if 0 <= time.time_ns() - newest < _TICK_NANOSECONDS:
            # Wait: a second write within the same clock tick would not change the file's times.
            time.sleep(_TICK_NANOSECONDS / 1e9)
        return np.frombuffer(b"".join(hashes), np.uint64)

    def read(
        self, row: int, known: Callable[[int], NDArray[np.uint8] | None] = lambda _: None
    ) -> tuple[NDArray[np.uint8] | str, int]:
        """Read a picture.

        Args:
            row: the picture's position.
            known: given the digest of a file's content, returns the decoded picture, or None if
                it must be decoded.

        Returns:
            The picture, uint8 [S, S, C], or the reason if it is bad.
            The digest of the file; 0 if the picture is bad.
        """
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
            # RuntimeError: circular links, before Python 3.13. ValueError: an invalid file name.
            return getattr(error, "strerror", None) or str(error), 0


def _digest(path: Path) -> int:
    with path.open("rb") as file:
        return file_digest(file)
