"""Reads the tables of a gallery, in blocks of ids.

One transaction reads all blocks, so they are of one version. The blocks bound the memory in both
databases; PostgreSQL would otherwise send all rows at once.
"""

import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter

from src.data.class_names import in_order
from src.errors import UserError
from src.gallery.record import Embeddings, Enrolled, Identity, image_digest
from src.gallery.session import Session

_WIDE_BLOCK = 256  # pictures in memory at a time
_NARROW_BLOCK = 16_384  # embeddings in memory at a time, beside the result

_WIDE = (
    "SELECT enrolled.id, name, sha256, crc32, {embedding}, source, time, image, thumbnail "
    "FROM enrolled LEFT JOIN classes ON classes.id = class_id "
    "LEFT JOIN pictures ON pictures.id = enrolled.id"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

_IDENTITY = TypeAdapter(Identity)


def class_sizes(session: Session) -> dict[str, int]:
    """Return the number of pictures of each class."""
    return dict(
        session.execute(
            "SELECT name, count(*) FROM enrolled JOIN classes ON classes.id = class_id "
            "GROUP BY name"
        )
    )


class Head(NamedTuple):
    """The only row of the table `gallery`.

    Attributes:
        identity: None if nothing was built yet.
        calibration: None if nothing was built yet.
        version: grows with every change.
        next_id: the id of the next picture.
        changes_from: the table `changes` is complete after this version.
    """

    identity: Identity | None
    calibration: dict[str, Any] | None
    version: int
    next_id: int
    changes_from: int


class _Wide(NamedTuple):
    """A picture as its tables have it; any column may be damaged or missing."""

    id: int
    class_name: Any
    sha256: Any
    crc32: Any
    embedding: Any
    source: Any
    time: Any
    image: Any
    thumbnail: Any


def read_head(session: Session) -> Head:
    """Return the row of the table `gallery`."""
    columns = "identity, calibration, version, next_id, changes_from"
    try:
        ((identity, calibration, *numbers),) = session.execute(f"SELECT {columns} FROM gallery")
        version, next_id, changes_from = map(int, numbers)
        return Head(
            None if identity is None else _IDENTITY.validate_json(identity),
            None if calibration is None else json.loads(calibration),
            *(version, next_id, changes_from),
        )
    except (TypeError, ValueError):
        raise session.damaged("the table gallery cannot be read") from None


def read_identity(session: Session) -> Identity:
    """Return the gallery's identity.

    Raises:
        UserError: it was never built.
    """
    identity = read_head(session).identity
    if identity is None:
        if session.execute("SELECT id FROM enrolled LIMIT 1"):
            raise session.damaged("pictures without an identity")
        raise UserError(f"{session.where}: an empty gallery; accepted: one that was built")
    return identity


def read_embeddings(session: Session, ids: Sequence[int] | None = None) -> Embeddings:
    """Return the embeddings of some pictures, those that exist, or of all."""
    head = read_head(session)
    if ids is None:
        ((count,),) = session.execute("SELECT count(*) FROM enrolled")
        blocks = _narrow_blocks(session)
    else:
        chosen = _narrow_rows(session, ids)
        count, blocks = len(chosen), iter([chosen] if chosen else [])
    size = head.identity.embedding_size if head.identity else 0
    picture_ids, class_ids = np.empty(count, np.int64), np.empty(count, np.int64)
    embeddings = np.empty((count, size), np.float32)
    start = 0
    for rows in blocks:
        block = slice(start, start := start + len(rows))
        picture_ids[block], class_ids[block], checksums, stored = zip(*rows, strict=True)
        embeddings[block] = _vectors(session, stored, checksums, size)
    labels, class_names = _labels(session, class_ids)
    return Embeddings(picture_ids, labels, class_names, embeddings, head.version)


def _narrow_blocks(session: Session) -> Iterator[list[Any]]:
    last = 0
    while rows := session.execute(
        f"SELECT id, class_id, crc32, {session.embedding_column} FROM enrolled WHERE id > ? "
        f"ORDER BY id LIMIT {_NARROW_BLOCK}",
        [last],
    ):
        yield rows
        last = rows[-1][0]


def _narrow_rows(session: Session, ids: Sequence[int]) -> list[Any]:
    sql = f"SELECT id, class_id, crc32, {session.embedding_column} FROM enrolled WHERE id"
    return sorted(session.execute_in(sql, ids))


def _vectors(
    session: Session, stored: Sequence[Any], checksums: Sequence[Any], size: int
) -> NDArray[np.float32]:
    """Return embeddings float32 [N, size], checked against their CRC-32."""
    try:
        vectors = session.decode(stored, size)
    except (TypeError, ValueError):
        raise session.damaged(f"an embedding is not {size} numbers") from None
    if tuple(map(zlib.crc32, vectors)) != tuple(checksums):
        raise session.damaged("an embedding has another CRC-32")
    return vectors


def _labels(
    session: Session, class_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return labels int32 [N] and the names of all classes, given the ids of the classes."""
    ids_of: dict[str, int] = dict(session.execute("SELECT name, id FROM classes"))
    class_names = in_order(ids_of)
    ids = np.array([ids_of[name] for name in class_names], np.int64)
    order = np.argsort(ids)
    place = np.searchsorted(ids[order], class_ids)
    if np.any(place == len(ids)) or np.any(ids[order][place] != class_ids):
        raise session.damaged("pictures of a class that does not exist")
    return order[place].astype(np.int32), class_names


def wide_blocks(session: Session, class_name: str | None = None) -> Iterator[list[_Wide]]:
    """Yield the rows of all pictures, or those of a class, by id."""
    condition = "" if class_name is None else "AND name = ?"
    parameters = [] if class_name is None else [class_name]
    last = 0
    while rows := session.execute(
        f"{_WIDE.format(embedding=session.embedding_column)} WHERE enrolled.id > ? {condition} "
        f"ORDER BY enrolled.id LIMIT {_WIDE_BLOCK}",
        [last, *parameters],
    ):
        yield [_Wide(*row) for row in rows]
        last = rows[-1][0]


def read_pictures(session: Session, ids: Sequence[int]) -> list[Enrolled]:
    """Return the pictures with these ids, those that exist, in any order."""
    sql = f"{_WIDE.format(embedding=session.embedding_column)} WHERE enrolled.id"
    rows = [_Wide(*row) for row in session.execute_in(sql, ids)]
    return list(whole(session, rows, read_identity(session))) if rows else []


def whole(session: Session, rows: Iterable[_Wide], identity: Identity) -> Iterator[Enrolled]:
    """Yield the pictures of rows; a `UserError` names the first that is not whole."""
    for row in rows:
        for problem in _problems_of_size(session, row, identity):
            raise session.damaged(f"picture {row.id}: {problem}")
        yield Enrolled(
            id=row.id,
            class_name=row.class_name,
            embedding=session.decode([row.embedding], identity.embedding_size)[0],
            image=np.frombuffer(row.image, np.uint8).reshape(identity.image_shape),
            thumbnail=row.thumbnail,
            source=row.source,
            time=row.time,
        )


def problems_of(session: Session, row: _Wide, identity: Identity) -> list[str]:
    """Return what is wrong with a picture; sizes, digests and the thumbnail are checked."""
    problems = _problems_of_size(session, row, identity)
    if not problems:
        image = np.frombuffer(row.image, np.uint8).reshape(identity.image_shape)
        if image_digest(image) != row.sha256:
            problems.append("the image has another SHA-256")
        if not _is_png(row.thumbnail):
            problems.append("the thumbnail is no PNG that can be read")
        if not _TIME.fullmatch(row.time):
            problems.append(f"the time is {row.time!r:.40}")
    return [f"picture {row.id}: {problem}" for problem in problems]


def _problems_of_size(session: Session, row: _Wide, identity: Identity) -> list[str]:
    problems = []
    kinds = {"class_name": str, "source": str, "time": str, "image": bytes, "thumbnail": bytes}
    missing = [name for name, kind in kinds.items() if not isinstance(getattr(row, name), kind)]
    if missing:
        problems.append(f"missing: {', '.join(missing)}")
    num_bytes = int(np.prod(identity.image_shape))
    if isinstance(row.image, bytes) and len(row.image) != num_bytes:
        problems.append(f"an image of {len(row.image)} bytes, not {num_bytes}")
    try:
        (vector,) = session.decode([row.embedding], identity.embedding_size)
    except (TypeError, ValueError):
        return [*problems, f"the embedding is not {identity.embedding_size} numbers"]
    if zlib.crc32(vector) != row.crc32:
        problems.append("the embedding has another CRC-32")
    if not np.isfinite(vector).all():
        problems.append("the embedding is not finite")
    return problems


def _is_png(content: bytes) -> bool:
    """Return whether this is a PNG whose checksums fit."""
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError):  # Pillow's, for damaged files
        return False
    return True
