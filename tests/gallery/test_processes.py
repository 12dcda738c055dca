"""The programs as processes of their own: killed, stopped, side by side, in each store."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from galleries import digest
from gallery_experiment import png, quadrant, write_experiment, write_gallery
from PIL import Image

from src.gallery import Gallery
from src.gallery.store import open_store

pytestmark = pytest.mark.system

PROGRAM = Path(__file__).parent.parent / "gallery_program.py"


def start(program, experiment, *arguments):
    command = [sys.executable, PROGRAM, program, *arguments]
    if arguments[:1] != ("copy",):
        command += ["--model_dir", experiment.model_dir]
    return subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(program, *arguments):
    process = start(program, *arguments)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    return write_gallery(tmp_path / "x", monkeypatch)


@pytest.fixture
def folder(tmp_path):
    """Pictures of two classes."""
    for position, name in enumerate(("left", "right")):
        (tmp_path / "known" / name).mkdir(parents=True)
        for seed in range(150):
            picture = Image.fromarray(quadrant(position, seed=seed)[:, :, 0])
            picture.save(tmp_path / "known" / name / f"{seed}.png")
    return tmp_path / "known"


@contextlib.contextmanager
def served(experiment, *arguments):
    """A service: its process and a client."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start("serve", experiment, "--port", port, *arguments)
    try:
        process.stdout.readline()  # the gallery
        process.stdout.readline()  # its address: clients may connect
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def ask(client, position=1, seed=0):
    return client.post("/query", files={"picture": png(position, seed)})


def enrol(client, name, position=1, seed=0):
    return client.post(f"/classes/{name}/pictures", files={"picture": png(position, seed)})


@pytest.mark.parametrize(
    "command", [["build", "--pictures"], ["add", "new"], ["remove", "left"]], ids=lambda x: x[0]
)
def test_killed_programs_leave_the_gallery_as_before_or_as_after(experiment, folder, command):
    before, after = experiment.gallery_path, experiment.model_dir / "after.sqlite"
    code, *printed = finish("gallery", experiment, "build", "--pictures", folder)
    assert code == 0, printed
    (folder / "left" / "0.png").unlink()  # what is built next differs
    shutil.copy(before, after)
    given = command if command[0] == "remove" else [*command, folder]
    began = time.perf_counter()
    assert finish("gallery", experiment, *given, "--gallery", after)[0] == 0
    seconds = time.perf_counter() - began
    states = {contents(before), contents(after)}
    assert len(states) == 2
    rng = random.Random(20)
    for _ in range(4):
        killed = experiment.model_dir / "killed.sqlite"
        shutil.copy(before, killed)
        process = start("gallery", experiment, *given, "--gallery", killed)
        time.sleep(seconds * rng.uniform(0.5, 1))
        process.kill()
        process.communicate()
        assert contents(killed) in states
        with open_store(killed) as store:
            assert store.check() == []


def contents(path):
    """What a gallery holds, without the times."""
    with open_store(path) as store:
        return tuple(sorted((p.class_name, p.sha256, p.source) for p in store.iterate()))


def test_sigterm_finishes_what_is_under_way(experiment):
    codes = []
    with served(experiment) as (process, client):
        enrol(client, "one")
        begun, is_stopping = threading.Semaphore(0), threading.Event()

        def ask_slowly():
            given = client.build_request("POST", "/query", files={"picture": png(1)})
            content = given.read()

            def body():
                yield content[:200]
                begun.release()
                is_stopping.wait(30)
                time.sleep(0.3)
                yield content[200:]

            headers = {"content-type": given.headers["content-type"]}
            codes.append(client.post("/query", content=body(), headers=headers).status_code)

        threads = [threading.Thread(target=ask_slowly) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert begun.acquire(timeout=30)
        client.get("/healthz")  # answered after the eight connections were accepted
        process.send_signal(signal.SIGTERM)
        is_stopping.set()
        assert process.wait(30) == 143
        for thread in threads:
            thread.join()
        assert process.stderr.read() == "stopped by SIGTERM\n"
    assert codes == [200] * 8


def test_ctrl_c_ends_the_service(experiment):
    with served(experiment) as (process, client):
        assert ask(client).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "stopped by Ctrl-C\n"


def test_a_port_in_use_is_bad_input(experiment):
    with served(experiment) as (_, client):
        port = client.base_url.port
        code, out, err = finish("serve", experiment, "--port", port)
        assert (code, out) == (2, "")
        assert f"--port {port}: Address already in use; accepted: " in err
        assert ask(client).status_code == 200


def test_two_services_know_what_each_enrols(experiment):
    with served(experiment) as (_, first), served(experiment) as (_, second):
        assert ask(second).json()["class"] is None
        enrol(first, "one", seed=1)
        assert ask(second).json()["class"] == "one"
        second.delete("/classes/one")
        assert ask(first).json()["class"] is None


def test_a_gallery_that_is_gone_or_another_is_not_used(experiment, tmp_path):
    copy = tmp_path / "copy.sqlite"
    shutil.copy(experiment.gallery_path, copy)
    with served(experiment) as (_, client):
        enrol(client, "one")
        for path in experiment.model_dir.glob("gallery.sqlite*"):
            path.unlink()
        for response in (ask(client), enrol(client, "two"), client.get("/healthz")):
            assert response.status_code == 503
            assert "no gallery; accepted: one that" in response.json()["detail"]
        shutil.copy(copy, experiment.gallery_path)
        for response in (ask(client), enrol(client, "two"), client.get("/healthz")):
            assert response.status_code == 503
            assert "another file took its place" in response.json()["detail"]
    with Gallery(experiment.model_dir) as gallery:
        assert gallery.store.classes() == []


def test_a_gallery_of_another_checkpoint_is_not_used(experiment, monkeypatch):
    with served(experiment) as (_, client):
        enrol(client, "one")
        assert ask(client).json()["class"] == "one"
        write_experiment(experiment.model_dir, monkeypatch, b"trained again")
        assert finish("gallery", experiment, "rebuild")[0] == 0
        for response in (ask(client), client.get("/healthz")):
            assert response.status_code == 503
            assert "built anew with another checkpoint" in response.json()["detail"]
        assert enrol(client, "two").status_code == 503


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: other machines can reach it; accepted: with"),
        (["--host", "nowhere"], "--host: found nowhere; accepted: an IP address"),
        (["--host", "192.0.2.1", "--token_file", "token"], "accepted: an address of this machine"),
        (["--token_file", "."], "a directory; accepted: a regular file"),
        (["--token_file", "short"], "short: no token; accepted: one line of 16 to 200 characters"),
    ],
)
def test_refused(experiment, tmp_path, monkeypatch, arguments, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("abc")
    code, _, err = finish("serve", experiment, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert text in err


def test_the_options_of_the_command_line_reach_the_service(experiment, tmp_path):
    token = "a token of many characters"
    (tmp_path / "token").write_text(token)
    options = ("--token_file", tmp_path / "token", "--allow_host", "photos.example", "--far", "0.1")
    with served(experiment, *options, "--verbose") as (process, client):
        assert enrol(client, "one").status_code == 401
        right = {"authorization": f"Bearer {token}"}
        sent = client.post("/classes/one/pictures", files={"picture": png(1)}, headers=right)
        assert sent.status_code == 200
        assert ask(client).json()["far"] == 0.1
        for host, code in (("photos.example", 200), ("evil.example", 421)):
            assert client.get("/classes", headers={"host": host}).status_code == code
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert "POST /query" in out + err


def test_a_token_is_made_in_a_new_folder(experiment, tmp_path):
    path = tmp_path / "new" / "token"
    process = start("serve", experiment, "--port", 9, "--host", "192.0.2.1", "--token_file", path)
    process.communicate(timeout=60)
    assert len(path.read_text().strip()) > 40
    assert os.stat(path).st_mode & 0o077 == 0


def test_programs_with_postgresql(experiment, folder, postgresql_gallery):
    where = ("--gallery", postgresql_gallery)
    code, out, err = finish("gallery", experiment, "build", "--pictures", folder, *where)
    assert code == 0, err
    assert "300 pictures of 2 classes" in out
    with served(experiment, *where) as (_, client):
        code, out, err = finish("gallery", experiment, "add", "7", folder / "left", *where)
        assert code == 0 and "7: 150 pictures added: #301 to 450" in out, err
        assert client.get("/classes").json() == [
            {"class": "7", "pictures": 150},
            {"class": "left", "pictures": 150},
            {"class": "right", "pictures": 150},
        ]
        assert client.delete("/classes/left").json() == {"removed": 150}
        answer = ask(client, position=0, seed=3).json()
        assert answer["class"] == "7"
        assert answer["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-6)
        picture = folder / "left" / "3.png"
        code, out, err = finish("query", experiment, picture, *where, "--fail_on_unknown")
        assert code == 0 and out.startswith(f"{picture}: 7 (distance 0"), (out, err)
    copy = experiment.model_dir / "copy.sqlite"
    assert finish("gallery", experiment, "copy", postgresql_gallery, copy)[0] == 0
    with open_store(copy) as store, open_store(postgresql_gallery) as original:
        assert digest(store.iterate()) == digest(original.iterate())
    for command in (["list"], ["check"], ["rebuild"], ["remove", "7"]):
        code, out, err = finish("gallery", experiment, *command, *where)
        assert code == 0, err
