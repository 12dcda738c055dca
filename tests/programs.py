"""Programs started many times over, to be stopped and killed: TensorFlow is imported only once.

A server process imports the programs and TensorFlow, and forks for every start.
"""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Program:
    """A program that runs, or has run."""

    pid: int
    server: "Server"
    output: Path

    def kill(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self) -> tuple[int, str, str]:
        """Return its exit code (as `subprocess` has it), standard output and standard error."""
        code = self.server.ask({"wait": self.pid})
        return code, *(self.output.with_suffix(s).read_text() for s in (".out", ".err"))

    def has_ended(self) -> bool:
        """Return whether it has ended; it has still to be waited for."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


class Server:
    """Starts programs."""

    def __init__(self, directory: Path) -> None:
        """Keep what the programs print in `directory`."""
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the programs have their own
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._number = 0

    def start(
        self, program: str, *arguments: object, environment: Mapping[str, str] | None = None
    ) -> Program:
        """Start `train` or `visualize`, with these variables besides the test's."""
        self._number += 1
        output = self._directory / f"program_{self._number}"
        pid = self.ask(
            {
                "program": program,
                "argv": [*map(str, arguments)],
                "output": str(output),
                "environment": dict(environment or {}),
            }
        )
        return Program(pid, self, output)

    def run(self, program: str, *arguments: object) -> tuple[int, str, str]:
        """Start a program and wait for it."""
        return self.start(program, *arguments).wait()

    def ask(self, request: dict) -> int:
        """Have the server do something."""
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the server."""
        self._process.communicate()


def free_ports(number: int) -> list[int]:
    """Return ports of this machine that no program listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for each in sockets:
        each.close()
    return ports


def serve() -> None:
    """Answer requests until there are no more."""
    from exports import name_without_waiting

    from src.system.cli import run
    from src.system.process import prepare_for_tensorflow

    prepare_for_tensorflow()
    programs = {name: importlib.import_module(name) for name in ("train", "visualize")}
    importlib.import_module("model.training.loop")
    importlib.import_module("model.training.checkpoints")
    name_without_waiting()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            for descriptor, suffix in ((1, ".out"), (2, ".err")):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(request["output"] + suffix, flags), descriptor)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.argv[1:] = request["argv"]
            os.environ.update(request["environment"])
            tempfile.tempdir = None  # found anew, by TMPDIR
            run(programs[request["program"]].main)
            sys.exit()
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
