"""One writer: the lock of an experiment, whoever held it before and however that ended."""

import errno
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mounts import needs_mounts, run_mounted

from src.errors import UserError
from src.system import lock
from src.system.lock import LOCK_FILE, in_turn, one_writer

ROOT = Path(__file__).parents[2]

HOLD = """
import sys
import threading
from pathlib import Path
from src.system.lock import one_writer
with one_writer(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


class Holder:
    """Another process that holds the lock."""

    def __init__(self, model_dir):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, model_dir],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout.readline() == b"ready\n"

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def refusal(model_dir):
    with pytest.raises(UserError) as caught, one_writer(model_dir):
        pass
    text = str(caught.value)
    assert "\n" not in text and "; accepted: one train.py at a time" in text
    return text


@pytest.fixture
def without_flock(monkeypatch):
    """A file system that has no locks."""

    def flock(descriptor, operation):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_the_block_runs_and_leaves_nothing(tmp_path):
    with one_writer(tmp_path):
        record = json.loads((tmp_path / LOCK_FILE).read_text())
        assert (record["pid"], record["host"]) == (os.getpid(), socket.gethostname())
    assert os.listdir(tmp_path) == []
    with pytest.raises(KeyError), one_writer(tmp_path):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_the_directory_is_created(tmp_path):
    with one_writer(tmp_path / "a" / "b"):
        assert os.listdir(tmp_path / "a" / "b") == [LOCK_FILE]


def test_a_second_process_is_told_of_the_first(tmp_path):
    with Holder(tmp_path) as process:
        text = refusal(tmp_path)
        assert re.fullmatch(
            rf"{tmp_path}: in use by process {process.pid} on {socket.gethostname()} since "
            r"[\d-]+ [\d:]+; accepted: one train.py at a time",
            text,
        )
        assert refusal(tmp_path) == text  # being refused takes nothing away
        process.communicate()
    with one_writer(tmp_path):
        pass


def test_a_second_time_in_one_process(tmp_path):
    with one_writer(tmp_path):
        assert f"in use by process {os.getpid()} on" in refusal(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_dead_process_has_no_lock(tmp_path, number):
    with Holder(tmp_path) as process:
        process.send_signal(number)
        process.wait()
        assert (tmp_path / LOCK_FILE).exists()
        with one_writer(tmp_path):
            assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


def test_a_dead_process_that_is_still_listed_writes_nothing(tmp_path):
    with Holder(tmp_path) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # and so it stays in the list
        assert lock.has_writer(tmp_path) is False


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}", b"1" * 5000])
def test_a_damaged_file_without_a_lock_is_taken_over(tmp_path, content):
    (tmp_path / LOCK_FILE).write_bytes(content)
    with one_writer(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}"])
def test_a_lock_whose_file_says_nothing_is_still_a_lock(tmp_path, content):
    with Holder(tmp_path):
        (tmp_path / LOCK_FILE).write_bytes(content)
        assert refusal(tmp_path).startswith(f"{tmp_path}: in use by ")


WRONG_RECORDS = [
    {"pid": 0},
    {"pid": -1},
    {"pid": True},
    {"pid": "1"},
    {"pid": 2**31},
    {"pid": 10**30},
    {"host": 1},
    {"host": "x" * 1000},
    {"since": []},
    {"process_started": 1},
]


@pytest.mark.parametrize("wrong", WRONG_RECORDS, ids=str)
def test_without_flock_a_record_that_no_process_writes_is_taken_over(
    tmp_path, without_flock, wrong
):
    (tmp_path / LOCK_FILE).write_text(json.dumps({"pid": 1, "host": "elsewhere", **wrong}))
    assert lock.has_writer(tmp_path) is None
    with one_writer(tmp_path):
        pass


def test_nested_records(tmp_path, without_flock):
    (tmp_path / LOCK_FILE).write_text("[" * 4096)
    assert lock.has_writer(tmp_path) is None
    with one_writer(tmp_path):
        pass


def test_a_name_in_a_record_is_escaped(tmp_path, without_flock):
    record = {"pid": 1, "host": "\x1b[2J\u202e", "since": "now\nerror: x"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(record))
    assert r"process 1 on \x1b[2J\u202e since now\nerror: x; accepted" in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["a symbolic link", "a named pipe", "a directory", "a device"])
def test_no_regular_file_in_place_of_the_lock(tmp_path, kind):
    model_dir, outside = tmp_path / "experiment", tmp_path / "outside"
    model_dir.mkdir()
    outside.write_text("precious")
    path = model_dir / LOCK_FILE
    makers = {
        "a symbolic link": lambda: path.symlink_to(outside),
        "a named pipe": lambda: os.mkfifo(path),
        "a directory": path.mkdir,
        "a device": lambda: os.mknod(path, 0o20666, os.makedev(1, 5)),
    }
    try:
        makers[kind]()
    except PermissionError:
        pytest.skip("only root makes devices")
    with pytest.raises(UserError) as caught, one_writer(model_dir):
        pass
    assert str(caught.value) == f"{path}: {kind}; accepted: a regular file"
    assert lock.has_writer(model_dir) is None
    assert outside.read_text() == "precious"


def test_a_link_to_nothing_makes_no_file(tmp_path):
    model_dir = tmp_path / "experiment"
    model_dir.mkdir()
    (model_dir / LOCK_FILE).symlink_to(tmp_path / "absent")
    with pytest.raises(UserError, match="a symbolic link"), one_writer(model_dir):
        pass
    assert not (tmp_path / "absent").exists()


def test_only_one_of_many_gets_it(tmp_path):
    """However their opening, locking and removing interleave."""
    count = """
import sys, time
from pathlib import Path
from src.errors import UserError
from src.system.lock import one_writer
directory, rounds = Path(sys.argv[1]), 0
while rounds < 60:
    try:
        with one_writer(directory):
            number = int((directory / "count").read_text())
            time.sleep(0.0002)
            (directory / "count").write_text(str(number + 1))
            rounds += 1
    except UserError:
        pass
"""
    (tmp_path / "count").write_text("0")
    processes = [
        subprocess.Popen([sys.executable, "-c", count, tmp_path], cwd=ROOT) for _ in range(3)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "180"


def test_a_child_process_does_not_hold_it(tmp_path):
    with one_writer(tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with one_writer(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_without_flock_the_file_itself_is_the_lock(tmp_path, without_flock):
    with Holder(tmp_path) as process:
        text = refusal(tmp_path)
        assert f"process {process.pid} on" in text
        assert text.endswith(f"; if that process is dead, remove {tmp_path}/{LOCK_FILE}")
        process.kill()
        process.wait()
        with one_writer(tmp_path):
            pass
    assert os.listdir(tmp_path) == []


def test_without_flock_another_host_is_believed(tmp_path, without_flock):
    record = {"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(record))
    assert "process 1 on elsewhere since 2026-01-01 00:00:00" in refusal(tmp_path)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs the time of a start")
def test_without_flock_a_number_used_again_is_told_by_its_start(tmp_path, without_flock):
    with Holder(tmp_path) as process:
        path = tmp_path / LOCK_FILE
        record = json.loads(path.read_text())
        assert f"process {process.pid} on" in refusal(tmp_path)
        path.write_text(json.dumps({**record, "process_started": "earlier"}))
        with one_writer(tmp_path):
            pass


def test_a_file_in_place_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="file: one of its folders is a file"),
        one_writer(tmp_path / "file"),
    ):
        pass


@needs_mounts
def test_a_read_only_directory(tmp_path):
    (tmp_path / "params.json").write_text("{}")
    done = run_mounted(tmp_path, "read-only", [sys.executable, "train.py", "--model_dir", tmp_path])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path}: Read-only file system; accepted: a path that this user may write to\n"
    )


def test_train_is_refused_while_another_trains_also_with_overwrite(make_experiment, data_dir):
    model_dir = make_experiment()
    (model_dir / "metrics.json").write_text("precious")
    with Holder(model_dir) as process:
        for options in ([], ["--overwrite"]):
            done = subprocess.run(
                [sys.executable, "train.py", "--model_dir", model_dir, *options],
                cwd=ROOT,
                capture_output=True,
                text=True,
            )
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"error: {model_dir}: in use by process {process.pid} on")
            assert done.stderr.count("\n") == 1
        assert (model_dir / "metrics.json").read_text() == "precious"


class Waited(Exception):
    """Ends a wait."""


def waits_for(path):
    """Whom a process waits for that wants its turn; None if it need not wait."""
    said = []

    def stop(holder):
        said.append(holder)
        raise Waited

    try:
        with in_turn(path, stop):
            assert os.listdir(path.parent) == [path.name]
            return None
    except Waited:
        return said[0]


def test_a_turn_comes_when_the_one_before_ends_or_dies(tmp_path):
    for end in (subprocess.Popen.communicate, subprocess.Popen.kill):
        with Holder(tmp_path) as process:
            since = re.escape(f"process {process.pid} on {socket.gethostname()} since ")
            assert re.fullmatch(rf"{since}[\d-]+ [\d:]+", waits_for(tmp_path / LOCK_FILE))
            ends = threading.Timer(0.3, end, [process])
            ends.start()
            with in_turn(tmp_path / LOCK_FILE, lambda holder: None):
                assert process.wait(timeout=10) is not None
            ends.join()
        assert os.listdir(tmp_path) == []
        assert waits_for(tmp_path / LOCK_FILE) is None
    assert os.listdir(tmp_path) == []


def test_without_flock_it_is_said_what_ends_a_wait_for_another_host(tmp_path, without_flock):
    path = tmp_path / "x.lock"
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026-01-01 00:00:00"}))
    assert waits_for(path) == (
        f"process 1 on elsewhere since 2026-01-01 00:00:00; if that process is dead, remove {path}"
    )
    path.unlink()
    assert waits_for(path) is None


def test_a_turn_where_nothing_can_be_written(tmp_path):
    with pytest.raises(OSError), in_turn(tmp_path / "no" / "folder", lambda holder: None):
        pass


# Another machine, or another container of this one. Both may have a process of the same number, and
# hosts of the same name are common among copied machines.


@pytest.fixture
def as_another_machine(monkeypatch):
    """`as_another_machine(host)`: from now on, this process is on another machine."""

    def move(host):
        monkeypatch.setattr(socket, "gethostname", lambda: host)
        monkeypatch.setattr(lock, "machine_id", lambda: "another")

    return move


@pytest.mark.parametrize("host", ["another", socket.gethostname()], ids=["", "of the same name"])
def test_a_process_of_the_same_number_on_another_machine(
    tmp_path, without_flock, as_another_machine, host
):
    """Without locks, the number says nothing: the file is believed, whoever has that number."""
    here = socket.gethostname()
    with one_writer(tmp_path):
        content = (tmp_path / LOCK_FILE).read_text()
    (tmp_path / LOCK_FILE).write_text(content)
    assert lock.has_writer(tmp_path) is False  # it is this process's, which is not in there
    as_another_machine(host)
    assert lock.has_writer(tmp_path) is None
    assert f"in use by process {os.getpid()} on {here}" in refusal(tmp_path)
    assert (tmp_path / LOCK_FILE).read_text() == content


@pytest.mark.parametrize("host", ["another", socket.gethostname()], ids=["", "of the same name"])
def test_a_lock_that_is_held_is_seen_from_another_machine(tmp_path, as_another_machine, host):
    """As over NFS; a free one proves nothing there, but may be taken."""
    with Holder(tmp_path) as process:
        as_another_machine(host)
        assert lock.has_writer(tmp_path) is True
        assert re.match(rf"process {process.pid} on ", lock.writer(tmp_path))
        assert f"in use by process {process.pid} on" in refusal(tmp_path)
        process.kill()
        process.wait()
        assert lock.has_writer(tmp_path) is None and lock.writer(tmp_path) is None
        with one_writer(tmp_path):
            pass


def test_looking_takes_nothing_and_refuses_nobody(tmp_path):
    """A look holds the lock in part for an instant; the training that comes then tries again."""
    look = """
import sys
from pathlib import Path
from src.system.lock import has_writer
print(flush=True)
while True:
    has_writer(Path(sys.argv[1]))
"""
    lookers = [
        subprocess.Popen([sys.executable, "-c", look, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for process in lookers:
            process.stdout.readline()
        for _ in range(50):
            with one_writer(tmp_path):
                assert lock.has_writer(tmp_path) is True
        assert lock.has_writer(tmp_path) is False
    finally:
        for process in lookers:
            process.kill()
            process.communicate()


def test_who_may_only_read_may_look(tmp_path):
    with Holder(tmp_path):
        (tmp_path / LOCK_FILE).chmod(0o444)
        assert lock.has_writer(tmp_path) is True


_CONTAINER = ["unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]


def _has_containers():
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*_CONTAINER, "hostname", "x"], capture_output=True, check=False)
    return done.returncode == 0


def in_container(host, code, *arguments):
    """Start Python code as process 2 of a container: `sh` is process 1."""
    script = f'hostname {host}; {shlex.quote(sys.executable)} "$@"; exit $?'
    return subprocess.Popen(
        [*_CONTAINER, "sh", "-c", script, "sh", "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


WITHOUT_FLOCK = """
import errno, fcntl
def flock(*_):
    raise OSError(errno.ENOTSUP, "no locks")
fcntl.flock = flock
"""
LOOK = """
import os, sys
from pathlib import Path
from src.errors import UserError
from src.system.lock import has_writer, one_writer
print(os.getpid(), has_writer(Path(sys.argv[1])))
try:
    with one_writer(Path(sys.argv[1])):
        print("free")
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(not _has_containers(), reason="namespaces are not allowed here")
@pytest.mark.parametrize("locks", [True, False], ids=["flock", "no flock"])
@pytest.mark.parametrize("host", ["one", "two"])
def test_the_same_number_in_two_containers(tmp_path, locks, host):
    """Real ones: each has its own process numbers and, perhaps, its own name."""
    prelude = "" if locks else WITHOUT_FLOCK
    pid = "import os; print(os.getpid(), flush=True)\n"
    holder = in_container("one", prelude + pid + HOLD, tmp_path)
    try:
        number = holder.stdout.readline().strip()
        assert holder.stdout.readline() == "ready\n"
        seen, said = in_container(host, prelude + LOOK, tmp_path).communicate()[0].splitlines()
    finally:
        holder.kill()
        holder.communicate()
    assert said.startswith(f"{tmp_path}: in use by process {number} on one since ")
    assert seen == f"{number} {True if locks else None}"  # the same number
    seen, said = in_container(host, prelude + LOOK, tmp_path).communicate()[0].splitlines()
    # The kernel has freed a dead process's lock. Without locks, another container cannot tell;
    # but the kernel may give this one the identity of the first, whose processes are all dead.
    assert (seen, said) == (f"{number} False", "free") or (not locks and "remove" in said)
