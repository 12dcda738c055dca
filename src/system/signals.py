"""Handles SIGTERM, Ctrl-C and SIGHUP: the first ends a program cleanly, a second at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS_TO_COME_OUT = 0.5

SIGNALS = (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGTERM))


class Stopped(BaseException):
    """A signal has asked the program to end. The exit code is 128 + its number, 143 for SIGTERM.

    Like `KeyboardInterrupt`, it is no `Exception`, so no handler treats it as a failure.
    """

    def __init__(self, number: int) -> None:
        """Store the signal, given its number."""
        super().__init__(number)
        self.signal = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """The code that a shell reports for a process ended by this signal."""
        return 128 + self.signal

    def __str__(self) -> str:
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


class StopRequest:
    """Whether the program was asked to end; work checks this where it can stop cleanly."""

    def __init__(self) -> None:
        """Start without a request."""
        self._number: int | None = None

    def __bool__(self) -> bool:
        return self._number is not None

    @property
    def number(self) -> int | None:
        """The signal that made the request; None if there is no request."""
        return self._number

    def make(self, number: int) -> None:
        """Make the request: another worker got this signal."""
        self._number = self._number or number

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Only note a signal. If one was noted, `Stopped` is raised at the end of the block."""

        def note(number: int) -> None:
            self._number = number

        with _first_signal(note):
            yield
        self.raise_if_made()

    def raise_if_made(self) -> None:
        """Raise `Stopped` if there is a request."""
        if self._number is not None:
            raise Stopped(self._number)


@contextmanager
def stops_at_once() -> Iterator[None]:
    """Make a signal raise `Stopped`, wherever the block is.

    A library may be running then. It may convert the error or print it (TensorFlow's C++ does
    both), or drop it (Python does, in callbacks). So until the block ends, nothing is printed to
    `sys.stderr`; a dropped `Stopped` is raised again; a converted one becomes `Stopped` again.
    """
    raised: list[Stopped] = []
    console = sys.stderr

    def stop(number: int) -> None:
        raised.append(Stopped(number))
        sys.stderr = silence
        _call_every(_SECONDS_TO_COME_OUT, raise_again)
        raise raised[0]

    def raise_again() -> None:
        if sys.exc_info()[1] is None:  # `finally` and `with` are cleaning up otherwise
            raise raised[0]

    try:
        with open(os.devnull, "w") as silence, _first_signal(stop):
            try:
                yield
            except Exception as error:
                if raised:
                    raise raised[0] from error
                raise
    finally:  # no later signal can silence stderr again
        if raised:
            _call_every(0, None)
            sys.stderr = console


def _call_every(seconds: float, function: Callable[[], None] | None) -> None:
    """Call `function` every `seconds`, if the system has such a timer; 0 stops it."""
    if hasattr(signal, "setitimer"):
        if function is not None:
            signal.signal(signal.SIGALRM, lambda number, frame: function())
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


@contextmanager
def _first_signal(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` at the first signal, then restore the system's own handling.

    So a second signal ends the process whatever it is doing. This includes TensorFlow's C++ code,
    where Python's handlers do not run. Signals ignored from the start (`nohup`) stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def at_first(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_DFL)
        handle(number)

    before = {
        number: handler
        for number in SIGNALS
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in before:
        signal.signal(number, at_first)
    try:
        yield
    finally:
        for number, handler in before.items():
            # After the first signal, keep the system's handling: the program is on its way out.
            if signal.getsignal(number) is at_first:
                signal.signal(number, handler)
