"""A transaction with a gallery's database: what differs between SQLite and PostgreSQL."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.gallery.record import Identity

_LIST_SIZE = 500  # parameters of one statement; old SQLite takes at most 999


class Damaged(UserError):
    """What the database returned is not what was stored."""

    @classmethod
    def of(cls, where: str, what: str) -> "Damaged":
        """Return the error for the gallery at an address."""
        return cls(
            f"{where}: damaged: {what}; accepted: a whole gallery (gallery.py check lists what is "
            "damaged; build it anew, or copy it from elsewhere)"
        )


class Session(ABC):
    """A connection within a transaction.

    Attributes:
        where: the gallery's address, for messages.
        embedding_column: SQL that yields an embedding as `decode` reads it.
    """

    where: str
    embedding_column: str

    @abstractmethod
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement whose parameters stand as `?`, and return the rows that it yields."""

    @abstractmethod
    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows into a table."""

    @abstractmethod
    def encode(self, embedding: NDArray[np.float32]) -> Any:
        """Return the value that stores an embedding, float32 [D]."""

    @abstractmethod
    def decode(self, stored: Sequence[bytes], size: int) -> NDArray[np.float32]:
        """Return float32 [N, D] from N values of `embedding_column`.

        Raises:
            TypeError, ValueError: a value is not one of `size` numbers.
        """

    @abstractmethod
    def fit(self, identity: Identity) -> None:
        """Prepare the empty tables for the embeddings of a network.

        Raises:
            UserError: the database cannot hold them.
        """

    @abstractmethod
    def damage(self) -> list[str]:
        """Return what the database itself finds damaged, one line for each problem."""

    def execute_in(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Run a statement that ends with a column, for the rows with these values there."""
        found = []
        for start in range(0, len(values), _LIST_SIZE):
            block = values[start : start + _LIST_SIZE]
            found += self.execute(f"{sql} IN ({', '.join('?' * len(block))})", block)
        return found

    def damaged(self, what: str) -> Damaged:
        """Return the error for a gallery that is not whole."""
        return Damaged.of(self.where, what)
