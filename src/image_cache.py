"""Pictures decoded and resized once, into a file from which any of them is read at once."""

import errno
import hashlib
import json
import os
import shutil
import stat
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.atomic import atomic_write
from src.decode import BadImage, decode
from src.errors import UserError

VERSION = 1
"""Of what stands in a cache; another one is built anew. To be raised when `decode` changes."""

_CHUNK = 128  # pictures that wait for each other in the order of the file


@dataclass(frozen=True)
class ImageCache:
    """The pictures of a data set at one size.

    Attributes:
        images: uint8 [N, S, S, C], memory-mapped; black where the picture is bad.
        bad: why a picture could not be read, by its position.
        manifest_path: the file beside the images that says so too.
    """

    images: NDArray[np.uint8]
    bad: dict[int, str]
    manifest_path: Path

    @property
    def digests(self):
        from src.digests import digests_of

        return digests_of(self.images)

    file_digests = digests


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

    It is right as long as the names, sizes and times of all files are those that it was built from,
    and its own file is as it was written.

    Args:
        folder: where the pictures are. Links that lead out of it are not followed.
        names: N paths within it, which are not trusted.
        cache_path: the .npy file; beside it stands a .json file, the manifest.
        size: S, as `mode` and `resize` are for `src.decode.decode`.
        mode: "RGB" or "L".
        resize: "scale" or "pad".

    Returns:
        The pictures in the order of `names`, and those that are bad.

    Raises:
        UserError: the cache cannot be written.
    """
    settings = {"size": size, "mode": mode, "resize": resize}
    shape = (len(names), size, size, len(mode))
    fingerprint = _fingerprint(folder, names, settings)
    if cache := _open(cache_path, shape, fingerprint):
        return cache
    try:
        _build(folder, names, cache_path, shape, fingerprint, settings)
    except OSError as error:
        raise UserError(
            f"{cache_path}: cannot be written: {error.strerror}; accepted: a folder that may be "
            f'written to, with {np.prod(shape) / 1e6:.0f} MB free; "image_cache" names another one'
        ) from error
    cache = _open(cache_path, shape, fingerprint)
    if cache is None:
        raise UserError(f"{cache_path}: changed while it was built; another run may have done that")
    return cache


def _manifest_path(cache_path: Path) -> Path:
    return cache_path.with_suffix(".json")


def _fingerprint(folder: Path, names: Sequence[str], settings: dict[str, Any]) -> str:
    """Return a hash of all that the cache's content depends on, without reading a picture."""
    digest = hashlib.sha256(json.dumps([VERSION, settings]).encode())
    for name in names:
        try:
            status = os.stat(folder / name)
            facts = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:
            facts = f"errno {error.errno}"
        digest.update(b"%s\0%s\0" % (os.fsencode(name), facts.encode()))
    return digest.hexdigest()


def _open(cache_path: Path, shape: tuple[int, ...], fingerprint: str) -> ImageCache | None:
    """Return the cache if it is whole and of these pictures, else None."""
    manifest_path = _manifest_path(cache_path)
    try:
        manifest = json.loads(manifest_path.read_bytes())
        if manifest["fingerprint"] != fingerprint or manifest["cache"] != _identity(cache_path):
            return None
        images = np.load(cache_path, mmap_mode="r", allow_pickle=False)
        bad = {int(position): str(reason) for position, reason in manifest["bad"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ImageCache(images, bad, manifest_path) if images.shape == shape else None


def _identity(cache_path: Path) -> list[int]:
    """Return the file's size and time: what a file cut off or written to since does not keep."""
    status = cache_path.stat()
    return [status.st_size, status.st_mtime_ns]


def _build(
    folder: Path,
    names: Sequence[str],
    cache_path: Path,
    shape: tuple[int, ...],
    fingerprint: str,
    settings: dict[str, Any],
) -> None:
    """Decode every picture into the cache, in order; a bad one leaves its place black."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    cache_path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(cache_path.parent).free < np.prod(shape):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    bad = []
    blank = bytes(int(np.prod(shape[1:])))
    bar = tqdm(
        desc=f"decode {folder.name}",
        total=len(names),
        unit=" pictures",
        disable=None,  # where stderr is not a terminal
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
    )
    with bar, atomic_write(cache_path) as file, warnings.catch_warnings():
        # Pillow warns of odd files without naming them, and goes on.
        warnings.simplefilter("ignore")
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for position, result in enumerate(_decode_all(folder, names, settings)):
            if isinstance(result, str):
                bad.append([position, result])
            file.write(blank if isinstance(result, str) else result.tobytes())
            bar.update()
    manifest = {"fingerprint": fingerprint, "cache": _identity(cache_path), "bad": bad}
    with atomic_write(_manifest_path(cache_path)) as file:
        file.write(json.dumps(manifest, indent=1).encode())


def _decode_all(
    folder: Path, names: Sequence[str], settings: dict[str, Any]
) -> Iterator[NDArray[np.uint8] | str]:
    """Yield each picture, uint8 [S, S, C], or why it is bad; Pillow decodes without the GIL."""
    read = partial(_read, folder, folder.resolve(), settings)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _CHUNK):
            yield from pool.map(read, names[start : start + _CHUNK])


def _read(
    folder: Path, resolved_folder: Path, settings: dict[str, Any], name: str
) -> NDArray[np.uint8] | str:
    """Return a picture, or why it is bad."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(resolved_folder):
            return "outside of the folder of pictures"
        # Opening a pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a regular file"
        return decode(path, **settings)
    except BadImage as error:
        return str(error)
    except FileNotFoundError:
        return "missing"
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        return getattr(error, "strerror", None) or str(error)
