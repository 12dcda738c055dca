"""Shared by the benchmarks: contestants in separate processes, and the printed report."""

import argparse
import datetime
import multiprocessing
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from src.experiment.table import format_table
from src.system.cli import quiet_console
from src.system.process import prepare_for_tensorflow

REPOSITORY = Path(__file__).parent.parent

Step = Callable[[], Any]


class Contestant:
    """Something to time, in its own process, which sleeps except during its turns.

    Each contestant's peak memory is therefore its own, the threads of TensorFlow and PyTorch do not
    interfere, and contestants can take turns within a second.

    Attributes:
        first: the result of its first step, to compare with the others' results.
        base_mb: the process's peak memory in MB before that step, with libraries and data loaded.
    """

    def __init__(self, make_step: Callable[..., Step], *args: Any) -> None:
        """Start the process, which calls `make_step(*args)`, then calls the returned step once.

        This does not wait, so that several contestants can start at the same time.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other_end, make_step, args), daemon=True
        )
        self._process.start()
        other_end.close()

    def wait(self) -> None:
        """Wait for the first step.

        Raises:
            ChildProcessError: the process died, for instance because memory ran out.
        """
        self.base_mb, self.first = self._answer()

    def seconds_a_step(self, seconds: float) -> float:
        """Repeat the step for `seconds`, at least once; return the mean time of one."""
        self._connection.send(seconds)
        return self._answer()

    def close(self) -> float:
        """End the process and return its peak memory in MB."""
        self._connection.send(None)
        peak_mb = self._answer()
        self._process.join()
        return peak_mb

    def _answer(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            self._process.join()
            raise ChildProcessError(f"died, exit code {self._process.exitcode}") from None


@contextmanager
def without_log() -> Iterator[None]:
    """Keep TensorFlow's log off the console during the block."""
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet_console(Path(folder) / "tensorflow.log", verbose=False),
    ):
        yield


def _serve(connection: Connection, make_step: Callable[..., Step], args: tuple[Any, ...]) -> None:
    """Run the contestant; this is the main function of its process."""
    prepare_for_tensorflow()
    with without_log():
        step = make_step(*args)
        base_mb = _peak_mb()
        connection.send((base_mb, step()))
        while (seconds := connection.recv()) is not None:
            num_steps, start, elapsed = 0, time.perf_counter(), 0.0
            while not num_steps or elapsed < seconds:
                step()
                num_steps += 1
                elapsed = time.perf_counter() - start
            connection.send(elapsed / num_steps)
        connection.send(_peak_mb())


def _peak_mb() -> float:
    """Return this process's peak resident memory so far, in MB.

    getrusage is not used, because a process inherits its peak from the parent process.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the benchmark programs share."""
    parser.add_argument(
        "--markdown", action="store_true", help="print Markdown, with machine, versions and date"
    )


def progress(line: str) -> None:
    """Print a line of progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def warn_if_busy() -> None:
    """Warn if other processes use the processor, because PyTorch's threads spin while they wait."""
    load = os.getloadavg()[0]
    if load > 0.5:
        progress(f"warning: load average {load:.1f}: figures of a busy machine favour TensorFlow")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> None:
    """Print a table, for the terminal or as Markdown."""
    if markdown:
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        print("\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)
    else:
        print("\n" + format_table(header, rows), flush=True)


def machine() -> str:
    """Return the processor, its cores and the memory: `AMD EPYC, 2 cores, 25 GB`."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GB"


def print_circumstances(
    program: str,
    statistic: str,
    packages: Sequence[str] = ("numpy", "tensorflow", "torch", "pytorch-metric-learning"),
) -> None:
    """Print the machine, versions, date and command of the measurement.

    Args:
        program: the module that measured.
        statistic: a sentence on how a figure summarises its repetitions.
        packages: those whose versions matter.
    """
    installed = {name: version_of(name) for name in packages}
    versions = ", ".join(f"{name} {found}" for name, found in installed.items() if found)
    command = shlex.join(["python", "-m", program, *sys.argv[1:]])
    print(
        f"\n{statistic}\n{machine()}; Python "
        f"{platform.python_version()}, {versions}; `{command}`, {datetime.date.today()}."
    )


def version_of(package: str) -> str | None:
    """Return the version of a package; None if it is not installed, as torch in .venv."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
