"""Decodes and resizes all pictures once, into files that allow fast random access."""

# Long: opening, building, rebuilding and repairing share one idea of which rows are intact.

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

from src.data.cache_files import (
    Index,
    Mapped,
    Shard,
    ShardedImages,
    load_index,
    map_images,
    npy_header,
    save_index,
    shards_of,
)
from src.data.checked_images import CheckedImages
from src.data.digests import digest
from src.data.picture_files import OF_SYSTEM, PictureFiles, Pictures
from src.errors import UserError
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.lock import in_turn
from src.system.progress import progress_bar
from src.system.regular_file import read_regular

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
    cache_paths: Sequence[Path],
    size: int,
    mode: str,
    resize: str,
) -> ImageCache:
    """Open the cache of these picture files; see `cache_of`.

    Args:
        folder: the folder of the pictures. Links that lead out of it are not followed.
        names: N paths within `folder`; they are not trusted.
        cache_paths: see `cache_of`.
        size: S; like `mode` and `resize`, see `src.data.decode.decode`.
        mode: "RGB" or "L".
        resize: "scale" or "pad".
    """
    settings = {"size": size, "mode": mode, "resize": resize}
    return cache_of(PictureFiles(folder, names, settings), cache_paths)


def cache_of(pictures: Pictures, cache_paths: Sequence[Path]) -> ImageCache:
    """Open the cache of these pictures; build it first if it is missing or out of date.

    The cache is valid if each picture's name and state are unchanged: of a file, its size, times
    and inode. The times include that of the inode change (ctime), which no program can set. A
    rebuild reads only pictures with a new name or state, and decodes only new content. One process
    builds at a time; other processes wait and then use the result. Where machines do not see each
    other's locks, each builds, and the last complete file of the same content stays.

    Args:
        pictures: N pictures.
        cache_paths: the .npy files of the images, which are divided among them in order. Beside
            each, an .npz file describes all images and holds their digests, so that none of the
            folders is needed to know what the others have. If pictures are bad, a .json file
            beside the first lists them for people.

    Returns:
        The pictures in their order, and the reasons for the bad ones.

    Raises:
        UserError: the cache cannot be written.
    """
    facts = pictures.facts()  # taken before reading, so that the next run detects later changes
    shards = shards_of(cache_paths, pictures.shape)
    cache = _open(shards, pictures, facts)
    if cache is None:
        cache = _build_in_turn(shards, pictures, facts)
    _name_bad(cache, pictures.names)
    return cache


@contextlib.contextmanager
def _names_folder(path: Path, num_bytes: int) -> Iterator[None]:
    """Raise `UserError` that names the file if it cannot be written."""
    try:
        yield
    except OSError as error:
        megabytes = round(num_bytes / 1e6)
        room = f" with {megabytes} MB free" if megabytes else ""
        raise UserError(
            f"{path}: cannot be written: {error.strerror}; accepted: a writable folder{room}; to "
            'use another folder, set "image_cache"'
        ) from error


def _open(shards: list[Shard], pictures: Pictures, facts: NDArray[np.uint64]) -> ImageCache | None:
    """Return the cache if it is intact and holds these pictures, else None."""
    index = _index_of(shards, pictures, facts)
    if index is None or not np.array_equal(index.facts, facts):
        return None
    mapped = [map_images(shard.path, shard.shape) for shard in shards]
    if not all(part and part.has_header for part in mapped):
        return None
    return _cache(shards, pictures, index, [part for part in mapped if part])


def _index_of(shards: list[Shard], pictures: Pictures, facts: NDArray[np.uint64]) -> Index | None:
    """Return the index beside any shard, preferably one of these pictures as they are now."""
    found = [index for s in shards if (index := load_index(s.path, pictures.key)) is not None]
    for index in found:
        if np.array_equal(index.facts, facts):
            return _without_passed(index, pictures)
    return found[0] if found else None


def _without_passed(index: Index, pictures: Pictures) -> Index:
    """Return an index without the state of pictures that the system refused then and gives now."""
    bad = np.flatnonzero(index.digests == 0).tolist()
    passed = [
        row
        for row, reason in zip(bad, index.reasons, strict=True)
        if reason in OF_SYSTEM and not isinstance(pictures.read(row)[0], str)
    ]
    facts = index.facts.copy()
    facts[passed] = 0
    return index._replace(facts=facts)


def _cache(
    shards: list[Shard], pictures: Pictures, index: Index, mapped: list[Mapped]
) -> ImageCache:
    restore = _Restore(pictures, shards, [part.status for part in mapped], index.digests)
    bad = dict(zip(np.flatnonzero(index.digests == 0).tolist(), index.reasons, strict=True))
    images = [part.images for part in mapped]
    return ImageCache(
        CheckedImages(
            images[0] if len(images) == 1 else ShardedImages(images), index.digests, restore
        ),
        index.digests,
        index.file_digests,
        bad,
        shards[0].path.with_suffix(".json"),
    )


class _Restore:
    """Decodes damaged images of a cache again, and repairs the file if it is writable."""

    def __init__(
        self,
        pictures: Pictures,
        shards: list[Shard],
        statuses: list[os.stat_result],
        digests: NDArray[np.uint64],
    ) -> None:
        """Remember the source pictures and the files to repair, which `statuses` identify."""
        self._pictures = pictures
        self._shards = shards
        self._statuses = statuses
        self._digests = digests
        self._warned: set[int] = set()

    def __call__(self, row: int) -> NDArray[np.uint8]:
        """Return the picture at position `row`, decoded again, uint8 [S, S, C].

        Raises:
            UserError: the picture is bad or has changed since the cache was opened.
        """
        path = printable(str(self._pictures.folder / self._pictures.names[row]))
        number = next(k for k, shard in enumerate(self._shards) if row < shard.stop)
        cache_path = self._shards[number].path
        image, _ = self._pictures.read(row)
        if isinstance(image, str) or digest(image.data) != self._digests[row]:
            found = image if isinstance(image, str) else "another picture"
            raise UserError(
                f"{path}: {found}, and its copy in {cache_path} is damaged; accepted: "
                "the picture as it was when the program started; to use the new files, start the "
                "program again"
            )
        if number not in self._warned:
            self._warned.add(number)
            logger.warning(
                "warning: %s: damaged; decoding %s and any other damaged pictures again",
                printable(str(cache_path)),
                path,
            )
        with contextlib.suppress(OSError):  # the cache may be read-only
            self._write(number, row, image)
        return image

    def _write(self, number: int, row: int, image: NDArray[np.uint8]) -> None:
        """Write an image to its place, unless another process has replaced the file."""
        shard = self._shards[number]
        with open(shard.path, "r+b", buffering=0) as file:
            if os.path.samestat(os.fstat(file.fileno()), self._statuses[number]):
                file.seek(len(npy_header(shard.shape)) + (row - shard.start) * image.nbytes)
                file.write(image.tobytes())


def _build_in_turn(
    shards: list[Shard], pictures: Pictures, facts: NDArray[np.uint64]
) -> ImageCache:
    """Build the cache, or wait for another process that is building it."""
    first = shards[0].path

    def say(holder: str) -> None:
        logger.warning(
            "%s: another run is building it; waiting for %s", printable(str(first)), holder
        )

    for shard in shards:
        with _names_folder(shard.path, math.prod(shard.shape)):
            shard.path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _names_folder(first, math.prod(shards[0].shape)):
            stack.enter_context(in_turn(first.with_suffix(".lock"), say))
        if cache := _open(shards, pictures, facts):
            return cache
        return _cache(shards, pictures, *_build(shards, pictures, facts))


def _build(
    shards: list[Shard], pictures: Pictures, facts: NDArray[np.uint64]
) -> tuple[Index, list[Mapped]]:
    """Write every picture to the cache, in order; a bad picture becomes a black image.

    Shards that are intact stay as they are if their pictures are the same.

    Returns:
        The index and the files as written or found here. If the file system has no locks, another
        machine may replace them meanwhile; these stay readable.
    """
    kept = _Kept(shards, pictures, facts)
    missing = kept.missing(shards)
    mapped = kept.mapped_by_path()
    for shard in missing:
        with _names_folder(shard.path, math.prod(shard.shape)):
            if shutil.disk_usage(shard.path.parent).free < math.prod(shard.shape):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    digests, file_digests, reasons = kept.facts_of_rows()
    bar = progress_bar(
        f"decode {pictures.folder.name}", sum(shard.shape[0] for shard in missing), "pictures"
    )
    with bar, warnings.catch_warnings():
        # Pillow's warnings about odd files do not name the file; decoding continues.
        warnings.simplefilter("ignore")
        for shard in missing:
            rows = range(shard.start, shard.stop)
            found = _read_all(pictures, kept, rows)
            with (
                _names_folder(shard.path, math.prod(shard.shape)),
                atomic_write(shard.path) as file,
            ):
                file.write(npy_header(shard.shape))
                for row, (image, digests[row], file_digests[row]) in zip(rows, found, strict=True):
                    reasons.pop(row, None)
                    if isinstance(image, str):
                        reasons[row], image = image, np.zeros(shard.shape[1:], np.uint8)
                    file.write(image.tobytes())
                    bar.update()
                file.flush()
                mapped[shard.path] = map_images(Path(file.name), shard.shape)
    index = Index(facts, digests, file_digests, [reasons[row] for row in sorted(reasons)])
    for shard in shards:
        with _names_folder(shard.path, math.prod(shard.shape)):
            save_index(shard.path, pictures.key, index)
    parts = [part for part in (mapped[shard.path] for shard in shards) if part]
    assert len(parts) == len(shards)
    return index, parts


class _Kept:
    """The good pictures of an outdated cache, which a rebuild reuses."""

    def __init__(self, shards: list[Shard], pictures: Pictures, facts: NDArray[np.uint64]) -> None:
        """Find the pictures of unchanged files, and index all by content; there may be none."""
        self._rows = np.full(len(facts), -1)
        self._row_of: dict[int, int] = {}
        self._index = index = _index_of(shards, pictures, facts)
        self._is_same = index is not None and np.array_equal(index.facts, facts)
        if index is None:
            return
        shape = (len(index.facts), *pictures.shape[1:])
        self._shards = shards_of([shard.path for shard in shards], shape)
        self._mapped = [map_images(shard.path, shard.shape) for shard in self._shards]
        _, new, old = np.intersect1d(facts, index.facts, return_indices=True)
        self._rows[new] = old
        if len(new) < len(facts):
            self._row_of = {of_file: row for row, of_file in enumerate(index.file_digests.tolist())}

    def missing(self, shards: list[Shard]) -> list[Shard]:
        """Return the shards to write; name those that are lost, unless all are or there is one."""
        if not self._is_same:
            return shards
        lost = [s for s, part in zip(shards, self._mapped, strict=True) if not part]
        damaged = [
            s for s, part in zip(shards, self._mapped, strict=True) if part and not part.has_header
        ]
        if len(shards) > 1:
            for shard in (*lost, *damaged):
                what = "damaged" if shard.path.exists() else "missing"
                logger.warning(
                    "warning: %s: %s; decoding its %d pictures again",
                    printable(str(shard.path)),
                    what,
                    shard.shape[0],
                )
        return lost + damaged

    def mapped_by_path(self) -> dict[Path, Mapped | None]:
        """Return the old files by path."""
        if self._index is None:
            return {}
        return {s.path: part for s, part in zip(self._shards, self._mapped, strict=True)}

    def facts_of_rows(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64], dict[int, str]]:
        """Return digests, file digests and, by row, reasons: of the same pictures, or empty."""
        if not self._is_same or self._index is None:
            digests, file_digests = np.zeros((2, len(self._rows)), np.uint64)
            return digests, file_digests, {}
        index = self._index
        bad = np.flatnonzero(index.digests == 0).tolist()
        return (
            index.digests.copy(),
            index.file_digests.copy(),
            dict(zip(bad, index.reasons, strict=True)),
        )

    def of_file(self, row: int) -> tuple[NDArray[np.uint8], int] | None:
        """Return the cached picture of the file at a position, and the file's digest.

        The file is not read. Returns None if the file is new or has changed, or if the picture's
        place in the cache is damaged.
        """
        kept = int(self._rows[row])
        image = self._image(kept)
        if image is None or self._index is None:
            return None
        return image, int(self._index.file_digests[kept])

    def of_content(self, of_file: int) -> NDArray[np.uint8] | None:
        """Return the cached picture of any file with this digest.

        Returns None if there is none, or if its place in the cache is damaged.
        """
        return self._image(self._row_of.get(of_file, -1))

    def _image(self, kept: int) -> NDArray[np.uint8] | None:
        if kept < 0 or self._index is None:
            return None
        number = next(k for k, shard in enumerate(self._shards) if kept < shard.stop)
        mapped = self._mapped[number]
        if mapped is None:
            return None
        image = np.array(mapped.images[kept - self._shards[number].start])
        return image if digest(image.data) == self._index.digests[kept] else None


def _read_all(
    pictures: Pictures, kept: _Kept, rows: range
) -> Iterator[tuple[NDArray[np.uint8] | str, int, int]]:
    """Yield each picture, uint8 [S, S, C], its digest and its file's digest.

    For a bad picture, yield the reason, 0 and 0.
    """

    def read(row: int) -> tuple[NDArray[np.uint8] | str, int, int]:
        image, of_file = kept.of_file(row) or pictures.read(row, kept.of_content)
        return image, 0 if isinstance(image, str) else digest(image.data), of_file

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
        with contextlib.suppress(UserError, FileNotFoundError):  # larger, so another content
            if read_regular(cache.manifest_path, len(content)) == content:
                return
        with atomic_write(cache.manifest_path) as file:
            file.write(content)
