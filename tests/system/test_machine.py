"""Which machine this is, and which of its processes live."""

import os
import socket
import subprocess

from src.system.machine import machine_id, process_exists, process_started


def dead_pid():
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_which_processes_exist():
    assert process_exists(os.getpid()) and process_exists(os.getppid())
    assert not process_exists(dead_pid()) and not process_exists(2**40)


def test_a_process_and_its_start():
    assert process_started(os.getpid()) == process_started(os.getpid()) is not None
    assert process_started(dead_pid()) is None


def test_a_machine_is_not_known_by_its_name(monkeypatch):
    name = machine_id.__wrapped__()
    monkeypatch.setattr(socket, "gethostname", lambda: "another")
    assert machine_id.__wrapped__() == name
