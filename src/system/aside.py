"""Computes something in a process of its own, while this one goes on."""

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


MIN_IMAGES = 2_000
"""With fewer images, starting another process takes longer than what it would do."""


def is_worth_it(num_images: int) -> bool:
    """Return whether a call about this many images takes less time in another process."""
    return num_images >= MIN_IMAGES and os.cpu_count() != 1


class Aside(Generic[Result]):
    """A call in another process, which ends with this one.

    A thread would not do: what compiles or computes in Python holds the interpreter's lock.
    """

    def __init__(self, function: Callable[..., Result], *args: Any, **kwargs: Any) -> None:
        """Begin the call.

        Args:
            function: of a module. It, its arguments and its result are pickled.
            args: its arguments.
            kwargs: its named arguments.
        """
        # A fork of a process with threads may wait forever for a lock that one of them held.
        context = multiprocessing.get_context("spawn")
        self._connection, other_end = context.Pipe()
        self._process = context.Process(target=_call, args=(other_end,), daemon=True)
        # The other process inherits the mask: Ctrl-C is for this one, which then ends the other.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        other_end.close()
        # Large arguments of the process itself would wait forever if it ended before it read them.
        with suppress(BrokenPipeError, ConnectionResetError):  # `result` says that it has ended
            self._connection.send((function, args, kwargs))

    @property
    def pid(self) -> int | None:
        """The number of the other process."""
        return self._process.pid

    def result(self) -> Result:
        """Wait for the result.

        Raises:
            ChildProcessError: the process has ended without one, as when memory runs out.
            Exception: what the function raised; its cause has the traceback.
        """
        try:
            value, error, trace = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise ChildProcessError(
                f"its process ended with code {self._process.exitcode}"
            ) from None
        self._process.join()
        if error is not None:
            raise error from ChildProcessError(f"in another process:\n{trace}")
        found: Result = value
        return found


def _call(connection: Connection) -> None:
    """Receive a call; send its result or its error. The console belongs to the other process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        outcome: tuple[Any, Exception | None, str]
        try:
            function, args, kwargs = connection.recv()
            outcome = function(*args, **kwargs), None, ""
        except Exception as error:
            outcome = None, error, traceback.format_exc()
        connection.send(outcome)


def _end_with_parent() -> None:
    """End this process when the one that began it has ended, however that happened."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
