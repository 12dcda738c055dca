"""Downloads from a server on this machine: whole, damaged, absent, refused, cut off."""

import dataclasses
import errno
import gc
import gzip
import hashlib
import http.server
import os
import socket
import threading

import pytest

from src import download
from src.data.remote import RemoteFile
from src.datasets import cifar10, fashion_mnist
from src.errors import UserError
from src.system.cli import run

# pooch leaves the connection of a failed request to the garbage collector, see `server`.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CONTENT = bytes(range(256)) * 100
PACKED = gzip.compress(CONTENT, mtime=0)
DAMAGED = PACKED[:-1] + b"\xff"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve PACKED as any `whole-*.gz`; the server keeps the paths that were asked for."""

    def do_GET(self):
        self.server.requested.append(self.path)
        if "absent" in self.path:
            self.send_error(404)
            return
        body = DAMAGED if "damaged" in self.path else PACKED
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:50] if "cut-off" in self.path else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requested = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()
    gc.collect()


def remote_file(server, name="whole.gz"):
    return RemoteFile(
        url=f"http://127.0.0.1:{server.server_port}/{name}",
        size=len(PACKED),
        md5=hashlib.md5(PACKED).hexdigest(),
        content_sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


def assert_fails(remote, folder, *words):
    """Fail in one line that starts with the address, and leave no folder behind."""
    with pytest.raises(UserError) as caught:
        download.fetch(remote, folder)
    text = str(caught.value)
    assert text.startswith(f"{remote.url}: ") and "\n" not in text
    assert all(word in text for word in words), text
    assert not folder.exists()


def test_good_file(server, tmp_path):
    path = download.fetch(remote_file(server), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "whole.gz"
    assert path.read_bytes() == PACKED
    assert list(path.parent.iterdir()) == [path]


def test_file_may_be_read_by_whom_the_umask_allows(server, tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    path = download.fetch(remote_file(server), tmp_path)
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_damaged_file(server, tmp_path):
    assert_fails(remote_file(server, "damaged.gz"), tmp_path / "data", "does not match")


def test_wrong_content(server, tmp_path):
    remote = dataclasses.replace(remote_file(server), content_sha256="0" * 64)
    assert_fails(remote, tmp_path / "data", "sha256", "of the unpacked file; accepted: " + "0" * 64)


def test_sum_of_the_archive_itself(server, tmp_path):
    transferred = {"content_sha256": None, "sha256": hashlib.sha256(PACKED).hexdigest()}
    remote = dataclasses.replace(remote_file(server), **transferred)
    assert not download.is_present(remote, tmp_path)
    download.fetch(remote, tmp_path)
    assert download.is_present(remote, tmp_path)
    # The same content, compressed otherwise, is another archive.
    (tmp_path / "whole.gz").write_bytes(gzip.compress(CONTENT, 1))
    assert not download.is_present(remote, tmp_path)
    wrong = dataclasses.replace(remote, sha256="0" * 64)
    assert_fails(wrong, tmp_path / "data", "sha256", "; accepted: " + "0" * 64)


def test_absent_file(server, tmp_path):
    assert_fails(remote_file(server, "absent.gz"), tmp_path / "data", "404")


def test_connection_cut_off(server, tmp_path):
    assert_fails(remote_file(server, "cut-off.gz"), tmp_path / "data", "50 bytes read")


def test_connection_refused(server, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/whole.gz"
        remote = dataclasses.replace(remote_file(server), url=url)
        assert_fails(remote, tmp_path / "data", "refused")


def test_full_disk(server, monkeypatch, tmp_path):
    def full_disk(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("src.data.remote.atomic_write", full_disk)
    assert_fails(remote_file(server), tmp_path / "data", os.strerror(errno.ENOSPC))


def test_folder_that_is_a_file(server, tmp_path):
    (tmp_path / "data").write_bytes(b"mine")
    with pytest.raises(UserError, match="File exists"):
        download.fetch(remote_file(server), tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"mine"
    assert server.requested == []


def test_failure_leaves_other_files_alone(server, tmp_path):
    (tmp_path / "other").write_bytes(b"mine")
    with pytest.raises(UserError):
        download.fetch(remote_file(server, "damaged.gz"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.fixture
def two_files(server, monkeypatch):
    remotes = (remote_file(server, "whole-1.gz"), remote_file(server, "whole-2.gz"))
    monkeypatch.setattr(fashion_mnist, "REMOTE_FILES", remotes)
    return remotes


def test_program_says_what_it_fetches_and_then_has_it(server, two_files, tmp_path, capsys):
    arguments = ["fashion_mnist", "--data_dir", str(tmp_path)]
    download.main(arguments)
    output = capsys.readouterr().out
    assert "2 of 2 files" in output
    assert all(remote.url in output for remote in two_files)
    assert f"{len(PACKED):,} bytes" in output
    assert len(server.requested) == 2

    for data_dir in (tmp_path, tmp_path / "fashion_mnist"):
        download.main(["fashion_mnist", "--data_dir", str(data_dir)])
        assert "all 2 files are in" in capsys.readouterr().out
    assert len(server.requested) == 2


def test_program_replaces_only_what_is_damaged(server, two_files, tmp_path):
    download.download("fashion_mnist", tmp_path)
    folder = tmp_path / "fashion_mnist"
    (folder / "whole-2.gz").write_bytes(DAMAGED)
    # The same content, compressed otherwise, is the published file.
    (folder / "whole-1.gz").write_bytes(gzip.compress(CONTENT, 1))
    download.download("fashion_mnist", tmp_path)
    assert server.requested == ["/whole-1.gz", "/whole-2.gz", "/whole-2.gz"]
    assert (folder / "whole-2.gz").read_bytes() == PACKED


def test_program_fails_in_one_line(server, monkeypatch, tmp_path, capsys):
    remotes = (remote_file(server, "whole.gz"), remote_file(server, "absent.gz"))
    monkeypatch.setattr(fashion_mnist, "REMOTE_FILES", remotes)
    with pytest.raises(SystemExit) as ended:
        run(lambda: download.main(["fashion_mnist", "--data_dir", str(tmp_path)]))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: http://127.0.0.1:") and error.count("\n") == 1
    assert [path.name for path in (tmp_path / "fashion_mnist").iterdir()] == ["whole.gz"]


def test_embedded_dataset_needs_no_download(tmp_path, capsys):
    download.main(["mnist", "--data_dir", str(tmp_path)])
    assert "nothing to download" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_published_files():
    names = [remote.name for remote in fashion_mnist.REMOTE_FILES]
    assert names == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ]
    for remote in fashion_mnist.REMOTE_FILES:
        assert remote.url.startswith("https://")
        assert (len(remote.md5), len(remote.content_sha256)) == (32, 64)
    (archive,) = cifar10.REMOTE_FILES
    assert (archive.name, archive.size) == ("cifar-10-binary.tar.gz", 170_052_171)
    assert (len(archive.md5), len(archive.sha256), archive.content_sha256) == (32, 64, None)
