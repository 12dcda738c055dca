"""A gallery in a file: disks that are full or read-only, and files that are no gallery."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from galleries import IDENTITY, digest, picture
from mounts import ROOT, needs_mounts, run_mounted

from src.errors import UserError
from src.gallery import sqlite
from src.gallery.store import open_store

# Adds pictures to the gallery that is its argument, until that fails or all are there.
FILL = """
import sys
sys.path[:0] = ["tests"]
from galleries import IDENTITY, picture
from src.gallery.store import open_store
from src.system.cli import run
def main():
    with open_store(sys.argv[1]) as store:
        {command}
run(main)
"""
ADD = "for n in range(0, 10_000, 20): store.add(IDENTITY, [picture(n + k) for k in range(20)])"
REPLACE = "store.replace(IDENTITY, {}, (picture(n) for n in range(40_000)))"
READ = "print(len(store.embeddings().ids), len(list(store.iterate())), store.check())"


def script(command):
    return FILL.format(command=command)


@pytest.fixture
def path(tmp_path):
    """A closed gallery of three pictures."""
    (tmp_path / "disk").mkdir()
    path = tmp_path / "disk/gallery.sqlite"
    with open_store(path, create=True) as store:
        store.replace(IDENTITY, {}, [picture(10_000 + number) for number in range(3)])
    return path


def read_all(path):
    with open_store(path) as store:
        assert store.check() == []
        return digest(store.iterate())


def test_a_closed_gallery_is_one_file_in_wal_mode(path):
    assert [entry.name for entry in path.parent.iterdir()] == ["gallery.sqlite"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@needs_mounts
@pytest.mark.parametrize(("command", "is_whole"), [(ADD, True), (REPLACE, False)])
def test_a_full_disk(path, tmp_path, command, is_whole):
    before, copy = read_all(path), tmp_path / "copy"
    copy.mkdir()
    done = run_mounted(
        path.parent,
        "tmpfs",
        [sys.executable, "-c", script(command), path],
        afterwards=f"cp -a . {copy}",
        size="3m",
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {path}: the disk is full (")
    assert line.endswith("nothing was changed; accepted: a disk with room")
    with open_store(copy / path.name) as store:
        assert store.check() == []
        if is_whole:  # the commands before the last are there, each with all of its pictures
            count = len(store.embeddings().ids)
            assert count > 100
            assert count % 20 == 3
        else:
            assert digest(store.iterate()) == before


@needs_mounts
def test_a_gallery_that_nobody_can_write_is_read(path):
    done = run_mounted(path.parent, "read-only", [sys.executable, "-c", script(READ), path])
    assert (done.returncode, done.stdout, done.stderr) == (0, "3 3 []\n", "")
    done = run_mounted(path.parent, "read-only", [sys.executable, "-c", script(ADD), path])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert f"{path}: read-only; accepted: a file and folder that this user may write" in done.stderr


@needs_mounts
def test_a_gallery_that_nobody_can_write_and_was_not_closed_is_refused(path):
    """What is in its WAL could not be read, so it would be an old version."""
    _kill_after_adding(path)
    done = run_mounted(path.parent, "read-only", [sys.executable, "-c", script(READ), path])
    if done.returncode == 0:  # this SQLite reads the WAL nevertheless
        assert done.stdout == "4 4 []\n"
    else:
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "cannot be opened; accepted: a file that this user may read" in done.stderr
    with open_store(path) as store:
        assert len(store.embeddings().ids) == 4


def _kill_after_adding(path):
    code = script("store.add(IDENTITY, [picture(1)]); import os; os.kill(os.getpid(), 9)")
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.with_name("gallery.sqlite-wal").stat().st_size > 0


def test_a_gallery_that_changes_while_it_is_read_as_read_only(path, monkeypatch):
    with open_store(path) as reader:
        reader.close()
        monkeypatch.setattr(reader, "_mode", sqlite._STILL)
        reading = reader.iterate()
        next(reading)
        with open_store(path) as writer:
            writer.add(IDENTITY, [picture(1)])
        with pytest.raises(UserError, match="changed while it was read; accepted: another try"):
            list(reading)


def test_a_program_killed_while_it_creates_a_gallery_leaves_none_or_a_whole_one(tmp_path):
    """An empty file, and a database without tables, are what it can leave."""
    path = tmp_path / "gallery.sqlite"
    path.touch()
    with pytest.raises(UserError, match="no gallery"):
        open_store(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    with pytest.raises(UserError, match="no gallery"):
        open_store(path)
    with open_store(path, create=True) as store:
        store.replace(IDENTITY, {}, [picture(1)])
    read_all(path)


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" * 50, b"x", b"SQLite format 3\0"])
def test_a_file_that_is_no_database(tmp_path, content, create):
    path = tmp_path / "gallery.sqlite"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"not a SQLite database; accepted: a gallery"):
        open_store(path, create=create)
    assert path.read_bytes() == content


@pytest.mark.parametrize("create", [False, True])
def test_a_database_of_another_program(tmp_path, create):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE gallery (format)")
    content = path.read_bytes()
    with pytest.raises(UserError, match="a database of another kind; accepted: a gallery"):
        open_store(path, create=create)
    assert path.read_bytes() == content


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i FROM n) SELECT i AS format FROM n"
CODE = {
    "view": f"ALTER TABLE gallery RENAME TO other; CREATE VIEW gallery AS {ENDLESS}",
    "trigger": "CREATE TRIGGER t AFTER INSERT ON classes BEGIN DELETE FROM enrolled; END",
    **{
        kind: "CREATE TABLE v (text); PRAGMA writable_schema = ON; UPDATE sqlite_master SET "
        f"sql = '{sql} TABLE v USING some_module(text)', rootpage = 0 WHERE name = 'v'"
        for kind, sql in (("virtual table", "CREATE VIRTUAL"), ("disguised", "CREATE  VIRTUAL"))
    },
}


@pytest.mark.parametrize("kind", CODE)
def test_sql_that_would_run_is_refused(path, kind):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(CODE[kind])
    for create in (False, True):
        with pytest.raises(UserError, match="found a view, a trigger or a virtual table; accepted"):
            open_store(path, create=create)


def test_a_folder_and_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="not a file; accepted: the file of a gallery"):
            open_store(path, create=True)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="one of its folders is a file; accepted: a folder"):
        open_store(tmp_path / "file/gallery.sqlite", create=True)


@pytest.mark.parametrize("name", ["a?mode=memory#%20 b.sqlite", "caf\udce9.sqlite", "x/y/z"])
def test_any_name_a_file_can_have(tmp_path, name):
    path = tmp_path / name
    with open_store(path, create=True) as store:
        store.replace(IDENTITY, {}, [picture(1)])
    assert path.is_file()
    read_all(path)


def _commands():
    return [
        lambda store: store.classes(),
        lambda store: store.embeddings(),
        lambda store: list(store.iterate()),
        lambda store: store.check(),
        lambda store: store.add(IDENTITY, [picture(5)]),
        lambda store: store.move(3, "b"),
        lambda store: store.remove_class("a"),
        lambda store: store.replace(IDENTITY, {}, [picture(6)]),
    ]


def test_damage_in_the_middle_of_the_file(tmp_path):
    """Every command does what it should, or says in one line what is wrong."""
    whole = tmp_path / "whole.sqlite"
    with open_store(whole, create=True) as store:
        store.replace(IDENTITY, {}, [picture(number, f"c{number % 3}") for number in range(300)])
    rng = random.Random(1)
    refused = checked = 0
    content = whole.read_bytes()
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 30])):
            start = rng.randrange(len(content))
            damaged[start : start + 64] = rng.randbytes(64)[: len(content) - start]
        path = tmp_path / "damaged.sqlite"
        path.write_bytes(damaged)
        try:
            with open_store(path) as store:
                checked += bool(store.check())
        except UserError:
            checked += 1
        for command in _commands():
            path.write_bytes(damaged)
            try:
                with open_store(path) as store:
                    command(store)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error)
                assert str(path) in str(error)
            for leftover in tmp_path.glob("damaged.sqlite-*"):
                leftover.unlink()
    assert checked > 40
    assert refused > 60


def test_a_truncated_file(path):
    with open(path, "r+b") as file:
        file.truncate(3 * 4096)
    with pytest.raises(UserError, match="damaged: .*malformed; accepted: a whole gallery"):
        read_all(path)


def test_a_copied_gallery_is_a_gallery(path, tmp_path):
    shutil.copy(path, tmp_path / "copy")
    assert read_all(path) == read_all(tmp_path / "copy")


@pytest.mark.usefixtures("obeys_permissions")
def test_a_write_protected_file(path):
    path.chmod(0o444)
    with open_store(path) as store, pytest.raises(UserError, match="read-only"):
        store.add(IDENTITY, [picture(1)])
