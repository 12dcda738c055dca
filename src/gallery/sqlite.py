"""A gallery in a SQLite file, in WAL mode: readers and a writer do not wait for each other."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.gallery.record import Identity
from src.gallery.session import Damaged, Session
from src.gallery.tables import BUSY_SECONDS, FIRST_ROW, FORMAT, Tables
from src.printable import printable
from src.system.atomic import disk_error, free_bytes

_APPLICATION_ID = int.from_bytes(b"TBgl", "big")  # in the file's header: a gallery

_TABLES = """
CREATE TABLE gallery (
    one INTEGER PRIMARY KEY CHECK (one = 1), format INTEGER NOT NULL, identity TEXT,
    calibration TEXT, version INTEGER NOT NULL, next_id INTEGER NOT NULL,
    changes_from INTEGER NOT NULL
);
CREATE TABLE classes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE enrolled (
    id INTEGER PRIMARY KEY, class_id INTEGER NOT NULL REFERENCES classes, sha256 BLOB NOT NULL,
    crc32 INTEGER NOT NULL, embedding BLOB NOT NULL, UNIQUE (sha256, class_id)
);
CREATE INDEX enrolled_by_class ON enrolled (class_id);
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY REFERENCES enrolled, source TEXT NOT NULL, time TEXT NOT NULL,
    image BLOB NOT NULL, thumbnail BLOB NOT NULL
);
CREATE TABLE changes (version INTEGER, id INTEGER, PRIMARY KEY (version, id)) WITHOUT ROWID;
"""

_LEAST_BYTES = 512  # of a database; SQLite overwrites a shorter file as if it were empty
_POLL_SECONDS = 0.2  # SQLite's own wait for a lock, during which Python heeds no signal
_PAGE_BYTES = 16_384  # with the usual 4096, a million embeddings take 77 000 calls to read
_SETTINGS = (
    "trusted_schema = OFF",
    "foreign_keys = ON",
    "synchronous = FULL",  # what was committed survives a power loss
    "cache_size = -65536",  # KiB of pages; the indices of a million pictures fit
    "wal_autocheckpoint = 256",  # pages, 4 MiB
)
"""Of each connection."""
_OTHER_THAN_TABLES = """
SELECT count(*) FROM sqlite_master
WHERE type NOT IN ('table', 'index') OR (type = 'table' AND sql NOT LIKE 'CREATE TABLE %')
"""
"""What a gallery does not have: SQL that runs when the file is read or written."""
_NO_ROOM = 2**16  # with fewer free bytes SQLite's "disk I/O error" means a full disk


class SQLite(Tables):
    """A gallery in a SQLite file."""

    def __init__(self, where: str | Path, *, create: bool = False) -> None:
        """Open the file; create it, and its folders, if it is missing and `create`."""
        self.where = printable(str(where))
        self._path = Path(where)
        self._mode = "rw"
        self._idle: list[sqlite3.Connection] = []
        self._file: os.stat_result | None = None  # the file that was opened first
        if self._path.exists() and not self._path.is_file():
            raise UserError(f"{self.where}: not a file; accepted: the file of a gallery")
        if self._path.exists() and 0 < self._path.stat().st_size < _LEAST_BYTES:
            raise UserError(f"{self.where}: not a SQLite database; accepted: a gallery")
        if create:
            self._create()
        elif not self._path.exists():
            raise self._missing()
        with self._explained():
            self._mode = self._usable_mode()
        self._require_gallery()

    def close(self) -> None:
        """Close all connections. The last one writes what is in the WAL to the file."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Begin a transaction that sees one version of the gallery."""
        before = self._path.stat() if self._mode == _STILL and self._path.exists() else None
        with self._transaction("BEGIN") as connection:
            yield _SQLiteSession(self, connection)
        if before and self._path.stat().st_mtime_ns != before.st_mtime_ns:
            raise UserError(f"{self.where}: changed while it was read; accepted: another try")

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Begin a transaction once no other writer is in one; an exception undoes it."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield _SQLiteSession(self, connection)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        """Take an idle connection, or a new one; only if all goes well it is idle again."""
        with self._explained():
            connection = self._take()
            try:
                self._patiently(lambda: _begin(connection, begin))
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()  # undoes the transaction
                raise
        if self._mode == _STILL:
            connection.close()
        else:
            self._idle.append(connection)

    def _take(self) -> sqlite3.Connection:
        self._require_same_file()
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect(self._mode)

    def _require_same_file(self) -> None:
        """Refuse to go on if another file has taken the place of the one that was opened.

        What is written to a file that was removed is lost, and versions of two files say nothing
        about each other.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise self._missing() from None
        self._file = self._file or found
        if not os.path.samestat(found, self._file):
            raise UserError(
                f"{self.where}: another file took its place while it was open; accepted: the "
                "same file, or a new start"
            )

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_POLL_SECONDS,
            isolation_level=None,  # transactions begin where this module says
            check_same_thread=False,  # one thread at a time has it
        )
        for setting in _SETTINGS:
            _execute(connection, f"PRAGMA {setting}")
        return connection

    def _patiently(self, action: Callable[[], object]) -> None:
        """Do something, again and again if the file is locked, for `BUSY_SECONDS`."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                action()
                return
            except sqlite3.OperationalError as error:
                if "lock" not in str(error) or time.monotonic() > deadline:
                    raise

    def _create(self) -> None:
        """Create the tables, if the file is missing or empty."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(self._path, error.errno, needed=0) from error
        with self._explained(), contextlib.closing(self._connect("rwc")) as connection:
            if _kind(connection) is not None:
                return
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            self._patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchall())
            self._patiently(lambda: _begin(connection, "BEGIN IMMEDIATE"))
            if _kind(connection) is None:  # no other process was first
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(FIRST_ROW, [FORMAT])
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute("COMMIT")

    def _require_gallery(self) -> None:
        """Check that the file is a gallery of a known format."""
        with self._transaction("BEGIN") as connection:
            if _execute(connection, _OTHER_THAN_TABLES) != [(0,)]:
                raise UserError(
                    f"{self.where}: found a view, a trigger or a virtual table; accepted: a gallery"
                )
            kind = _kind(connection)
            if kind is None:
                raise self._missing()
            if kind != _APPLICATION_ID:
                raise UserError(f"{self.where}: a database of another kind; accepted: a gallery")
            found = [row[0] for row in _execute(connection, "SELECT format FROM gallery")]
        if found != [FORMAT]:
            raise UserError(
                f"{self.where}: a gallery of format {', '.join(map(repr, found))}; accepted: "
                f"format {FORMAT}, which this version reads and writes"
            )

    def _usable_mode(self) -> str:
        """Return the mode in which the file can be opened.

        SQLite needs a file beside a database in WAL mode, unless nobody changes that meanwhile. So
        `_STILL` is for folders where nothing can be written. If the WAL is not empty, then the
        database alone is not whole, and no mode is right.
        """
        wal = Path(f"{self._path}-wal")
        try:
            self._connect("rw").close()
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) or (wal.exists() and wal.stat().st_size):
                raise
            return _STILL
        return "rw"

    def _missing(self) -> UserError:
        return UserError(
            f"{self.where}: no gallery; accepted: one that gallery.py build has written"
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into `UserError`, unless they show a bug."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def explain(self, error: sqlite3.Error) -> Exception:
        """Return the `UserError` for an error of SQLite; the error itself if it shows a bug."""
        text = str(error)
        free = free_bytes(self._path)
        if "is full" in text or ("disk I/O" in text and free < _NO_ROOM):
            return UserError(
                f"{self.where}: the disk is full ({free:,} bytes are free), nothing was changed; "
                "accepted: a disk with room"
            )
        for part, (found, accepted) in _REFUSALS.items():
            if part in text:
                return UserError(f"{self.where}: {found}; accepted: {accepted}")
        if any(part in text for part in _DAMAGE):
            return Damaged.of(self.where, text)
        return error


_STILL = "ro&immutable=1"  # the mode for a file that nobody can change

_REFUSALS = {
    "lock": (
        "another program is writing, nothing was changed",
        "one writer at a time; try again when it is done",
    ),
    "readonly": ("read-only", "a file and folder that this user may write"),
    "not a database": ("not a SQLite database", "a gallery"),
    "unable to open": (
        "cannot be opened",
        "a file that this user may read, in a folder that this user may write",
    ),
    "disk I/O": ("the disk cannot be read or written", "a disk that works"),
}
"""By a part of SQLite's message (`sqlite3.Error` has codes from Python 3.11 on only)."""

_DAMAGE = ("malformed", "decode to UTF-8", "no such table", "no such column", "constraint failed")


def _execute(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
    try:
        return connection.execute(sql, parameters).fetchall()
    except UnicodeDecodeError:  # an error message that quotes a damaged schema
        raise sqlite3.DatabaseError("malformed database schema") from None


def _begin(connection: sqlite3.Connection, begin: str) -> None:
    """Begin a transaction, and lock or see the file now rather than at the first statement."""
    connection.execute(begin)
    try:
        _execute(connection, "PRAGMA schema_version")
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise


def _kind(connection: sqlite3.Connection) -> int | None:
    """Return the `application_id` of a database; None if it has neither that nor tables."""
    ((kind,),) = _execute(connection, "PRAGMA application_id")
    ((count,),) = _execute(connection, "SELECT count(*) FROM sqlite_master")
    return int(kind) if kind or count else None


class _SQLiteSession(Session):
    embedding_column = "embedding"

    def __init__(self, store: SQLite, connection: sqlite3.Connection) -> None:
        self.where = store.where
        self._store = store
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        try:
            return _execute(self._connection, sql, parameters)
        except sqlite3.Error as error:
            raise self._store.explain(error) from error

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})"
        try:
            self._connection.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._store.explain(error) from error

    def encode(self, embedding: NDArray[np.float32]) -> bytes:
        return embedding.astype("<f4").tobytes()

    def decode(self, stored: Sequence[bytes], size: int) -> NDArray[np.float32]:
        if any(len(value) != 4 * size for value in stored):
            raise ValueError
        return np.frombuffer(b"".join(stored), "<f4").astype(np.float32).reshape(-1, size)

    def fit(self, identity: Identity) -> None:
        """Any embedding fits."""

    def damage(self) -> list[str]:
        lines = [row[0] for row in self.execute("PRAGMA integrity_check(20)")]
        broken = self.execute("PRAGMA foreign_key_check")
        lines += [f"{row[0]}: row {row[1]} belongs to no row of {row[2]}" for row in broken[:20]]
        return [line for line in lines if line != "ok"]
