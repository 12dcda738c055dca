"""Reads pictures that a user gives: files, folders, CSV files or standard input.

They become images as in training: the same decoding, orientation, mode, size and resizing.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.data.decode import BadImage, decode_file, is_visible, thumbnail_file
from src.data.image_csv import read_csv
from src.data.listing import Listing, walk
from src.errors import UserError
from src.params.schema import Params
from src.printable import printable
from src.system.regular_file import open_regular

THUMBNAIL_SIDE = 96
"""The longest side of a thumbnail, in pixels."""

STANDARD_INPUT = "-"

_MAX_STANDARD_INPUT = 1 << 28  # bytes

_CHUNK = 128  # pictures decoded in parallel, then yielded in order


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes an image of the network; see `src.data.decode.decode_file`."""

    size: int
    mode: str
    resize: str


@dataclass(frozen=True)
class Place:
    """Where a picture is.

    Attributes:
        path: the file; None for standard input.
        class_name: the class that a folder or a CSV file gives it; None if none does.
    """

    path: Path | None
    class_name: str | None = None

    @property
    def name(self) -> str:
        """The place, for people."""
        return "standard input" if self.path is None else str(self.path)


@dataclass(frozen=True)
class GivenPicture:
    """A picture that was read.

    Attributes:
        place: where it was.
        image: uint8 [S, S, C], as the network takes it.
        thumbnail: PNG, at most `THUMBNAIL_SIDE` pixels a side; empty if none was wanted.
    """

    place: Place
    image: NDArray[np.uint8]
    thumbnail: bytes = b""


@dataclass(frozen=True)
class BadPicture:
    """A picture that could not be read.

    Attributes:
        place: where it was.
        message: what is wrong with it, one line.
    """

    place: Place
    message: str


def preparation(params: Params, image_shape: Sequence[int]) -> Preparation:
    """Return how an experiment prepares its pictures.

    Args:
        params: the params it was trained with. Datasets of pictures state a way to resize. The mode
            is seen from the shape.
        image_shape: (H, W, C).

    Raises:
        UserError: the images are not square.
    """
    height, width, num_channels = image_shape
    if height != width:
        raise UserError(
            f"{params.dataset}: images of {height} x {width} pixels; accepted: square ones, for "
            "pictures are made square"
        )
    return Preparation(height, "L" if num_channels == 1 else "RGB", params.image_resize)


def unlabelled(arguments: Iterable[str]) -> list[Place]:
    """Return the pictures that command-line arguments name.

    Args:
        arguments: files, folders (searched at any depth), CSV files with a column `path`, or `-`
            for standard input.

    Raises:
        UserError: a folder or a CSV file cannot be read, or has no picture.
    """
    places = []
    for argument in arguments:
        path = Path(argument)
        if argument == STANDARD_INPUT:
            places.append(Place(None))
        elif path.is_dir():
            places += _files_in(path)
        elif path.suffix.lower() == ".csv":
            listing = _listed(path, has_labels=False)
            places += [Place(path.parent / name) for name in listing.paths]
        else:
            places.append(Place(path))
    return places


def _files_in(folder: Path) -> list[Place]:
    found = []
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if is_visible(name))
        found += [Place(Path(directory, name)) for name in sorted(files) if is_visible(name)]
    if not found:
        raise UserError(f"{printable(str(folder))}: no file in it; accepted: a folder of pictures")
    return found


def _refuse(error: OSError) -> None:
    raise UserError(
        f"{printable(str(error.filename))}: {error.strerror}; accepted: a folder that can be read"
    )


def labelled_by_folder(folder: Path) -> list[Place]:
    """Return the pictures of a folder that has a folder for each class, as `image_folder`.

    Raises:
        UserError: there is no such folder, or no picture in it.
    """
    accepted = "a folder that has a folder of pictures for each class"
    if not folder.is_dir():
        raise UserError(f"{printable(str(folder))}: no folder; accepted: {accepted}")
    listing = walk(folder)
    if not listing.paths:
        raise UserError(f"{printable(str(folder))}: no picture; accepted: {accepted}")
    return _places(folder, listing)


def labelled_by_csv(path: Path) -> list[Place]:
    """Return the pictures that a CSV file lists; paths are relative to the file's folder.

    Raises:
        UserError: there is no such file, it cannot be read, or lists no picture.
    """
    return _places(path.parent, _listed(path, has_labels=True))


def _listed(path: Path, *, has_labels: bool) -> Listing:
    accepted = f"a CSV file with the column{'s path and label' if has_labels else ' path'}"
    if not path.is_file():
        raise UserError(f"{printable(str(path))}: no file; accepted: {accepted}")
    listing = read_csv(path.parent, path, has_labels=has_labels)
    if not listing.paths:
        raise UserError(f"{printable(str(path))}: no picture; accepted: {accepted}")
    return listing


def _places(folder: Path, listing: Listing) -> list[Place]:
    pairs = zip(listing.paths, listing.classes, strict=True)
    return [Place(folder / path, name) for path, name in pairs]


def read(
    places: Sequence[Place], prepare: Preparation, *, with_thumbnails: bool = False
) -> Iterator[GivenPicture | BadPicture]:
    """Read pictures in order; a few at a time, several at once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the GIL
        for start in range(0, len(places), _CHUNK):
            chunk = places[start : start + _CHUNK]
            yield from pool.map(
                lambda place: _read_one(place, prepare, with_thumbnails=with_thumbnails), chunk
            )


def _read_one(
    place: Place, prepare: Preparation, *, with_thumbnails: bool
) -> GivenPicture | BadPicture:
    """Read one picture."""
    try:
        if place.path is None:
            return from_file(_standard_input(), place, prepare, with_thumbnail=with_thumbnails)
        with open_regular(place.path) as file:
            return from_file(file, place, prepare, with_thumbnail=with_thumbnails)
    except UserError as error:
        return BadPicture(place, str(error))
    except (BadImage, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return BadPicture(place, f"{printable(place.name)}: {reason}; accepted: a picture")


def from_file(
    file: IO[bytes], place: Place, prepare: Preparation, *, with_thumbnail: bool = False
) -> GivenPicture:
    """Read a picture from an open file, for example from bytes in memory.

    Raises:
        BadImage: see `src.data.decode.decode_file`.
    """
    image = decode_file(file, size=prepare.size, mode=prepare.mode, resize=prepare.resize)
    thumbnail = png(thumbnail_file(file, THUMBNAIL_SIDE)) if with_thumbnail else b""
    return GivenPicture(place, image, thumbnail)


def _standard_input() -> IO[bytes]:
    with open(0, "rb", closefd=False) as file:
        content = file.read(_MAX_STANDARD_INPUT + 1)
    if len(content) > _MAX_STANDARD_INPUT:
        raise BadImage(f"more than {_MAX_STANDARD_INPUT} bytes")
    return io.BytesIO(content)


def thumbnail_of(image: NDArray[np.uint8]) -> bytes:
    """Return the thumbnail of an image that is there without its file, uint8 [H, W, C]."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return png(picture)


def is_dark(image_shape: Sequence[int], images: Sequence[NDArray[np.uint8]]) -> bool:
    """Return whether pictures are light on dark, as MNIST's, so that drawings should be too."""
    if image_shape[2] != 1 or not images:
        return image_shape[2] == 1
    edges = [edge.ravel() for image in images for edge in (image[0], image[-1])]
    return float(np.median(np.concatenate(edges))) < 128


def png(picture: Image.Image) -> bytes:
    """Return a picture as PNG."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
