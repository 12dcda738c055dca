"""Files of every kind where a regular one is expected: an answer at once, and never too much."""

import os
import socket
import time
from pathlib import Path

import pytest

from src.errors import UserError
from src.system.regular_file import open_regular, open_to_append, read_regular


def test_a_file_and_a_link_to_one(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file", 7) == b"content"
    assert read_regular(tmp_path / "link", 100) == b"content"
    (tmp_path / "large").write_bytes(content := os.urandom(3 * 2**20 + 1))
    assert read_regular(tmp_path / "large", 2**24) == content


def test_nothing(tmp_path):
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("nothing", "dangling", "no/folder"):
        with pytest.raises(FileNotFoundError):
            read_regular(tmp_path / name, 10)


def fifo(path):
    os.mkfifo(path)


def a_socket(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


KINDS = {
    "a directory": lambda path: path.mkdir(),
    "a named pipe": fifo,
    "a socket": a_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_anything_else(tmp_path, kind):
    path = tmp_path / "file"
    KINDS[kind](path)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        read_regular(path, 10)
    assert str(caught.value) == f"{path}: {kind}; accepted: a regular file"
    assert time.monotonic() - started < 1


def test_what_another_file_becomes_between_looking_and_opening(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"")
    before = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda path: before)
    with pytest.raises(UserError, match="a named pipe"), open_regular(path):
        pass


def test_too_large(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"eightchr")
    assert read_regular(path, 8) == b"eightchr"
    with pytest.raises(UserError, match="file: 8 bytes or more; accepted: at most 7$"):
        read_regular(path, 7)
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(UserError, match=r"1,099,511,627,776 bytes or more; accepted: at most 7$"):
        read_regular(path, 7)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_more_than_the_size_says():
    assert os.stat("/proc/self/maps").st_size == 0
    assert len(read_regular(Path("/proc/self/maps"), 2**24)) > 100
    with pytest.raises(UserError, match="bytes or more; accepted: at most 100"):
        read_regular(Path("/proc/self/maps"), 100)


@pytest.mark.parametrize("name", ["a\0b", "a\udc80b\ud800", "x" * 300, "file/below", "loop"])
def test_names_that_cannot_be_opened(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as caught:
        read_regular(tmp_path / name, 10)
    text = str(caught.value)
    assert text.isprintable() and "; accepted: a regular file that this user may read" in text


@pytest.mark.usefixtures("obeys_permissions")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "file").chmod(0)
    with pytest.raises(UserError, match="Permission denied; accepted: "):
        read_regular(tmp_path / "file", 10)


def test_what_is_appended(tmp_path):
    for content in (b"one", b"two"):
        with open_to_append(tmp_path / "log") as file:
            file.write(content)
    assert (tmp_path / "log").read_bytes() == b"onetwo"


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "a device"), "a link"])
def test_nothing_is_appended_to_anything_else(tmp_path, kind):
    path, outside = tmp_path / "log", tmp_path / "outside"
    outside.write_text("precious")
    {**KINDS, "a link": lambda path: path.symlink_to(outside)}[kind](path)
    with pytest.raises(UserError) as caught, open_to_append(path):
        pass
    found = "a symbolic link" if kind == "a link" else kind
    assert str(caught.value) == f"{path}: {found}; accepted: a regular file"
    assert outside.read_text() == "precious"


def test_a_log_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="file/log: one of its folders is a file; accepted: "),
        open_to_append(tmp_path / "file" / "log"),
    ):
        pass
