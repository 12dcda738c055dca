"""Where a gallery is kept: a SQLite file, or a PostgreSQL database."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.gallery.record import (
    Added,
    Changes,
    Embeddings,
    Enrolled,
    Identity,
    NewPicture,
)
from src.registry import look_up

STORES = {
    "sqlite": "src.gallery.sqlite:SQLite",
    "postgresql": "src.gallery.postgresql:PostgreSQL",
}
"""The stores by name. Each is called with an address and `create=`."""


class Store(AbstractContextManager["Store"], Protocol):
    """A gallery on disk.

    Each method that writes is one transaction: a process that is killed, a full disk or a lost
    connection leaves the gallery as it was. Each method that reads sees one version of the gallery.
    Writers wait for each other. Threads may share a store.

    Every method raises `UserError` if the gallery cannot be read or written, or is damaged.
    """

    @property
    def where(self) -> str:
        """The gallery's address, for messages; without a password."""

    def identity(self) -> Identity | None:
        """Return whose embeddings these are; None if nothing was built yet."""

    def calibration(self) -> dict[str, Any] | None:
        """Return the JSON object that `replace` stored; None if nothing was built yet."""

    def version(self) -> int:
        """Return a number that grows with every change."""

    def replace(
        self, identity: Identity, calibration: dict[str, Any], pictures: Iterable[NewPicture]
    ) -> int:
        """Replace the whole gallery, and return its number of pictures.

        `pictures` is read during the transaction, in blocks. It may come from this store's
        `iterate`, which reads the old pictures meanwhile. Other writers wait, or give up. An image
        that stands twice in one class is stored once.
        """

    def add(self, identity: Identity, pictures: Sequence[NewPicture]) -> list[Added]:
        """Add pictures, embedded by the network `identity`, and return what became of each.

        Raises:
            UserError: the gallery belongs to another network, or nothing was built yet.
        """

    def remove_class(self, class_name: str) -> int:
        """Remove a class, and return how many pictures it had; 0 if there is none."""

    def remove_picture(self, picture: int) -> Enrolled | None:
        """Remove a picture by id, and return it; None if there is none."""

    def move(self, picture: int, class_name: str) -> Enrolled | None:
        """Move a picture, by id, to a class, and return it; None if there is none.

        If that class has the same image, only that one stays, and is returned.
        """

    def classes(self) -> list[tuple[str, int]]:
        """Return the classes and their numbers of pictures, in order of the names."""

    def embeddings(self) -> Embeddings:
        """Return all pictures as a search needs them."""

    def changes_since(self, version: int) -> Changes | None:
        """Return what has changed since a version; None if all is to be read anew."""

    def pictures(self, ids: Sequence[int]) -> list[Enrolled]:
        """Return the pictures with these ids, in their order, without those that are gone."""

    def iterate(self, class_name: str | None = None) -> Iterator[Enrolled]:
        """Yield the pictures, of one class or all, by id. Only a block is in memory.

        All are of the version at which the first was read.
        """

    def sources(self, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return class and source of the pictures with these ids, without those that are gone."""

    def check(self) -> list[str]:
        """Read every picture, and return what is wrong, one line for each problem."""

    def close(self) -> None:
        """Close all connections. A closed store opens new ones when it is used again."""


@runtime_checkable
class SearchesItself(Protocol):
    """A store that can also search, so that no process has to read all embeddings."""

    def create_index(self) -> None:
        """Create an index for approximate search, if there is none."""

    def has_index(self) -> bool:
        """Return whether there is one."""

    def near(
        self, queries: NDArray[np.float32], count: int
    ) -> list[tuple[Embeddings, NDArray[np.int64]]]:
        """Return the pictures near each query, as the index finds them.

        Args:
            queries: float32 [Q, D].
            count: how many for each query; fewer if the gallery has fewer.

        Returns:
            For each query the pictures near it, and how many pictures each of their classes has in
            the whole gallery, int64 [C].
        """


def open_store(where: str | Path, *, create: bool = False) -> Store:
    """Open a gallery.

    Args:
        where: the path of a SQLite file, or `postgresql://user:password@host/database`. There
            `?gallery=name` chooses one of several galleries in the database.
        create: create the gallery if it does not exist.

    Raises:
        UserError: it does not exist, is no gallery, or is of a newer format; or a package is
            missing.
    """
    scheme, separator, _ = str(where).partition("://")
    if not separator:
        name = "sqlite"
    elif scheme in ("postgresql", "postgres"):
        name = "postgresql"
    else:
        raise UserError(
            f"--gallery: found an address that begins with {scheme[:20]}://; accepted: the path of "
            "a file, or postgresql://..."
        )
    try:
        store = look_up(STORES, name)
    except ImportError as error:
        raise UserError(
            f"--gallery {scheme}://...: a package cannot be imported ({error}); accepted: an "
            'environment with the extra postgres (pip install ".[postgres]")'
        ) from None
    opened: Store = store(where, create=create)
    return opened
