"""Functions of a test module in processes that may be killed: forks of a small process.

To fork the tests' own process, which has TensorFlow and the graphs of earlier tests, takes 50 ms
of the system's time or more, because of its memory.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


class Forks:
    """Starts functions of a module, one after the other or several at once."""

    def __init__(self, connection: socket.socket) -> None:
        """Ask over a connection to `serve`."""
        self._connection = connection
        self._answers = connection.makefile()

    def start(self, function: Callable[..., Any], *arguments: Any) -> tuple[int, int]:
        """Start `function(*arguments, writing)` with a pipe to which it may write.

        Returns:
            Its process, which is to be waited for, and the end of the pipe to read from.
        """
        reading, writing = os.pipe()
        asked = json.dumps([function.__name__, *arguments]).encode()
        socket.send_fds(self._connection, [asked + b"\n"], [writing])
        os.close(writing)
        return json.loads(self._answers.readline()), reading

    def wait(self, pid: int) -> int:
        """Return the exit code of a process, as `subprocess` has it."""
        self._connection.sendall(json.dumps(["wait", pid]).encode() + b"\n")
        return json.loads(self._answers.readline())


@contextmanager
def forks(module: str, folder: Path) -> Iterator[Forks]:
    """Fork from a process that has imported `module` of a folder of tests."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, __file__, str(theirs.fileno()), module, str(folder)]
    with subprocess.Popen(command, pass_fds=[theirs.fileno()]):
        theirs.close()
        with ours:
            started = Forks(ours)
            yield started
            started._answers.close()


def serve(connection: socket.socket, module: Any) -> None:
    """Answer requests, one at a time, until there are no more."""
    while True:
        asked, descriptors, _, _ = socket.recv_fds(connection, 2**16, 1)
        if not asked:
            return
        name, *arguments = json.loads(asked)
        if name == "wait":
            answer = os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1])
        elif not (answer := os.fork()):
            try:
                getattr(module, name)(*arguments, *descriptors)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests"), sys.argv[3]]
    serve(socket.socket(fileno=int(sys.argv[1])), importlib.import_module(sys.argv[2]))
