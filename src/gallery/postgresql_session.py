"""A transaction with a gallery in PostgreSQL, and pgvector's part in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

from src.distance import DISTANCES
from src.errors import UserError
from src.gallery.record import Identity
from src.gallery.session import Session

_TYPES = {
    "enrolled": ("int8", "int8", "bytea", "int8", "vector"),
    "pictures": ("int8", "text", "text", "bytea", "bytea"),
    "classes": ("int8", "text"),
    "changes": ("int8", "int8"),
}
"""The types of the columns, in their order, for binary COPY."""

_MAX_SIZE = 16_000  # dimensions of pgvector's `vector`


class PostgreSQLSession(Session):
    """A transaction with a gallery in PostgreSQL."""

    embedding_column = "vector_send(embedding)"  # much faster than to convert each by itself

    def __init__(self, where: str, connection: psycopg.Connection[Any]) -> None:
        """Use a connection in a transaction."""
        self.where = where
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement, and return its rows."""
        cursor = self._connection.cursor(binary=True)
        cursor.execute(sql.replace("?", "%s").encode(), parameters)
        return cursor.fetchall() if cursor.description else []

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows by binary COPY."""
        statement = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
        with self._connection.cursor().copy(statement.encode()) as copy:
            copy.set_types(_TYPES[table])
            for row in rows:
                copy.write_row(row)

    def encode(self, embedding: NDArray[np.float32]) -> Any:
        """Return the array itself, which pgvector registered."""
        return embedding

    def decode(self, stored: Sequence[bytes], size: int) -> NDArray[np.float32]:
        """Return float32 [N, D] from what `vector_send` returns."""
        # two bytes for D, two unused, then D big-endian numbers
        if any(len(value) != 4 + 4 * size for value in stored):
            raise ValueError
        numbers = np.frombuffer(b"".join(stored), ">f4").reshape(-1, 1 + size)
        return numbers[:, 1:].astype(np.float32)

    def fit(self, identity: Identity) -> None:
        """Drop indices that do not fit the embeddings of a network."""
        if identity.embedding_size > _MAX_SIZE:
            raise UserError(
                f"{self.where}: found embeddings of {identity.embedding_size} dimensions; "
                f"accepted: at most {_MAX_SIZE} in PostgreSQL"
            )
        rows = self.execute(
            "SELECT indexname FROM pg_indexes "
            "WHERE schemaname = current_schema() AND starts_with(indexname, 'nearest_')"
        )
        for (name,) in rows:
            if name != index_name(identity):  # it takes no embeddings of another size
                self.execute(f"DROP INDEX {name}")

    def damage(self) -> list[str]:
        """Return nothing: the server checks its pages when it reads them."""
        return []


def is_cosine(identity: Identity) -> bool:
    """Return whether pgvector has to compare the directions of embeddings."""
    return DISTANCES[identity.distance].compares_directions


def index_name(identity: Identity) -> str:
    """Return the name of the index for the embeddings of a network."""
    kind = "cosine" if is_cosine(identity) else "l2"
    return f"nearest_{kind}_{identity.embedding_size}"
