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

    For each of them, a thread connects to it every few seconds. It ends this process if the other
    no longer answers, because the main thread may be inside TensorFlow, in an exchange that cannot
    end. One thread for all would be late: each machine that is gone would cost it a timeout.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Prepare the watch; `cluster` has a rank."""
        self._cluster = cluster
        self._others = [rank for rank in range(cluster.size) if rank != cluster.rank]
        self._is_over = threading.Event()

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
        """Start the threads."""
        for rank in self._others:
            name = f"watch {self._cluster.names[rank]}"
            threading.Thread(target=self._watch, args=(rank,), daemon=True, name=name).start()

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

    def _watch(self, rank: int) -> None:
        failures = 0
        while not self._is_over.wait(_EVERY_SECONDS):
            failures = 0 if _answers(self._cluster.addresses[rank]) else failures + 1
            if failures == _FAILURES and not self._is_over.is_set():
                self._is_over.set()  # one line is enough if several are gone
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
