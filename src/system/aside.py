"""Computes something in a process of its own, while this one goes on."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


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
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_call, args=(sender, function, args, kwargs), daemon=True
        )
        # The other process inherits the mask: Ctrl-C is for this one, which then ends the other.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        sender.close()

    def result(self) -> Result:
        """Wait for the result.

        Raises:
            ChildProcessError: the process has ended without one, as when memory runs out.
            Exception: what the function raised.
        """
        try:
            value, error = self._receiver.recv()
        except EOFError:
            self._process.join()
            raise ChildProcessError(
                f"its process ended with code {self._process.exitcode}"
            ) from None
        self._process.join()
        if error is not None:
            raise error
        found: Result = value
        return found


def _call(
    sender: Connection,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Send a function's result, or its error. The console belongs to the other process."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stdout = sys.stderr = nowhere
        outcome: tuple[Any, Exception | None]
        try:
            outcome = function(*args, **kwargs), None
        except Exception as error:
            outcome = None, error
        sender.send(outcome)
