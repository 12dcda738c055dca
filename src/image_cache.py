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
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import __version__ as pillow_version

from src.atomic import atomic_write
from src.cache import load_arrays, save_arrays
from src.checked_images import CheckedImages, picture_digests
from src.decode import BadImage, decode
from src.errors import UserError
from src.lock import in_turn
from src.printable import printable
from src.regular_file import open_regular

VERSION = 2
"""Of what stands in a cache; another one is built anew. To be raised when `decode` changes."""

_CHUNK = 128  # pictures that wait for each other in the order of the file

# The longest that a file system keeps one time for all changes: a tick of Linux' slowest clock, and
# some more.
_TICK_NANOSECONDS = 20_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCache:
    """The pictures of a data set at one size.

    Attributes:
        images: uint8 [N, S, S, C], on disk; black where the picture is bad. Each is verified when
            it is first read, and decoded anew if its place in the file is damaged.
        digests: uint64 [N], a hash of each picture's pixels (`picture_digests`); 0 where the
            picture is bad.
        bad: why a picture could not be read, by its position.
        manifest_path: the file beside the images that names all bad pictures, if there are any.
    """

    images: CheckedImages
    digests: NDArray[np.uint64]
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
    which no program can set) and inode that it had when it was decoded. Building decodes only what
    the cache does not hold. One process at a time builds; the others wait and use what it has made.

    Args:
        folder: where the pictures are. Links that lead out of it are not followed.
        names: N paths within it, which are not trusted.
        cache_path: the .npy file of the images. Beside it stand an .npz file, which says what they
            are and their digests, and, if any are bad, a .json file for people.
        size: S, as `mode` and `resize` are for `src.decode.decode`.
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

    def read(self, row: int) -> NDArray[np.uint8] | str:
        """Return a picture, uint8 [S, S, C], or why it is bad."""
        path = self.folder / self.names[row]
        try:
            if not path.resolve().is_relative_to(self._resolved_folder):
                return "outside of the folder of pictures"
            # Opening a pipe would wait for ever.
            if not stat.S_ISREG(path.stat().st_mode):
                return "not a regular file"
            return decode(path, **self._settings)
        except BadImage as error:
            return str(error)
        except FileNotFoundError:
            return "missing"
        except (OSError, RuntimeError, ValueError) as error:
            # RuntimeError: links in a circle, before Python 3.13; ValueError: no name of a file
            return getattr(error, "strerror", None) or str(error)


class _Index(NamedTuple):
    """What the .npz file says of the images.

    Attributes:
        facts: uint64 [N], of the files that they were decoded from.
        digests: uint64 [N], of their pixels; 0 where a picture is bad.
        reasons: of the bad ones, in order.
    """

    facts: NDArray[np.uint64]
    digests: NDArray[np.uint64]
    reasons: list[str]


def _load_index(cache_path: Path, key: str) -> _Index | None:
    """Return the index if it is whole and of pictures decoded in the way of `key`, else None."""
    arrays = load_arrays(cache_path.with_suffix(".npz"))
    try:
        if arrays is None or str(arrays["key"]) != key:
            return None
        index = _Index(arrays["facts"], arrays["digests"], json.loads(arrays["reasons"].tobytes()))
        num_bad = np.count_nonzero(index.digests == 0)
    except (ValueError, KeyError):
        return None
    of_one_set = index.facts.shape == index.digests.shape == (len(index.facts),)
    return index if of_one_set and len(index.reasons) == num_bad else None


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
    if mapped is None or not mapped.has_header:
        return None
    restore = _Restore(pictures, cache_path, mapped.status, index.digests)
    bad = dict(zip(np.flatnonzero(index.digests == 0).tolist(), index.reasons, strict=True))
    return ImageCache(
        CheckedImages(mapped.images, index.digests, restore),
        index.digests,
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
        image = self._pictures.read(row)
        if isinstance(image, str) or picture_digests(image[None])[0] != self._digests[row]:
            found = image if isinstance(image, str) else "another picture"
            raise UserError(
                f"{path}: {found}, and its copy in {self._cache_path} is damaged; accepted: the "
                "picture that was there when the program started, or a new start"
            )
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "warning: %s: damaged; %s, and whatever else is, is decoded again",
                self._cache_path,
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
        logger.warning("%s: being made by another run; waiting for %s", cache_path, holder)

    cache_path.parent.mkdir(parents=True, exist_ok=True)
    with in_turn(cache_path.with_suffix(".lock"), say):
        cache = _open(cache_path, pictures, facts)
        if cache is None:
            _build(cache_path, pictures, facts)
            cache = _open(cache_path, pictures, facts)
    if cache is None:
        raise UserError(
            f"{cache_path}: changed while it was made; accepted: one machine at a time that makes "
            "it, if the file system has no locks"
        )
    return cache


def _build(cache_path: Path, pictures: _Pictures, facts: NDArray[np.uint64]) -> None:
    """Write every picture to the cache, in order; a bad one leaves its place black."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    if shutil.disk_usage(cache_path.parent).free < math.prod(pictures.shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    digests = np.zeros(len(facts), np.uint64)
    reasons = []
    blank = bytes(math.prod(pictures.shape[1:]))
    bar = tqdm(
        desc=f"decode {pictures.folder.name}",
        total=len(facts),
        unit=" pictures",
        disable=None,  # where stderr is not a terminal
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
    )
    with bar, atomic_write(cache_path) as file, warnings.catch_warnings():
        # Pillow warns of odd files without naming them, and goes on.
        warnings.simplefilter("ignore")
        file.write(_npy_header(pictures.shape))
        for row, (image, digest) in enumerate(
            _read_all(pictures, _Kept(cache_path, pictures, facts))
        ):
            if isinstance(image, str):
                reasons.append(image)
            file.write(blank if isinstance(image, str) else image.tobytes())
            digests[row] = digest
            bar.update()
    arrays = {
        "key": np.array(pictures.key),
        "facts": facts,
        "digests": digests,
        "reasons": np.frombuffer(json.dumps(reasons).encode(), np.uint8),
    }
    save_arrays(cache_path.with_suffix(".npz"), arrays)


class _Kept:
    """The good pictures of a cache that is to be replaced, as far as their files are the same."""

    def __init__(self, cache_path: Path, pictures: _Pictures, facts: NDArray[np.uint64]) -> None:
        """Find them; there may be none."""
        self._rows = np.full(len(facts), -1)
        index = _load_index(cache_path, pictures.key)
        mapped = index and _map(cache_path, (len(index.facts), *pictures.shape[1:]))
        if not index or not mapped:
            return
        self._images, self._digests = mapped.images, index.digests
        _, new, old = np.intersect1d(facts, index.facts, return_indices=True)
        self._rows[new] = old

    def read(self, row: int) -> tuple[NDArray[np.uint8], int] | None:
        """Return a picture and its digest; None if there is none, or its place is damaged."""
        kept = self._rows[row]
        if kept < 0:
            return None
        image = np.array(self._images[kept])
        digest = picture_digests(image[None])[0]
        return (image, int(digest)) if digest == self._digests[kept] else None


def _read_all(pictures: _Pictures, kept: _Kept) -> Iterator[tuple[NDArray[np.uint8] | str, int]]:
    """Yield each picture, uint8 [S, S, C], and its digest, or why it is bad, and 0."""

    def read(row: int) -> tuple[NDArray[np.uint8] | str, int]:
        if (found := kept.read(row)) is not None:
            return found
        image = pictures.read(row)
        return image, 0 if isinstance(image, str) else int(picture_digests(image[None])[0])

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
