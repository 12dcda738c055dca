"""Decodes and resizes all pictures once, into one file that allows fast random access."""

import contextlib
import errno
import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.cache_files import Index, Mapped, load_index, map_images, npy_header, save_index
from src.data.checked_images import CheckedImages
from src.data.digests import digest
from src.data.picture_files import PictureFiles
from src.errors import UserError
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.lock import in_turn
from src.system.progress import progress_bar

_CHUNK = 128  # pictures decoded in parallel, then written in order

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageCache:
    """The images of a dataset's pictures at one size.

    Attributes:
        images: uint8 [N, S, S, C], on disk; a bad picture is black. Each image is verified when
            it is first read. If its place in the file is damaged, it is decoded again.
        digests: uint64 [N], a hash of each picture's pixels (`src.data.digests`); 0 if it is bad.
        file_digests: uint64 [N], a hash of each file's content; 0 if the picture is bad.
        bad: maps a bad picture's position to the reason.
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
    """Open the cache of these pictures; build it first if it is missing or out of date.

    The cache is valid if the name, size, times and inode of each file are unchanged. The times
    include that of the inode change (ctime), which no program can set. A rebuild reads only files
    with a new name or state, and decodes only new content. One process builds at a time; other
    processes wait and then use the result.

    Args:
        folder: the folder of the pictures. Links that lead out of it are not followed.
        names: N paths within `folder`; they are not trusted.
        cache_path: the .npy file of the images. Beside it, an .npz file describes the images and
            holds their digests. If pictures are bad, a .json file lists them for people.
        size: S; like `mode` and `resize`, see `src.data.decode.decode`.
        mode: "RGB" or "L".
        resize: "scale" or "pad".

    Returns:
        The pictures in the order of `names`, and the reasons for the bad ones.

    Raises:
        UserError: the cache cannot be written.
    """
    pictures = PictureFiles(folder, names, {"size": size, "mode": mode, "resize": resize})
    facts = pictures.facts()  # taken before reading, so that the next run detects later changes
    cache = _open(cache_path, pictures, facts)
    if cache is None:
        try:
            cache = _build_in_turn(cache_path, pictures, facts)
        except OSError as error:
            num_bytes = math.prod(pictures.shape)
            raise UserError(
                f"{cache_path}: cannot be written: {error.strerror}; accepted: a writable folder "
                f'with {num_bytes / 1e6:.0f} MB free; to use another folder, set "image_cache"'
            ) from error
    _name_bad(cache, names)
    return cache


def _open(cache_path: Path, pictures: PictureFiles, facts: NDArray[np.uint64]) -> ImageCache | None:
    """Return the cache if it is intact and holds these pictures, else None."""
    index = load_index(cache_path, pictures.key)
    if index is None or not np.array_equal(index.facts, facts):
        return None
    mapped = map_images(cache_path, pictures.shape)
    return _cache(cache_path, pictures, index, mapped) if mapped and mapped.has_header else None


def _cache(cache_path: Path, pictures: PictureFiles, index: Index, mapped: Mapped) -> ImageCache:
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
    """Decodes damaged images of a cache again, and repairs the file if it is writable."""

    def __init__(
        self,
        pictures: PictureFiles,
        cache_path: Path,
        status: os.stat_result,
        digests: NDArray[np.uint64],
    ) -> None:
        """Remember the source pictures and the file to repair, which `status` identifies."""
        self._pictures = pictures
        self._cache_path = cache_path
        self._status = status
        self._digests = digests
        self._has_warned = False

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the picture at position `row`, decoded again, uint8 [S, S, C].

        Raises:
            UserError: the picture is bad or has changed since the cache was opened.
        """
        path = printable(str(self._pictures.folder / self._pictures.names[row]))
        image, _ = self._pictures.read(row)
        if isinstance(image, str) or digest(image.data) != self._digests[row]:
            found = image if isinstance(image, str) else "another picture"
            raise UserError(
                f"{path}: {found}, and its copy in {self._cache_path} is damaged; accepted: "
                "the picture as it was when the program started; to use the new files, start the "
                "program again"
            )
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "warning: %s: damaged; decoding %s and any other damaged pictures again",
                printable(str(self._cache_path)),
                path,
            )
        with contextlib.suppress(OSError):  # the cache may be read-only
            self._write(row, image)
        return image

    def _write(self, row: int, image: NDArray[np.uint8]) -> None:
        """Write an image to its place, unless another process has replaced the file."""
        with open(self._cache_path, "r+b", buffering=0) as file:
            if os.path.samestat(os.fstat(file.fileno()), self._status):
                file.seek(len(npy_header(self._pictures.shape)) + row * image.nbytes)
                file.write(image.tobytes())


def _build_in_turn(
    cache_path: Path, pictures: PictureFiles, facts: NDArray[np.uint64]
) -> ImageCache:
    """Build the cache, or wait for another process that is building it."""

    def say(holder: str) -> None:
        logger.warning(
            "%s: another run is building it; waiting for %s", printable(str(cache_path)), holder
        )

    cache_path.parent.mkdir(parents=True, exist_ok=True)
    with in_turn(cache_path.with_suffix(".lock"), say):
        if cache := _open(cache_path, pictures, facts):
            return cache
        index = _build(cache_path, pictures, facts)
        # If the file system has no locks, another machine may have replaced the file. The digests
        # will show that.
        mapped = map_images(cache_path, pictures.shape)
    if mapped is None:
        raise UserError(
            f"{cache_path}: changed while it was built; accepted: one machine at a time builds it, "
            "if the file system has no locks"
        )
    return _cache(cache_path, pictures, index, mapped)


def _build(cache_path: Path, pictures: PictureFiles, facts: NDArray[np.uint64]) -> Index:
    """Write every picture to the cache, in order; a bad picture becomes a black image."""
    if shutil.disk_usage(cache_path.parent).free < math.prod(pictures.shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    digests, file_digests = np.zeros((2, len(facts)), np.uint64)
    reasons = []
    blank = bytes(math.prod(pictures.shape[1:]))
    bar = progress_bar(f"decode {pictures.folder.name}", len(facts), "pictures")
    with bar, atomic_write(cache_path) as file, warnings.catch_warnings():
        # Pillow's warnings about odd files do not name the file; decoding continues.
        warnings.simplefilter("ignore")
        file.write(npy_header(pictures.shape))
        for row, found in enumerate(_read_all(pictures, _Kept(cache_path, pictures, facts))):
            image, digests[row], file_digests[row] = found
            if isinstance(image, str):
                reasons.append(image)
            file.write(blank if isinstance(image, str) else image.tobytes())
            bar.update()
    index = Index(facts, digests, file_digests, reasons)
    save_index(cache_path, pictures.key, index)
    return index


class _Kept:
    """The good pictures of an outdated cache, which a rebuild reuses."""

    def __init__(self, cache_path: Path, pictures: PictureFiles, facts: NDArray[np.uint64]) -> None:
        """Find the pictures of unchanged files, and index all by content; there may be none."""
        self._rows = np.full(len(facts), -1)
        self._row_of: dict[int, int] = {}
        index = load_index(cache_path, pictures.key)
        mapped = index and map_images(cache_path, (len(index.facts), *pictures.shape[1:]))
        if not index or not mapped:
            return
        self._images, self._index = mapped.images, index
        _, new, old = np.intersect1d(facts, index.facts, return_indices=True)
        self._rows[new] = old
        if len(new) < len(facts):
            self._row_of = {of_file: row for row, of_file in enumerate(index.file_digests.tolist())}

    def of_file(self, row: int) -> tuple[NDArray[np.uint8], int] | None:
        """Return the cached picture of the file at a position, and the file's digest.

        The file is not read. Returns None if the file is new or has changed, or if the picture's
        place in the cache is damaged.
        """
        kept = int(self._rows[row])
        image = self._image(kept)
        return None if image is None else (image, int(self._index.file_digests[kept]))

    def of_content(self, of_file: int) -> NDArray[np.uint8] | None:
        """Return the cached picture of any file with this digest.

        Returns None if there is none, or if its place in the cache is damaged.
        """
        return self._image(self._row_of.get(of_file, -1))

    def _image(self, kept: int) -> NDArray[np.uint8] | None:
        if kept < 0:
            return None
        image = np.array(self._images[kept])
        return image if digest(image.data) == self._index.digests[kept] else None


def _read_all(
    pictures: PictureFiles, kept: _Kept
) -> Iterator[tuple[NDArray[np.uint8] | str, int, int]]:
    """Yield each picture, uint8 [S, S, C], its digest and its file's digest.

    For a bad picture, yield the reason, 0 and 0.
    """

    def read(row: int) -> tuple[NDArray[np.uint8] | str, int, int]:
        image, of_file = kept.of_file(row) or pictures.read(row, kept.of_content)
        return image, 0 if isinstance(image, str) else digest(image.data), of_file

    rows = range(len(pictures.names))
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the GIL
        for start in range(0, len(rows), _CHUNK):
            yield from pool.map(read, rows[start : start + _CHUNK])


def _name_bad(cache: ImageCache, names: Sequence[str]) -> None:
    """Write the list of bad pictures beside the cache, for people; remove it if none is bad."""
    with contextlib.suppress(OSError, UserError):  # the cache may be read-only
        if not cache.bad:
            cache.manifest_path.unlink(missing_ok=True)
            return
        bad = {names[row]: reason for row, reason in cache.bad.items()}
        content = json.dumps({"bad": bad}, indent=1).encode()
        if not cache.manifest_path.is_file() or cache.manifest_path.read_bytes() != content:
            with atomic_write(cache.manifest_path) as file:
                file.write(content)
