"""What a gallery keeps: its identity, its pictures, and what a store answers."""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import as_read, shortened
from src.errors import UserError

MAX_CLASS_NAME = 200
"""Characters of a class name."""


@dataclass(frozen=True)
class Identity:
    """The network whose embeddings a gallery holds.

    Attributes:
        checkpoint: SHA-256 of the checkpoint's data file, in hexadecimal.
        step: the training step of the checkpoint.
        image_shape: (H, W, C) of the images that the network embeds.
        embedding_size: D.
        distance: a key of `src.distance.DISTANCES`.
        experiment: the experiment's name, for messages; not compared.
    """

    checkpoint: str
    step: int
    image_shape: tuple[int, int, int]
    embedding_size: int
    distance: str
    experiment: str = field(compare=False)


def utc_now() -> str:
    """Return the time, UTC, in ISO 8601 to the second: `2026-11-26T23:00:00Z`."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, eq=False)
class NewPicture:
    """A picture to enrol.

    Attributes:
        class_name: the class it is an example of.
        embedding: float32 [D], finite.
        image: uint8 [H, W, C], as the network embedded it.
        thumbnail: a PNG of the picture as the user gave it.
        source: its path or origin, for people.
        time: of its enrolment, as `utc_now` returns it.
    """

    class_name: str
    embedding: NDArray[np.float32]
    image: NDArray[np.uint8]
    thumbnail: bytes
    source: str
    time: str = field(default_factory=utc_now)

    @property
    def sha256(self) -> str:
        """The digest of the image's shape and pixels, in hexadecimal."""
        return image_digest(self.image).hex()


@dataclass(frozen=True, eq=False, kw_only=True)
class Enrolled(NewPicture):
    """A picture of the gallery.

    Attributes:
        id: given by the store, from 1 on; never used again.
    """

    id: int


class Added(NamedTuple):
    """What became of a picture to enrol.

    Attributes:
        id: of the picture in the gallery.
        is_new: False if its class already had the same image, which then was kept.
        also_in: the other classes that have the same image.
    """

    id: int
    is_new: bool
    also_in: tuple[str, ...]


class Embeddings(NamedTuple):
    """Pictures as a search needs them, in the order of their ids.

    Attributes:
        ids: int64 [N].
        labels: int32 [N], positions in `class_names`.
        class_names: the names of the gallery's classes, in order.
        embeddings: float32 [N, D].
        version: the gallery's version that has these pictures.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    embeddings: NDArray[np.float32]
    version: int


class Changes(NamedTuple):
    """What to change in `Embeddings` of an earlier version.

    Attributes:
        gone: int64 [M], ids of pictures to remove, including those that moved to another class.
        added: pictures to add, including those that moved; with the classes of the new version.
    """

    gone: NDArray[np.int64]
    added: Embeddings


def image_digest(image: NDArray[np.uint8]) -> bytes:
    """Return the SHA-256 of an image's shape and pixels, 32 bytes."""
    shape = "x".join(map(str, image.shape))
    return hashlib.sha256(f"{shape}:".encode() + image.tobytes()).digest()


def enrolled_name(class_name: str) -> str:
    """Return a class name in the form in which a gallery keeps it (`as_read`).

    Raises:
        UserError: nothing is left of the name, it is too long, or it is `.` or `..`, which browsers
            take for folders.
    """
    name = as_read(class_name)
    if name in (".", ".."):
        raise UserError(f"class name: found '{name}'; accepted: other names than . and ..")
    if not 1 <= len(name) <= MAX_CLASS_NAME:
        found = f"'{shortened(name)}' of {len(name)} characters" if name else "no visible character"
        raise UserError(f"class name: found {found}; accepted: 1 to {MAX_CLASS_NAME} characters")
    return name
