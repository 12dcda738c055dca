"""A gallery in PostgreSQL: addresses, servers that do not answer, and search in the database."""

import dataclasses
import socket
import sys

import numpy as np
import pytest
from galleries import IDENTITY, digest, picture
from gallery_experiment import CALIBRATION, quadrant, write_gallery

import gallery as gallery_program
from src.distance import DISTANCES
from src.errors import UserError
from src.gallery import Gallery
from src.gallery.postgresql import without_password
from src.gallery.store import SearchesItself, open_store
from src.mining.distances import paired_distances

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is missing")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me@host:5432/db"),
        ("postgresql://me:secret@host/db?gallery=x", "postgresql://me@host/db?gallery=x"),
        ("postgresql://me@host/db?password=secret&gallery=x", "postgresql://me@host/db?gallery=x"),
        ("postgresql://me:sec/ret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:sec?ret@host/db", "postgresql://me@host/db"),
        ("postgresql://me:sec@secret@host/db", "postgresql://me@host/db"),
        ("postgresql://a,b/db", "postgresql://a,b/db"),
        ("postgresql://a:1,b:2/db", "postgresql://a:1,b:2/db"),
        ("postgresql://me:secret/db", "postgresql://me/db"),
        ("postgresql:///db?host=/run", "postgresql:///db"),
        ("postgresql://me:secret@ho\nst/db", "postgresql://me@ho\\nst/db"),
    ],
)
def test_addresses_are_shown_without_password(address, shown):
    assert without_password(address) == shown


@pytest.fixture
def silent():
    """The port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_does_not_answer(silent):
    with pytest.raises(UserError, match=r"timeout.*; accepted: a server that answers") as caught:
        open_store(f"postgresql://me:secret@127.0.0.1:{silent}/db?connect_timeout=2")
    _is_one_line_without(caught, "secret")


def test_a_server_that_is_not_there(silent):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UserError, match=r"refused.*; accepted: a server that answers") as caught:
        open_store(f"postgresql://me:secret@127.0.0.1:{port}/db", create=True)
    _is_one_line_without(caught, "secret")


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:sec%ret@host/db",
        "postgresql://me:sec:ret@host:port/db",
        "postgresql://me:secret/db",
        "postgresql://me:secret@host/db?colour=secret",
        "postgresql://me@host/db?password=secret&connect_timeout=secret",
        "postgresql://me:secret@host/db?gallery=",
        "postgresql://me:secret@[::1/db",
    ],
)
def test_addresses_that_are_none(address):
    with pytest.raises(UserError, match="accepted: ") as caught:
        open_store(address)
    _is_one_line_without(caught, "secret")
    assert "sec%ret" not in str(caught.value)


def _is_one_line_without(caught, word):
    assert "\n" not in str(caught.value)
    assert word not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", ["A", "x-y", "x" * 41, '"; drop table x'])
def test_names_of_galleries(name):
    with pytest.raises(UserError, match="gallery: found .*; accepted: 1 to 40 lower-case letters"):
        open_store(f"postgresql://host/db?gallery={name}")


def test_galleries_share_a_database(postgresql):
    with (
        open_store(f"{postgresql}&gallery=one", create=True) as one,
        open_store(f"{postgresql}&gallery=two", create=True) as two,
        open_store(postgresql, create=True) as unnamed,
    ):
        for number, store in enumerate((one, two, unnamed)):
            store.replace(IDENTITY, {}, [picture(number)])
        for number, store in enumerate((one, two, unnamed)):
            assert digest(store.iterate()) == digest([picture(number)])


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in ("src.gallery.postgresql", "src.gallery.postgresql_session"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=r'accepted: .*pip install ".\[postgres\]"'):
        open_store("postgresql://host/db")


def test_a_user_without_rights(postgresql_gallery):
    with open_store(postgresql_gallery, create=True) as store:
        store.replace(IDENTITY, {}, [picture(1)])
        with store.writing() as session:
            session.execute("DROP ROLE IF EXISTS guest")
            session.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
    guest = postgresql_gallery.replace("postgres:@", "guest:secret@")
    assert guest != postgresql_gallery
    with pytest.raises(UserError, match="permission denied .*; accepted: a user and a server"):
        open_store(guest)
    with pytest.raises(UserError, match="permission denied .*; accepted: a user and a server"):
        open_store(guest.replace("gallery=", "gallery=new_"), create=True)


def test_pgvector_may_lie_in_any_schema(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS other")
        connection.execute("CREATE DATABASE other")
    other = postgresql.replace("/postgres?", "/other?")
    assert other != postgresql
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA extensions")
        connection.execute("CREATE EXTENSION vector SCHEMA extensions")
    with open_store(other, create=True) as store:
        store.replace(IDENTITY, {}, [picture(1)])
        assert digest(store.iterate()) == digest([picture(1)])
    with psycopg.connect(other, autocommit=True) as connection:
        connection.execute("DROP EXTENSION vector CASCADE")
    with open_store(other) as store, pytest.raises(UserError, match="without pgvector"):
        store.classes()


@pytest.mark.parametrize("error", ["DuplicateObject", "FeatureNotSupported"])
def test_a_server_whose_pgvector_is_too_old_or_missing(postgresql, error, monkeypatch):
    """Such servers are not at hand: the extension cannot be created, as they say it."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS without")
        connection.execute("CREATE DATABASE without")
    execute = psycopg.Connection.execute

    def refusing(self, query, *arguments, **options):
        if query == "CREATE EXTENSION vector":
            raise getattr(psycopg.errors, error)("no")
        return execute(self, query, *arguments, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", refusing)
    with pytest.raises(UserError, match="without pgvector; accepted: one with the extension"):
        open_store(postgresql.replace("/postgres?", "/without?"), create=True)


def test_a_lost_connection_is_one_error_and_then_a_new_connection(postgresql, postgresql_gallery):
    with open_store(postgresql_gallery, create=True) as store:
        store.replace(IDENTITY, {}, [picture(1)])
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'tripletboard'"
            )
        with pytest.raises(UserError, match="; accepted: a server that answers"):
            store.add(IDENTITY, [picture(2)])
        assert len(store.add(IDENTITY, [picture(2)])) == 1
        assert len(store.embeddings().ids) == 2


def test_larger_embeddings_than_pgvector_keeps(postgresql_gallery):
    with open_store(postgresql_gallery, create=True) as store:
        largest = dataclasses.replace(IDENTITY, embedding_size=16_000)
        store.replace(largest, {}, [picture(1, identity=largest)])
        assert store.embeddings().embeddings.shape == (1, 16_000)
        with pytest.raises(UserError, match="16000 dimensions; accepted: at most 2000 in an index"):
            store.create_index()
        with pytest.raises(UserError, match="16001 dimensions; accepted: at most 16000"):
            store.replace(dataclasses.replace(IDENTITY, embedding_size=16_001), {}, [])
        assert store.identity() == largest


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_database_finds_the_nearest(postgresql_gallery, distance):
    identity = dataclasses.replace(IDENTITY, distance=distance)
    queries = np.stack([picture(number).embedding for number in range(900, 910)])
    with open_store(postgresql_gallery, create=True) as store:
        assert isinstance(store, SearchesItself)
        store.replace(identity, {}, [picture(number) for number in range(400)])
        assert not store.has_index()
        store.create_index()
        store.create_index()
        assert store.has_index()
        whole = store.embeddings()
        counts = dict(store.classes())
        for query in queries:
            apart = paired_distances(query[None], whole.embeddings, distance)
            expected = whole.ids[np.argsort(apart)[:7]]
            ((found, sizes),) = store.near(query[None], 7)
            assert len(found.ids) == 7
            assert len(np.intersect1d(found.ids, expected)) >= 6
            assert sizes.tolist() == [counts[name] for name in found.class_names]
            rows = np.searchsorted(whole.ids, found.ids)
            np.testing.assert_array_equal(found.embeddings, whole.embeddings[rows])
        together = [found.ids.tolist() for found, _ in store.near(queries, 7)]
        assert together == [store.near(query[None], 7)[0][0].ids.tolist() for query in queries]
        assert [len(found.ids) for found, _ in store.near(queries, 1000)] == [400] * 10


def test_the_index_is_used_and_follows_the_gallery(postgresql_gallery):
    with open_store(postgresql_gallery, create=True) as store:
        store.replace(IDENTITY, {}, [picture(number) for number in range(2000)])
        store.create_index()
        (added,) = store.add(IDENTITY, [picture(5000, "new")])
        ((found, sizes),) = store.near(picture(5000).embedding[None], 1)
        assert found.ids.tolist() == [added.id]
        assert sizes.sum() == 2001
        with store.writing() as session:
            session.execute("ANALYZE enrolled")
            plan = session.execute(
                "EXPLAIN SELECT id FROM enrolled ORDER BY embedding::vector(8) <-> ? LIMIT 5",
                [picture(5000).embedding],
            )
        assert "nearest_l2_8" in str(plan)
        smaller = dataclasses.replace(IDENTITY, embedding_size=3)
        store.replace(smaller, {}, [picture(1, identity=smaller)])
        assert not store.has_index()  # it was for other embeddings
        ((found, _),) = store.near(picture(1, identity=smaller).embedding[None], 5)
        assert len(found.ids) == 1


def test_a_gallery_with_an_index_can_be_rebuilt_from_itself(postgresql_gallery):
    """To drop an index keeps out readers, and the pictures are read while they are written."""
    other = dataclasses.replace(IDENTITY, embedding_size=3)
    with open_store(postgresql_gallery, create=True) as store:
        store.replace(IDENTITY, {}, [picture(number) for number in range(9)])
        store.create_index()
        kept = (picture(int(one.source[9:-4]), identity=other) for one in store.iterate())
        assert store.replace(other, {}, kept) == 9
        assert store.identity() == other and not store.has_index()


def test_no_queries_and_no_pictures(postgresql_gallery):
    with open_store(postgresql_gallery, create=True) as store:
        store.replace(IDENTITY, {}, [])
        near = store.near(np.zeros((2, 8), np.float32), 5)
        assert [len(found.ids) for found, _ in near] == [0, 0]
        store.add(IDENTITY, [picture(1)])
        assert store.near(np.zeros((0, 8), np.float32), 5) == []


def test_an_index_of_no_gallery_is_not_called_damage(postgresql_gallery):
    with (
        open_store(postgresql_gallery, create=True) as store,
        pytest.raises(UserError, match=r"an empty gallery; accepted: one that was built$"),
    ):
        store.create_index()


def test_means_are_not_searched_by_the_index(postgresql_gallery, tmp_path, monkeypatch):
    monkeypatch.setitem(CALIBRATION["open_set"], "class_by", "class_mean")
    experiment = write_gallery(tmp_path / "x", monkeypatch)
    with Gallery(experiment.model_dir) as gallery:
        gallery.add("one", quadrant(0)[None])
    gallery_program.main(["copy", str(experiment.gallery_path), postgresql_gallery])
    where = ["--model_dir", str(experiment.model_dir), "--gallery", postgresql_gallery]
    gallery_program.main(["index", *where])
    with pytest.raises(UserError, match="names classes by their means; accepted: "):
        Gallery(experiment.model_dir, postgresql_gallery, approximate=True)


def test_queries_by_the_index(postgresql_gallery, tmp_path, monkeypatch, capsys):
    """Created by the program; answers are those of the exact search."""
    experiment = write_gallery(tmp_path / "x", monkeypatch)
    images = np.stack([quadrant(number % 4, seed=number) for number in range(60)])
    with Gallery(experiment.model_dir) as gallery:
        for position in range(4):
            gallery.add(f"class {position}", images[position::4])
    source = str(experiment.gallery_path)
    gallery_program.main(["copy", source, postgresql_gallery])
    at = ["--model_dir", str(experiment.model_dir), "--gallery", postgresql_gallery]
    with pytest.raises(UserError, match="has no index; accepted: a gallery in PostgreSQL"):
        Gallery(experiment.model_dir, postgresql_gallery, approximate=True)
    with pytest.raises(UserError, match="found the file .*; accepted: postgresql://"):
        gallery_program.main(["index", "--model_dir", str(experiment.model_dir)])
    gallery_program.main(["index", *at])
    assert "query.py --approximate" in capsys.readouterr().out
    asked = np.stack([quadrant(number % 4, seed=900 + number) for number in range(8)])
    with (
        Gallery(experiment.model_dir, postgresql_gallery) as exact,
        Gallery(experiment.model_dir, postgresql_gallery, approximate=True) as approximate,
    ):
        monkeypatch.setattr(approximate, "snapshot", None)  # it does not read all pictures
        assert approximate.query(asked) == exact.query(asked)
