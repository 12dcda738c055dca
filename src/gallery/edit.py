"""Changes the tables of a gallery, within one transaction."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from src.errors import UserError
from src.gallery.record import Added, Identity, NewPicture, enrolled_name, image_digest
from src.gallery.rows import read_head
from src.gallery.session import Session
from src.printable import printable

_KEPT_VERSIONS = 1_000  # versions whose changes are known


class Edit:
    """A change of a gallery: `finish` writes what its other methods have left to write."""

    def __init__(self, session: Session) -> None:
        """Read the state of the gallery. No other writer may change it until the end."""
        self._session = session
        head = read_head(session)
        self._identity, self._version, self._next_id = head.identity, head.version, head.next_id
        self._changes_from = head.changes_from
        self._is_new = False
        self._changed: set[int] = set()
        self._class_ids: dict[str, int] = {}
        self._class_names: dict[int, str] = {}

    def start_anew(self, identity: Identity, calibration: dict[str, Any]) -> None:
        """Remove everything; the gallery then belongs to `identity`."""
        for table in ("pictures", "enrolled", "classes", "changes"):
            self._session.execute(f"DELETE FROM {table}")
        self._session.fit(identity)
        self._session.execute(
            "UPDATE gallery SET identity = ?, calibration = ?",
            [json.dumps(asdict(identity)), json.dumps(calibration, allow_nan=False)],
        )
        self._identity = identity
        self._is_new = True

    def require(self, identity: Identity) -> None:
        """Raise `UserError` unless the gallery belongs to this network."""
        own = self._identity
        if own is None:
            raise UserError(
                f"{self._session.where}: an empty gallery; accepted: one that gallery.py build has "
                "written"
            )
        if own != identity:
            raise UserError(
                f"{self._session.where}: belongs to checkpoint {own.checkpoint[:12]} of "
                f"{own.experiment} (step {own.step}), found {identity.checkpoint[:12]} of "
                f"{identity.experiment} (step {identity.step}); accepted: the same checkpoint, or "
                "a gallery rebuilt with the new one (gallery.py rebuild)"
            )

    def insert(self, pictures: Sequence[NewPicture]) -> list[Added]:
        """Insert pictures whose classes do not have them yet."""
        digests = [image_digest(picture.image) for picture in pictures]
        owners: dict[bytes, dict[int, int]] = {digest: {} for digest in digests}
        sql = "SELECT sha256, class_id, id FROM enrolled WHERE sha256"
        for digest, class_id, picture_id in self._session.execute_in(sql, list(owners)):
            owners[digest][class_id] = picture_id
        added, enrolled, wide = [], [], []
        for picture, digest in zip(pictures, digests, strict=True):
            self._require_fit(picture)
            class_id = self._class_id(enrolled_name(picture.class_name))
            own = owners[digest]
            is_new = class_id not in own
            others = tuple(self._class_name(other) for other in own if other != class_id)
            if is_new:
                own[class_id] = self._next_id
                checksum = zlib.crc32(picture.embedding.tobytes())
                embedding = self._session.encode(picture.embedding)
                enrolled.append((self._next_id, class_id, digest, checksum, embedding))
                source, image = printable(picture.source), picture.image.tobytes()
                wide.append((self._next_id, source, picture.time, image, picture.thumbnail))
                self._next_id += 1
            added.append(Added(own[class_id], is_new, others))
        columns = ("id", "class_id", "sha256", "crc32", "embedding")
        self._session.insert("enrolled", columns, enrolled)
        self._session.insert("pictures", ("id", "source", "time", "image", "thumbnail"), wide)
        self._changed.update(row[0] for row in enrolled)
        return added

    def _require_fit(self, picture: NewPicture) -> None:
        """Raise `ValueError` if a picture is not one of the gallery's network: a bug."""
        identity = self._identity
        assert identity is not None
        image, embedding = picture.image, picture.embedding
        if image.dtype != np.uint8 or image.shape != identity.image_shape:
            raise ValueError(f"image {image.dtype} {image.shape}, not {identity.image_shape}")
        if embedding.dtype != np.float32 or embedding.shape != (identity.embedding_size,):
            raise ValueError(
                f"embedding {embedding.dtype} {embedding.shape}, not {identity.embedding_size}"
            )
        if not np.isfinite(embedding).all():
            raise ValueError("an embedding that is not finite")

    def delete(self, ids: Sequence[int]) -> None:
        """Delete pictures, and the classes that have none left."""
        for table in ("pictures", "enrolled"):
            self._session.execute_in(f"DELETE FROM {table} WHERE id", ids)
        self._changed.update(ids)
        self._drop_empty_classes()

    def move(self, picture: int, class_name: str) -> int | None:
        """Move a picture to a class. Return the id that it has there; None if there is none."""
        found = self._session.execute(
            "SELECT class_id, sha256 FROM enrolled WHERE id = ?", [picture]
        )
        if not found:
            return None
        ((old, digest),) = found
        new = self._class_id(class_name)
        if new == old:
            return picture
        twin = self._session.execute(
            "SELECT id FROM enrolled WHERE sha256 = ? AND class_id = ?", [digest, new]
        )
        if twin:
            self.delete([picture])
            return int(twin[0][0])
        self._session.execute("UPDATE enrolled SET class_id = ? WHERE id = ?", [new, picture])
        self._changed.add(picture)
        self._drop_empty_classes()
        return picture

    def finish(self) -> None:
        """Write the new version, and what changed in it."""
        if not self._changed and not self._is_new:
            return
        self._version += 1
        oldest = self._version if self._is_new else self._version - _KEPT_VERSIONS
        self._changes_from = max(self._changes_from, oldest)
        if not self._is_new:
            rows = [(self._version, picture) for picture in sorted(self._changed)]
            self._session.insert("changes", ("version", "id"), rows)
        self._session.execute("DELETE FROM changes WHERE version <= ?", [self._changes_from])
        self._session.execute(
            "UPDATE gallery SET version = ?, next_id = ?, changes_from = ?",
            [self._version, self._next_id, self._changes_from],
        )

    def _class_id(self, name: str) -> int:
        """Return the id of a class; create it if it does not exist."""
        if name not in self._class_ids:
            rows = self._session.execute("SELECT id FROM classes WHERE name = ?", [name])
            if not rows:
                rows = self._session.execute("SELECT coalesce(max(id), 0) + 1 FROM classes")
                self._session.insert("classes", ("id", "name"), [(rows[0][0], name)])
            self._class_ids[name] = rows[0][0]
        return self._class_ids[name]

    def _class_name(self, class_id: int) -> str:
        if class_id not in self._class_names:
            rows = self._session.execute("SELECT name FROM classes WHERE id = ?", [class_id])
            self._class_names[class_id] = rows[0][0]
        return self._class_names[class_id]

    def _drop_empty_classes(self) -> None:
        self._session.execute(
            "DELETE FROM classes WHERE NOT EXISTS "
            "(SELECT 1 FROM enrolled WHERE class_id = classes.id)"
        )
