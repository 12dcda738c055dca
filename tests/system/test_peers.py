"""The watch over other processes, with sockets in their place."""

import os
import queue
import socket
import subprocess
import sys
import time

import pytest

from src.errors import WorkerLost
from src.system import peers
from src.system.cluster import Cluster
from src.system.peers import EXIT_CODE, Peers


@pytest.fixture
def listening():
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        yield [one, two]


def cluster_of(sockets):
    addresses = tuple(f"127.0.0.1:{s.getsockname()[1]}" for s in sockets)
    return Cluster(("chief 0", "worker 0"), addresses, 0)


def test_all_that_listen_are_found(listening):
    watch = Peers(cluster_of(listening))
    watch.wait_for_all()
    assert watch.lost() is None


def test_who_does_not_start_is_named(listening, monkeypatch, capsys):
    monkeypatch.setattr(peers, "START_SECONDS", 0.5)
    monkeypatch.setattr(peers, "_SECONDS_BEFORE_A_WORD", 0.0)
    cluster = cluster_of(listening)
    listening[1].close()
    with pytest.raises(WorkerLost, match=r"worker 0 \(127.0.0.1:\d+\): not started"):
        Peers(cluster).wait_for_all()
    assert capsys.readouterr().out == f"waiting for {cluster.place(1)}\n"
    assert Peers(cluster).lost() == cluster.place(1)


def test_many_machines_that_are_gone_are_noticed_as_soon_as_one(monkeypatch):
    monkeypatch.setattr(peers, "_EVERY_SECONDS", 0.01)
    # A dead process's port refuses at once; a machine that is gone is waited for.
    monkeypatch.setattr(peers, "_answers", lambda address: time.sleep(0.2))
    ended = queue.SimpleQueue()
    monkeypatch.setattr(peers, "_end", ended.put)
    names = tuple(f"task {rank}" for rank in range(40))
    Peers(Cluster(names, names, 0)).watch()
    assert "no longer answers" in ended.get(timeout=5)  # one after the other: 24 s
    time.sleep(0.3)
    assert ended.empty()  # one line


CODE = """
import sys, time
from src.system.cluster import Cluster
from src.system import peers
peers._EVERY_SECONDS = 0.2
watch = peers.Peers(Cluster(("chief 0", "worker 0"), ("127.0.0.1:1", sys.argv[1]), 0))
watch.watch()
time.sleep(0.5)
print("ready", flush=True)
if sys.argv[2] == "stops":
    watch.stop_watching()
time.sleep(60 if sys.argv[2] == "watches" else 1.5)
"""


@pytest.mark.parametrize(("when", "code"), [("watches", EXIT_CODE), ("stops", 0)])
def test_a_process_ends_with_a_line_that_names_the_other(listening, when, code):
    cluster = cluster_of(listening)
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, cluster.addresses[1], when],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.curdir},
    )
    process.stdout.readline()
    time.sleep(0.2)
    listening[1].close()
    error = process.communicate()[1]
    assert process.returncode == code
    named = f"error: {cluster.place(1)} no longer answers; all workers end"
    assert error.startswith(named) if code else error == ""
