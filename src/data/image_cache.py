"""Pictures decoded and resized once, into a file from which any of them is read at once."""

import contextlib
import errno
import hashlib
import io
import json
import logging
import math
import os
import shutil
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from src.data.checked_images import CheckedImages
from src.data.decode import BadImage, decode
from src.data.digests import digest, file_digest
from src.errors import UserError
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.cache import load_arrays, save_arrays
from src.system.lock import in_turn
from src.system.progress import progress_bar
from src.system.regular_file import open_regular

VERSION = 2
"""Of what stands in a cache; another one is built anew. To be raised when `decode` changes."""

_CHUNK = 128  # pictures that wait for each other in the order of the file

# The longest that a file system keeps one time for all changes: a tick of Linux' slowest clock, and
# some more.
_TICK_NANOSECONDS = 20_000_000

# Larger files are read as a whole only once they are known to be pictures.
_MAX_BYTES_READ_FIRST = 1 << 24

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCache:
    """The pictures of a data set at one size.

    Attributes:
        images: uint8 [N, S, S, C], on disk; black where the picture is bad. Each is verified when
            it is first read, and decoded anew if its place in the file is damaged.
        digests: uint64 [N], a hash of each picture's pixels (`src.data.digests`); 0 where the
            picture is bad.
        file_digests: uint64 [N], of the files' content; 0 where the picture is bad.
        bad: why a picture could not be read, by its position.
        manifest_path: the file beside the images that names all bad pictures, if there are any.
    """

    images: CheckedImages
    digests: NDArray[np.uint64]
    file_digests: NDArray[np.uint64]
    bad: dict[int, str]
    manifest_path: Path


def cached_images(
    folder: Path,
    names: Sequence[str],
    *,
    cache_path: Path,
    size: int,
    mode: str,
    resize: str,
) -> ImageCache:
    """Open the cache of these pictures, and build it first unless it is there and still right.

    It is right as long as each file has the name, size, times (also of the change of its inode,
    which no program can set) and inode that it had when it was decoded. Building reads only files
    that have another state or name than before, and decodes those of new content. One process at a
    time builds; the others wait and use what it has made.

    Args:
        folder: where the pictures are. Links that lead out of it are not followed.
        names: N paths within it, which are not trusted.
        cache_path: the .npy file of the images. Beside it stand an .npz file, which says what they
            are and their digests, and, if any are bad, a .json file for people.
        size: S, as `mode` and `resize` are for `src.data.decode.decode`.
        mode: "RGB" or "L".
        resize: "scale" or "pad".

    Returns:
        The pictures in the order of `names`, and those that are bad.

    Raises:
        UserError: the cache cannot be written.
    """
    pictures = _Pictures(folder, names, {"size": size, "mode": mode, "resize": resize})
    facts = pictures.facts()  # of before they are read: a later change is seen the next time
    cache = _open(cache_path, pictures, facts)
    if cache is None:
        try:
            cache = _build_in_turn(cache_path, pictures, facts)
        except OSError as error:
            num_bytes = math.prod(pictures.shape)
            raise UserError(
                f"{cache_path}: cannot be written: {error.strerror}; accepted: a folder that may "
                f"be written to, with {num_bytes / 1e6:.0f} MB free; "
                '"image_cache" names another one'
            ) from error
    _name_bad(cache, names)
    return cache


class _Pictures:
    """The source of a cache.

    Attributes:
        folder: where they are.
        names: N paths within it.
        shape: of all of them, (N, S, S, C).
        key: what of the program and its settings their pixels depend on.
    """

    def __init__(self, folder: Path, names: Sequence[str], settings: dict[str, Any]) -> None:
        """Look at nothing yet; `settings` are those of `decode`."""
        self.folder = folder
        self.names = names
        size = settings["size"]
        self.shape = (len(names), size, size, len(settings["mode"]))
        self.key = json.dumps([VERSION, pillow_version, settings])
        self._settings = settings
        self._resolved_folder = folder.resolve()

    def facts(self) -> NDArray[np.uint64]:
        """Return a hash of each file's name and state, uint64 [N], without reading any.

        Whatever changes after this gives another hash. The device is left out: a network's file
        system has another number after each restart.
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
            # A file written to within one tick of the clock keeps its times.
            time.sleep(_TICK_NANOSECONDS / 1e9)
        return np.frombuffer(b"".join(hashes), np.uint64)

    def read(
        self, row: int, known: Callable[[int], NDArray[np.uint8] | None] = lambda _: None
    ) -> tuple[NDArray[np.uint8] | str, int]:
        """Read a picture.

        Args:
            row: its position.
            known: returns the picture of a file's content, given its digest; None if it has to be
                decoded.

        Returns:
            The picture, uint8 [S, S, C], or why it is bad; the digest of the file, 0 if it is bad.
        """
        path = self.folder / self.names[row]
        try:
            if not path.resolve().is_relative_to(self._resolved_folder):
                return "outside of the folder of pictures", 0
            status = path.stat()
            # Opening a pipe would wait for ever.
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
            # RuntimeError: links in a circle, before Python 3.13; ValueError: no name of a file
            return getattr(error, "strerror", None) or str(error), 0


def _digest(path: Path) -> int:
    with path.open("rb") as file:
        return file_digest(file)


class _Index(NamedTuple):
    """What the .npz file says of the images.

    Attributes:
        facts: uint64 [N], of the files that they were decoded from.
        digests: uint64 [N], of their pixels; 0 where a picture is bad.
        file_digests: uint64 [N], of the files' content; 0 where a picture is bad.
        reasons: of the bad ones, in order.
    """

    facts: NDArray[np.uint64]
    digests: NDArray[np.uint64]
    file_digests: NDArray[np.uint64]
    reasons: list[str]


def _load_index(cache_path: Path, key: str) -> _Index | None:
    """Return the index if it is whole and of pictures decoded in the way of `key`, else None."""
    arrays = load_arrays(cache_path.with_suffix(".npz"))
    try:
        if arrays is None or str(arrays["key"]) != key:
            return None
        columns = (arrays["facts"], arrays["digests"], arrays["file_digests"])
        index = _Index(*columns, json.loads(arrays["reasons"].tobytes()))
        num_bad = np.count_nonzero(index.digests == 0)
    except (ValueError, KeyError):
        return None
    are_columns = all(
        column.dtype == np.uint64 and column.shape == (index.facts.size,) for column in columns
    )
    return index if are_columns and len(index.reasons) == num_bad else None


class _Mapped(NamedTuple):
    """The .npy file.

    Attributes:
        images: uint8 [N, S, S, C], memory-mapped.
        status: which file it is.
        has_header: whether it begins as it should.
    """

    images: NDArray[np.uint8]
    status: os.stat_result
    has_header: bool


def _map(cache_path: Path, shape: tuple[int, ...]) -> _Mapped | None:
    """Map the .npy file; None if it is missing or has not the size of images of this shape."""
    header = _npy_header(shape)
    try:
        with open_regular(cache_path) as file:
            status = os.fstat(file.fileno())
            if status.st_size != len(header) + math.prod(shape):
                return None
            has_header = file.read(len(header)) == header
            images: NDArray[np.uint8] = np.memmap(file, np.uint8, "r", len(header), shape)
            return _Mapped(np.asarray(images), status, has_header)
    except (OSError, ValueError):
        return None


def _npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def _open(cache_path: Path, pictures: _Pictures, facts: NDArray[np.uint64]) -> ImageCache | None:
    """Return the cache if it is whole and of these pictures, else None."""
    index = _load_index(cache_path, pictures.key)
    if index is None or not np.array_equal(index.facts, facts):
        return None
    mapped = _map(cache_path, pictures.shape)
    return _cache(cache_path, pictures, index, mapped) if mapped and mapped.has_header else None


def _cache(cache_path: Path, pictures: _Pictures, index: _Index, mapped: _Mapped) -> ImageCache:
    restore = _Restore(pictures, cache_path, mapped.status, index.digests)
    bad = dict(zip(np.flatnonzero(index.digests == 0).tolist(), index.reasons, strict=True))
    return ImageCache(
        CheckedImages(mapped.images, index.digests, restore),
        index.digests,
        index.file_digests,
        bad,
        cache_path.with_suffix(".json"),
    )


class _Restore:
    """Makes damaged pictures of a cache anew, and mends the file if that may be written to."""

    def __init__(
        self,
        pictures: _Pictures,
        cache_path: Path,
        status: os.stat_result,
        digests: NDArray[np.uint64],
    ) -> None:
        """Remember where they come from, and which file (`status`) they go to."""
        self._pictures = pictures
        self._cache_path = cache_path
        self._status = status
        self._digests = digests
        self._has_warned = False

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the picture, uint8 [S, S, C].

        Raises:
            UserError: it is not what it was when the cache was opened.
        """
        path = printable(str(self._pictures.folder / self._pictures.names[row]))
        image, _ = self._pictures.read(row)
        if isinstance(image, str) or digest(image.data) != self._digests[row]:
            found = image if isinstance(image, str) else "another picture"
            raise UserError(
                f"{path}: {found}, and its copy in {self._cache_path} is damaged; accepted: the "
                "picture that was there when the program started, or a new start"
            )
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "warning: %s: damaged; %s, and whatever else is, is decoded again",
                printable(str(self._cache_path)),
                path,
            )
        with contextlib.suppress(OSError):  # a cache that is only read
            self._write(row, image)
        return image

    def _write(self, row: int, image: NDArray[np.uint8]) -> None:
        """Write a picture to its place, unless another process has replaced the file."""
        with open(self._cache_path, "r+b", buffering=0) as file:
            if os.path.samestat(os.fstat(file.fileno()), self._status):
                file.seek(len(_npy_header(self._pictures.shape)) + row * image.nbytes)
                file.write(image.tobytes())


def _build_in_turn(cache_path: Path, pictures: _Pictures, facts: NDArray[np.uint64]) -> ImageCache:
    """Build the cache, or wait for another process that does."""

    def say(holder: str) -> None:
        logger.warning(
            "%s: being made by another run; waiting for %s", printable(str(cache_path)), holder
        )

    cache_path.parent.mkdir(parents=True, exist_ok=True)
    with in_turn(cache_path.with_suffix(".lock"), say):
        if cache := _open(cache_path, pictures, facts):
            return cache
        index = _build(cache_path, pictures, facts)
        # Without locks another machine may have put its own file there: digests will show that.
        mapped = _map(cache_path, pictures.shape)
    if mapped is None:
        raise UserError(
            f"{cache_path}: changed while it was made; accepted: one machine at a time that makes "
            "it, if the file system has no locks"
        )
    return _cache(cache_path, pictures, index, mapped)


def _build(cache_path: Path, pictures: _Pictures, facts: NDArray[np.uint64]) -> _Index:
    """Write every picture to the cache, in order; a bad one leaves its place black."""
    if shutil.disk_usage(cache_path.parent).free < math.prod(pictures.shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    digests, file_digests = np.zeros((2, len(facts)), np.uint64)
    reasons = []
    blank = bytes(math.prod(pictures.shape[1:]))
    bar = progress_bar(f"decode {pictures.folder.name}", len(facts), "pictures")
    with bar, atomic_write(cache_path) as file, warnings.catch_warnings():
        # Pillow warns of odd files without naming them, and goes on.
        warnings.simplefilter("ignore")
        file.write(_npy_header(pictures.shape))
        for row, found in enumerate(_read_all(pictures, _Kept(cache_path, pictures, facts))):
            image, digests[row], file_digests[row] = found
            if isinstance(image, str):
                reasons.append(image)
            file.write(blank if isinstance(image, str) else image.tobytes())
            bar.update()
    arrays = {
        "key": np.array(pictures.key),
        "facts": facts,
        "digests": digests,
        "file_digests": file_digests,
        "reasons": np.frombuffer(json.dumps(reasons).encode(), np.uint8),
    }
    save_arrays(cache_path.with_suffix(".npz"), arrays)
    return _Index(facts, digests, file_digests, reasons)


class _Kept:
    """The good pictures of a cache that is to be replaced."""

    def __init__(self, cache_path: Path, pictures: _Pictures, facts: NDArray[np.uint64]) -> None:
        """Find those of the same files, and of files with the same content; there may be none."""
        self._rows = np.full(len(facts), -1)
        self._row_of: dict[int, int] = {}
        index = _load_index(cache_path, pictures.key)
        mapped = index and _map(cache_path, (len(index.facts), *pictures.shape[1:]))
        if not index or not mapped:
            return
        self._images, self._index = mapped.images, index
        _, new, old = np.intersect1d(facts, index.facts, return_indices=True)
        self._rows[new] = old
        if len(new) < len(facts):
            self._row_of = {of_file: row for row, of_file in enumerate(index.file_digests.tolist())}

    def of_file(self, row: int) -> tuple[NDArray[np.uint8], int] | None:
        """Return the picture of the file at a position, and the file's digest, without reading it.

        None if it is new or has changed since, or if its place in the cache is damaged.
        """
        kept = int(self._rows[row])
        image = self._image(kept)
        return None if image is None else (image, int(self._index.file_digests[kept]))

    def of_content(self, of_file: int) -> NDArray[np.uint8] | None:
        """Return the picture of any file with this digest; None as for `of_file`."""
        return self._image(self._row_of.get(of_file, -1))

    def _image(self, kept: int) -> NDArray[np.uint8] | None:
        if kept < 0:
            return None
        image = np.array(self._images[kept])
        return image if digest(image.data) == self._index.digests[kept] else None


def _read_all(
    pictures: _Pictures, kept: _Kept
) -> Iterator[tuple[NDArray[np.uint8] | str, int, int]]:
    """Yield each picture, uint8 [S, S, C], its digest and its file's; or why it is bad, 0 and 0."""

    def read(row: int) -> tuple[NDArray[np.uint8] | str, int, int]:
        image, of_file = kept.of_file(row) or pictures.read(row, kept.of_content)
        return image, 0 if isinstance(image, str) else digest(image.data), of_file

    rows = range(len(pictures.names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the GIL
        for start in range(0, len(rows), _CHUNK):
            yield from pool.map(read, rows[start : start + _CHUNK])


def _name_bad(cache: ImageCache, names: Sequence[str]) -> None:
    """Keep a list of the bad pictures beside the cache, for people."""
    with contextlib.suppress(OSError, UserError):  # a cache that is only read
        if not cache.bad:
            cache.manifest_path.unlink(missing_ok=True)
            return
        bad = {names[row]: reason for row, reason in cache.bad.items()}
        content = json.dumps({"bad": bad}, indent=1).encode()
        if not cache.manifest_path.is_file() or cache.manifest_path.read_bytes() != content:
            with atomic_write(cache.manifest_path) as file:
                file.write(content)
