"""A gallery in PostgreSQL with pgvector: many writers and servers share it.

The tables of a gallery lie in a schema of their own, `tripletboard_<name>`.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector.psycopg import register_vector
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from src.errors import UserError
from src.gallery.postgresql_session import PostgreSQLSession, index_name, is_cosine
from src.gallery.record import Embeddings, Identity, NewPicture
from src.gallery.rows import class_sizes, read_embeddings, read_identity
from src.gallery.session import Damaged, Session
from src.gallery.tables import BUSY_SECONDS, FIRST_ROW, FORMAT, Tables
from src.printable import printable

_TABLES = """
CREATE TABLE gallery (
    one integer PRIMARY KEY CHECK (one = 1), format integer NOT NULL, identity text,
    calibration text, version bigint NOT NULL, next_id bigint NOT NULL, changes_from bigint NOT NULL
);
CREATE TABLE classes (id bigint PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE enrolled (
    id bigint PRIMARY KEY, class_id bigint NOT NULL REFERENCES classes, sha256 bytea NOT NULL,
    crc32 bigint NOT NULL, embedding vector NOT NULL, UNIQUE (sha256, class_id)
);
CREATE INDEX enrolled_by_class ON enrolled (class_id);
CREATE TABLE pictures (
    id bigint PRIMARY KEY REFERENCES enrolled, source text NOT NULL, time text NOT NULL,
    image bytea NOT NULL, thumbnail bytea NOT NULL
);
CREATE TABLE changes (version bigint, id bigint, PRIMARY KEY (version, id));
"""

_CONNECT_SECONDS = 10  # unless the address has `connect_timeout`
_LOCK = 0x54426763  # of the database, while a gallery is created
_MAX_INDEXED_SIZE = 2_000  # dimensions of its HNSW index
_LEAST_EF_SEARCH, _MAX_EF_SEARCH = 200, 1_000  # candidates of an approximate search
_PORT_THAT_IS_NONE = re.compile(r":(?!\d+(?:[,/]|$))[^,/]*")
_NAME = re.compile("[a-z0-9_]{1,40}")


class PostgreSQL(Tables):
    """A gallery in a PostgreSQL database."""

    def __init__(self, where: str, *, create: bool = False) -> None:
        """Connect to the database; create the gallery if it is missing and `create`.

        Args:
            where: `postgresql://user:password@host:port/database`. The parameter `gallery` chooses
                a gallery (default: `gallery`); libpq reads the others.
            create: whether to create the gallery.
        """
        self.where = without_password(where)
        base, _, query = where.partition("?")
        parameters = [item for item in query.split("&") if item]
        names = [item[8:] for item in parameters if item.startswith("gallery=")]
        name = names[-1] if names else "gallery"
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{self.where}: gallery: found '{printable(name):.60}'; accepted: 1 to 40 "
                "lower-case letters, digits and _"
            )
        self._schema = f"tripletboard_{name}"
        rest = "&".join(item for item in parameters if not item.startswith("gallery="))
        self._address = f"{base}?{rest}" if rest else base
        try:
            self._options = conninfo_to_dict(self._address)
            self._timeout = int(self._options.get("connect_timeout") or _CONNECT_SECONDS)
        except (psycopg.ProgrammingError, ValueError):  # whose message may quote the password
            raise UserError(
                f"{self.where}: not an address of PostgreSQL; accepted: "
                "postgresql://user:password@host:port/database, with %-escapes for all but letters "
                "and digits"
            ) from None
        self._idle: list[psycopg.Connection[Any]] = []
        with self._explained():
            if create:
                self._create()
            self._require_gallery()

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Begin a transaction that sees one version of the gallery."""
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as connection:
            yield PostgreSQLSession(self.where, connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Begin a transaction once no other writer is in one; an exception undoes it."""
        with self._transaction("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") as connection:
            connection.execute("SELECT version FROM gallery FOR UPDATE")
            yield PostgreSQLSession(self.where, connection)

    def replace(
        self, identity: Identity, calibration: dict[str, Any], pictures: Iterable[NewPicture]
    ) -> int:
        """Replace everything.

        Indices that do not fit are dropped in a transaction before: it keeps out all readers until
        its end, and `pictures` may read this gallery.
        """
        with self.writing() as session:
            session.fit(identity)
        return super().replace(identity, calibration, pictures)

    def create_index(self) -> None:
        """Create an HNSW index, by which `near` searches.

        Pictures that are added later are indexed too.

        Raises:
            UserError: the embeddings have more dimensions than pgvector can index.
        """
        with self.writing() as session:
            identity = read_identity(session)
            size = identity.embedding_size
            if size > _MAX_INDEXED_SIZE:
                raise UserError(
                    f"{self.where}: found embeddings of {size} dimensions; accepted: at most "
                    f"{_MAX_INDEXED_SIZE} in an index; exact search needs none"
                )
            operators = "vector_cosine_ops" if is_cosine(identity) else "vector_l2_ops"
            session.execute(
                f"CREATE INDEX IF NOT EXISTS {index_name(identity)} ON enrolled "
                f"USING hnsw ((embedding::vector({size})) {operators})"
            )

    def has_index(self) -> bool:
        """Return whether there is an index for the embeddings of now."""
        with self.reading() as session:
            return bool(
                session.execute(
                    "SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() "
                    "AND indexname = ?",
                    [index_name(read_identity(session))],
                )
            )

    def near(
        self, queries: NDArray[np.float32], count: int
    ) -> list[tuple[Embeddings, NDArray[np.int64]]]:
        """Search in the database; see `src.gallery.store.SearchesItself`."""
        with self.reading() as session:
            identity = read_identity(session)
            ef_search = min(max(_LEAST_EF_SEARCH, count), _MAX_EF_SEARCH)
            session.execute(f"SET LOCAL hnsw.ef_search = {ef_search}")
            session.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            operator = "<=>" if is_cosine(identity) else "<->"
            statement = (
                f"SELECT id FROM enrolled ORDER BY embedding::vector({identity.embedding_size}) "
                f"{operator} ? LIMIT ?"
            )
            near = [
                read_embeddings(
                    session, [id_ for (id_,) in session.execute(statement, [query, count])]
                )
                for query in queries
            ]
            sizes = class_sizes(session)
        return [
            (pictures, np.array([sizes[name] for name in pictures.class_names], np.int64))
            for pictures in near
        ]

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[psycopg.Connection[Any]]:
        """Take an idle connection, or a new one; only if all goes well it is idle again."""
        with self._explained():
            connection = self._take()
            try:
                connection.execute(begin.encode())
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()  # undoes the transaction
                self.close()  # the others may be as dead as this one
                raise
        self._idle.append(connection)

    def _take(self) -> psycopg.Connection[Any]:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> psycopg.Connection[Any]:
        """Open a connection that finds the gallery's tables and pgvector."""
        connection = self._connect_to_database()
        try:
            place = _schema_of_pgvector(connection)
            if place is None:
                raise self._without_pgvector()
            _set_path(connection, self._schema, place)
            register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _without_pgvector(self) -> UserError:
        return UserError(
            f"{self.where}: a database without pgvector; accepted: one with the extension vector "
            "0.8 or later (CREATE EXTENSION vector)"
        )

    def _connect_to_database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._address,
            autocommit=True,  # transactions begin where this module says
            connect_timeout=self._timeout,
            application_name="tripletboard",
            options=f"{self._options.get('options', '')} -c lock_timeout={BUSY_SECONDS}s",
        )

    def _create(self) -> None:
        """Create the tables, if there are none."""
        with self._connect_to_database() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            place = _schema_of_pgvector(connection)
            if place is None:
                try:
                    connection.execute("CREATE EXTENSION vector")
                except (errors.DuplicateObject, errors.FeatureNotSupported):  # too old; not there
                    raise self._without_pgvector() from None
                if (place := _schema_of_pgvector(connection)) is None:  # the server's is too old
                    raise self._without_pgvector()
            if not _has_gallery(connection, self._schema):
                connection.execute(
                    sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema))
                )
                _set_path(connection, self._schema, place)
                connection.execute(_TABLES.encode())
                connection.execute(FIRST_ROW.replace("?", "%s").encode(), [FORMAT])

    def _require_gallery(self) -> None:
        """Check that the gallery exists and has a known format."""
        with self._connect_to_database() as connection:
            if not _has_gallery(connection, self._schema):
                raise UserError(
                    f"{self.where}: no gallery; accepted: one that gallery.py build has written"
                )
            _set_path(connection, self._schema)
            found = connection.execute("SELECT format FROM gallery").fetchone()
        if found != (FORMAT,):
            raise UserError(
                f"{self.where}: a gallery of format {found and found[0]}; accepted: format "
                f"{FORMAT}, which this version reads and writes"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of the server and the connection into `UserError`; not those of a bug."""
        try:
            yield
        except errors.LockNotAvailable:
            raise UserError(
                f"{self.where}: another program is writing, nothing was changed; accepted: one "
                "writer at a time; try again when it is done"
            ) from None
        except (errors.DataCorrupted, errors.IndexCorrupted, errors.UndefinedTable) as error:
            raise Damaged.of(self.where, self._reason(error)) from None
        except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
            raise UserError(
                f"{self.where}: {self._reason(error)}; accepted: a user and a server that may"
            ) from None
        except errors.DiskFull:
            raise UserError(
                f"{self.where}: the server's disk is full, nothing was changed; accepted: a disk "
                "with room"
            ) from None
        except psycopg.OperationalError as error:
            raise UserError(
                f"{self.where}: {self._reason(error)}; accepted: a server that answers"
            ) from None

    def _reason(self, error: psycopg.Error) -> str:
        """Return an error's message as one line, without the password."""
        text = " ".join(str(error).split())
        password = self._options.get("password")
        return printable(text.replace(str(password), "***") if password else text)


def without_password(address: str) -> str:
    """Return an address of PostgreSQL for messages: user, host, port, database and gallery."""
    scheme, _, rest = address.partition("://")
    # Everything from the first colon to the last @ may belong to a password with odd characters.
    login, at, place = rest.rpartition("@")
    user = login.partition(":")[0]
    host, _, query = place.partition("?")
    host = _PORT_THAT_IS_NONE.sub("", host)  # without an @ it is the password
    names = [item for item in query.split("&") if item.startswith("gallery=")]
    return printable(f"{scheme}://{user}{at}{host}{'?' + names[-1] if names else ''}")


def _set_path(connection: psycopg.Connection[Any], *schemas: str) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, schemas))
    connection.execute(sql.SQL("SET search_path TO {}").format(names))


def _has_gallery(connection: psycopg.Connection[Any], schema: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", [f"{schema}.gallery"]).fetchone()
    return row is not None and row[0] is not None


def _schema_of_pgvector(connection: psycopg.Connection[Any]) -> str | None:
    """Return the schema of the extension; None if it is missing, or older than 0.8."""
    row = connection.execute(
        "SELECT nspname, extversion FROM pg_extension "
        "JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
    ).fetchone()
    if row is None or tuple(map(int, row[1].split(".")[:2])) < (0, 8):
        return None
    return str(row[0])
