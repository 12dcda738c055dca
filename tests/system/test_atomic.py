"""Files that are complete or absent, whatever happens while they are written."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from mounts import needs_mounts, run_mounted

from src.errors import UserError
from src.system import atomic, flock
from src.system.atomic import atomic_write

ROOT = Path(__file__).parents[2]


class Stop(Exception):
    """What ends a block in the middle."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_file(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new\r\n\x00")
    assert path.read_bytes() == b"new\r\n\x00"
    assert names(tmp_path) == ["file"]


def test_the_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_reader_sees_the_old_file_until_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_new_file_is_absent_until_the_end(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_exception_leaves_no_new_file(tmp_path):
    with pytest.raises(Stop), atomic_write(tmp_path / "file") as file:
        file.write(b"half")
        raise Stop
    assert names(tmp_path) == []


def test_missing_folders_are_created(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_the_temporary_file_is_hidden_and_beside_the_file(tmp_path):
    # Beside it, for a rename works within one file system only.
    path = tmp_path / "metrics.json"
    with atomic_write(path):
        (temporary,) = names(tmp_path)
    assert temporary.startswith(".") and not temporary.endswith(".json")


def test_a_folder_of_the_same_name_is_not_replaced(tmp_path):
    path = tmp_path / "file"
    path.mkdir()
    with (
        pytest.raises(UserError, match="file: found a directory; accepted: "),
        atomic_write(path) as file,
    ):
        file.write(b"new")
    assert path.is_dir()
    assert names(tmp_path) == ["file"]


def test_below_a_file_there_is_no_place(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    path = tmp_path / "file" / "new"
    with pytest.raises(UserError, match="one of its folders is a file"), atomic_write(path):
        pass
    assert (tmp_path / "file").read_bytes() == b"old"


HALF = (
    "import sys, time; from pathlib import Path; from src.system.atomic import atomic_write\n"
    "with atomic_write(Path(sys.argv[1])) as file:\n"
    "    file.write(b'half'); file.flush(); print('ready', flush=True); sys.stdin.read()"
)


@contextmanager
def writer_of(path):
    """Another process in the middle of writing `path`, with the name of its temporary file."""
    before = set(names(path.parent))
    with subprocess.Popen(
        [sys.executable, "-c", HALF, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        (name,) = set(names(path.parent)) - before
        try:
            yield process, name
        finally:
            process.kill()


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def leave(path, *, age=0.0):
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)


DAY = 24 * 60 * 60


def test_what_a_living_process_writes_is_left_to_it(tmp_path):
    path = tmp_path / "metrics.json"
    with writer_of(path) as (process, temporary):
        os.utime(tmp_path / temporary, (1, 1))  # however long ago it has written
        write(path)
        assert temporary in names(tmp_path)
        process.communicate(b"")
        assert process.returncode == 0
    assert path.read_bytes() == b"half" and names(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_what_a_killed_process_wrote_is_removed(tmp_path, number):
    path = tmp_path / "metrics.json"
    path.write_bytes(b"old")
    with writer_of(path) as (process, temporary):
        process.send_signal(number)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == sorted([temporary, "metrics.json"])
    write(tmp_path / "metrics.json.gz")  # another file's
    assert temporary in names(tmp_path)
    write(path)
    assert path.read_bytes() == b"new" and temporary not in names(tmp_path)


def test_a_link_of_the_name_of_a_leftover_is_not_followed(tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.write_text("whole")
    with writer_of(tmp_path / "file") as (process, temporary):
        process.kill()
    (tmp_path / temporary).unlink()
    link = tmp_path / temporary
    link.symlink_to(other)
    opened = []
    monkeypatch.setattr(atomic, "try_flock", lambda descriptor: opened.append(descriptor) or True)
    write(tmp_path / "file")
    assert len(opened) == 1  # its own
    assert link.is_symlink() and other.read_text() == "whole"


def test_files_of_another_machine_are_removed_after_a_day(tmp_path):
    """Its locks may not be seen here. Those of earlier versions had a number alone."""
    path = tmp_path / "metrics.json"
    for name in ("0123abcd-00ff", "9019"):
        leave(tmp_path / f".metrics.json.{name}.tmp", age=DAY - 60)
        leave(tmp_path / f".metrics.json.{name}0.tmp", age=DAY + 60)
        leave(tmp_path / f".other.json.{name}.tmp", age=DAY + 60)
    leave(tmp_path / ".metrics.json.tmp", age=DAY + 60)
    write(path)
    assert names(tmp_path) == [
        ".metrics.json.0123abcd-00ff.tmp",
        ".metrics.json.9019.tmp",
        ".metrics.json.tmp",
        ".other.json.0123abcd-00ff.tmp",
        ".other.json.9019.tmp",
        "metrics.json",
    ]


def test_without_locks_age_alone_tells(tmp_path, monkeypatch):
    def flock(descriptor, operation):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    path = tmp_path / "metrics.json"
    with writer_of(path) as (process, new):
        process.kill()
    leave(tmp_path / f"{new.removesuffix('.tmp')}0.tmp", age=DAY + 60)
    monkeypatch.setattr(fcntl, "flock", flock)
    write(path)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == sorted([new, "metrics.json"])


def test_two_containers_write_one_file(tmp_path, monkeypatch):
    """Each is process 1 of a host of the same name."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(socket, "gethostname", lambda: "host")
    path = tmp_path / "metrics.json"
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write(b"one")
        other.write(b"other")
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == b"one" and names(tmp_path) == ["metrics.json"]


def test_a_file_removed_before_it_is_locked_is_created_again(tmp_path, monkeypatch):
    """By another process, which has taken it for a leftover."""
    removed = []

    def try_flock(descriptor):
        if not removed:
            (name,) = names(tmp_path)
            (tmp_path / name).unlink()
            removed.append(name)
        return flock.try_flock(descriptor)

    monkeypatch.setattr(atomic, "try_flock", try_flock)
    write(tmp_path / "file")
    assert removed and names(tmp_path) == ["file"]


def test_many_write_one_file_at_once_and_some_are_killed(tmp_path):
    path = tmp_path / "file"
    code = (
        "import sys; from pathlib import Path; from src.system.atomic import atomic_write\n"
        "print(flush=True)\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    with atomic_write(Path(sys.argv[1])) as file:\n"
        "        file.write(b'x' * 10000)"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, path, count], cwd=ROOT, stdout=subprocess.PIPE
        )
        for count in ("150", "150", "100000")
    ]
    for process in writers:
        process.stdout.readline()
    time.sleep(0.05)
    writers[2].kill()
    for process in writers:
        process.communicate()
    assert [process.returncode for process in writers] == [0, 0, -signal.SIGKILL]
    write(path, path.read_bytes())
    assert path.read_bytes() == b"x" * 10000 and names(tmp_path) == ["file"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_what_a_full_disk_is_called(tmp_path, monkeypatch, number):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(UserError) as caught, atomic_write(tmp_path / "file") as file:
        file.write(b"x" * 12345)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/file: the disk is full: it takes 12,345 bytes or more, ")
    assert text.endswith(" are free; accepted: a disk with more free space") and "\n" not in text
    assert (tmp_path / "file").read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_an_error_of_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        (tmp_path / "another" / "file").read_bytes()
    assert names(tmp_path) == []


WRITE = """
import sys
from pathlib import Path
from src.system.atomic import atomic_write
from src.system.cli import run

def main():
    path = Path(sys.argv[1]) / "file"
    with atomic_write(path) as file:
        for _ in range(int(sys.argv[2])):
            file.write(b"x" * int(sys.argv[3]))

run(main)
"""


@needs_mounts
@pytest.mark.parametrize(("count", "size"), [(1, 3_000_000), (3000, 1000)])
def test_a_real_full_disk(tmp_path, count, size):
    done = run_mounted(
        tmp_path, "tmpfs", [sys.executable, "-c", WRITE, tmp_path, str(count), str(size)], "ls -A"
    )
    assert done.returncode == 2 and done.stdout == ""  # nothing is left
    line = done.stderr.removeprefix(f"error: {tmp_path}/file: the disk is full: it takes ")
    needed = int(line.split()[0].replace(",", ""))
    assert 1 << 20 < needed <= 3_000_000
    assert line.endswith(
        " bytes or more, 1,048,576 are free; accepted: a disk with more free space\n"
    )


@needs_mounts
def test_a_real_read_only_directory(tmp_path):
    done = run_mounted(tmp_path, "read-only", [sys.executable, "-c", WRITE, tmp_path, "1", "1"])
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/file: Read-only file system; "
        "accepted: a path that this user may write to\n"
    )
    assert names(tmp_path) == []
