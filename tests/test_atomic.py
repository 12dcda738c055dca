"""Files that are complete or absent, whatever happens while they are written."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mounts import needs_mounts, run_mounted

from src.atomic import atomic_write, process_exists
from src.errors import UserError

ROOT = Path(__file__).parent.parent


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
        pytest.raises(UserError, match="file: a directory; accepted: "),
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


def dead_pid():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_what_killed_processes_left_is_removed(tmp_path):
    path = tmp_path / "metrics.json"
    alive = subprocess.Popen(["sleep", "60"])
    try:
        kept = [
            f".metrics.json.{alive.pid}.tmp",
            f".other.json.{dead_pid()}.tmp",
            ".metrics.json.tmp",
        ]
        for name in [*kept, f".metrics.json.{dead_pid()}.tmp", f".metrics.json.{2**70}.tmp"]:
            (tmp_path / name).write_bytes(b"half")
        with atomic_write(path) as file:
            file.write(b"new")
    finally:
        alive.kill()
        alive.wait()
    assert names(tmp_path) == sorted([*kept, "metrics.json"])


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_a_real_kill_in_the_middle(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_bytes(b"old")
    code = (
        "import sys, time; from pathlib import Path; from src.atomic import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old" and len(names(tmp_path)) == 2
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["metrics.json"]


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
    assert text.endswith(" are free; accepted: a disk with room") and "\n" not in text
    assert (tmp_path / "file").read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_an_error_of_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        (tmp_path / "another" / "file").read_bytes()
    assert names(tmp_path) == []


WRITE = """
import sys
from pathlib import Path
from src.atomic import atomic_write
from src.cli import run

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
    assert line.endswith(" bytes or more, 1,048,576 are free; accepted: a disk with room\n")


@needs_mounts
def test_a_real_read_only_directory(tmp_path):
    done = run_mounted(tmp_path, "read-only", [sys.executable, "-c", WRITE, tmp_path, "1", "1"])
    assert done.returncode == 2
    assert done.stderr == (
        f"error: {tmp_path}/file: Read-only file system; "
        "accepted: a place where this user may write\n"
    )
    assert names(tmp_path) == []


def test_which_processes_exist():
    assert process_exists(os.getpid()) and process_exists(os.getppid())
    assert not process_exists(dead_pid()) and not process_exists(2**40)
