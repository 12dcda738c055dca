"""Watches whether the other processes of a training are alive, and ends this one if not."""

import contextlib
import os
import socket
import sys
import threading
import time

from src.errors import WorkerLost
from src.system.cluster import Cluster

# A dead process's port refuses at once; a dead machine's does not answer at all. TensorFlow itself
# waits for both without end.
_EVERY_SECONDS = 3.0
_ANSWER_SECONDS = 4.0
_FAILURES = 3

# How long a worker may take to start, from the start of this one.
START_SECONDS = 600.0
_SECONDS_BEFORE_A_WORD = 15.0

EXIT_CODE = 4


class Peers:
    """The other processes. Each listens at its address, from its start until it ends.

    A thread connects to every one of them every few seconds. It ends this process if one no longer
    answers, because the main thread may be inside TensorFlow, in an exchange that cannot end.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Prepare the watch; `cluster` has a rank."""
        self._cluster = cluster
        self._others = [rank for rank in range(cluster.size) if rank != cluster.rank]
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def wait_for_all(self) -> None:
        """Return when every process listens.

        Raises:
            WorkerLost: one has not started after START_SECONDS.
        """
        started, told = time.monotonic(), False
        missing = self._others
        while missing := [rank for rank in missing if not _answers(self._cluster.addresses[rank])]:
            seconds = time.monotonic() - started
            places = ", ".join(map(self._cluster.place, missing))
            if seconds > START_SECONDS:
                raise WorkerLost(f"{places}: not started after {START_SECONDS:.0f} s")
            if seconds > _SECONDS_BEFORE_A_WORD and not told:
                told = True
                print(f"waiting for {places}", flush=True)
            time.sleep(0.2)

    def watch(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peers")
        self._thread.start()

    def stop_watching(self) -> None:
        """From now on, others may end."""
        self._is_over.set()

    def lost(self) -> str | None:
        """Return which processes do not answer, for a message, after at most some seconds."""
        failures = dict.fromkeys(self._others, 0)
        for _ in range(_FAILURES):
            for rank in failures:
                failures[rank] += not _answers(self._cluster.addresses[rank])
            time.sleep(0.5)
        gone = [rank for rank, number in failures.items() if number == _FAILURES]
        return ", ".join(map(self._cluster.place, gone)) or None

    def _watch(self) -> None:
        failures = dict.fromkeys(self._others, 0)
        while not self._is_over.wait(_EVERY_SECONDS):
            for rank in self._others:
                is_alive = _answers(self._cluster.addresses[rank])
                failures[rank] = 0 if is_alive else failures[rank] + 1
                if failures[rank] == _FAILURES and not self._is_over.is_set():
                    _end(f"{self._cluster.place(rank)} {HAS_ENDED}")


HAS_ENDED = "no longer answers; all workers end, and the same command on all resumes"


def _answers(address: str) -> bool:
    """Return whether a process listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
            return True
    except OSError:
        return False


def _end(message: str) -> None:
    """End the process, whatever the main thread is doing."""
    with contextlib.suppress(Exception):
        print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(EXIT_CODE)
