"""The tables of a gallery. Both stores have the same, and the same SQL on them.

    gallery    one row: format, identity, calibration, version, the next id
    classes    id, name
    enrolled   id, class, SHA-256 of the image, CRC-32 of the embedding, embedding
    pictures   id, source, time, image, thumbnail
    changes    version, id: pictures that were added, moved or removed in the latest versions

A search reads `enrolled` alone. Its rows are narrow, and no image is read.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any

import numpy as np

from src.data.class_names import in_order
from src.gallery.edit import Edit
from src.gallery.record import (
    Added,
    Changes,
    Embeddings,
    Enrolled,
    Identity,
    NewPicture,
    enrolled_name,
)
from src.gallery.rows import (
    class_sizes,
    problems_of,
    read_embeddings,
    read_head,
    read_identity,
    read_pictures,
    whole,
    wide_blocks,
)
from src.gallery.session import Damaged, Session
from src.system.closing import Closing

FORMAT = 1
"""Of the tables. A program refuses newer formats."""

FIRST_ROW = "INSERT INTO gallery VALUES (1, ?, NULL, NULL, 0, 1, 0)"
"""Fills the table `gallery` when it is created; the parameter is `FORMAT`."""

BUSY_SECONDS = 30
"""How long a writer waits for another one."""

_BLOCK = 256  # pictures to insert at a time


class Tables(Closing):
    """A store over SQL. `src.gallery.store.Store` describes the methods.

    Attributes:
        where: the address, for messages.
    """

    where: str

    @abstractmethod
    def reading(self) -> AbstractContextManager[Session]:
        """Begin a transaction that sees one version of the gallery."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Session]:
        """Begin a transaction once no other writer is in one; an exception undoes it."""

    def identity(self) -> Identity | None:
        """Return the network whose embeddings these are."""
        with self.reading() as session:
            return read_head(session).identity

    def calibration(self) -> dict[str, Any] | None:
        """Return what `replace` stored."""
        with self.reading() as session:
            return read_head(session).calibration

    def version(self) -> int:
        """Return the number of the latest change."""
        with self.reading() as session:
            return read_head(session).version

    @contextmanager
    def _edit(self) -> Iterator[tuple[Session, Edit]]:
        with self.writing() as session:
            edit = Edit(session)
            yield session, edit
            edit.finish()

    def replace(
        self, identity: Identity, calibration: dict[str, Any], pictures: Iterable[NewPicture]
    ) -> int:
        """Replace everything."""
        with self._edit() as (_, edit):
            edit.start_anew(identity, calibration)
            return sum(added.is_new for added in _insert_all(edit, pictures))

    def add(self, identity: Identity, pictures: Sequence[NewPicture]) -> list[Added]:
        """Add pictures."""
        with self._edit() as (_, edit):
            edit.require(identity)
            return list(_insert_all(edit, pictures))

    def remove_class(self, class_name: str) -> int:
        """Remove a class."""
        with self._edit() as (session, edit):
            rows = session.execute(
                "SELECT enrolled.id FROM enrolled JOIN classes ON classes.id = class_id "
                "WHERE name = ?",
                [enrolled_name(class_name)],
            )
            edit.delete([row[0] for row in rows])
            return len(rows)

    def remove_picture(self, picture: int) -> Enrolled | None:
        """Remove a picture."""
        with self._edit() as (session, edit):
            removed = read_pictures(session, [picture])
            edit.delete([row.id for row in removed])
            return removed[0] if removed else None

    def move(self, picture: int, class_name: str) -> Enrolled | None:
        """Move a picture to a class."""
        with self._edit() as (session, edit):
            moved = edit.move(picture, enrolled_name(class_name))
            return None if moved is None else read_pictures(session, [moved])[0]

    def classes(self) -> list[tuple[str, int]]:
        """Return the classes and their numbers of pictures."""
        with self.reading() as session:
            counts = class_sizes(session)
        return [(name, counts[name]) for name in in_order(counts)]

    def embeddings(self) -> Embeddings:
        """Return all embeddings in one array."""
        with self.reading() as session:
            return read_embeddings(session)

    def changes_since(self, version: int) -> Changes | None:
        """Return what has changed."""
        with self.reading() as session:
            head = read_head(session)
            if not head.changes_from <= version <= head.version:
                return None
            rows = session.execute("SELECT DISTINCT id FROM changes WHERE version > ?", [version])
            changed = sorted(row[0] for row in rows)
            return Changes(np.array(changed, np.int64), read_embeddings(session, changed))

    def pictures(self, ids: Sequence[int]) -> list[Enrolled]:
        """Return pictures by id."""
        with self.reading() as session:
            found = {row.id: row for row in read_pictures(session, ids)}
        return [found[picture] for picture in ids if picture in found]

    def iterate(self, class_name: str | None = None) -> Iterator[Enrolled]:
        """Yield pictures by id."""
        name = None if class_name is None else enrolled_name(class_name)
        with self.reading() as session:
            for rows in wide_blocks(session, name):
                yield from whole(session, rows, read_identity(session))

    def sources(self, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Return class and source of pictures by id."""
        sql = (
            "SELECT enrolled.id, name, source FROM enrolled "
            "JOIN classes ON classes.id = class_id JOIN pictures ON pictures.id = enrolled.id "
            "WHERE enrolled.id"
        )
        with self.reading() as session:
            rows = session.execute_in(sql, ids)
        return {picture: (name, source) for picture, name, source in rows}

    def check(self) -> list[str]:
        """Read every picture."""
        with self.reading() as session:
            problems = session.damage()
            identity = read_head(session).identity
            if identity is None:
                return [*problems, "nothing was built yet"]
            try:
                for rows in wide_blocks(session):
                    for row in rows:
                        problems += problems_of(session, row, identity)
            except Damaged as error:  # the rest cannot be read
                problems.append(str(error))
            return problems


def _insert_all(edit: Edit, pictures: Iterable[NewPicture]) -> Iterator[Added]:
    rest = iter(pictures)
    while block := list(islice(rest, _BLOCK)):
        yield from edit.insert(block)
