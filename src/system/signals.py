"""SIGTERM, Ctrl-C and a closed terminal: the first ends a program in order, a second at once."""

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
    """A signal has asked the program to end; the exit code is 128 + its number, 143 for SIGTERM.

    No `Exception`, as `KeyboardInterrupt` is none, so that nothing takes it for a failure.
    """

    def __init__(self, number: int) -> None:
        """Name the signal by its number."""
        super().__init__(number)
        self.signal = signal.Signals(number)

    @property
    def exit_code(self) -> int:
        """What the shell reports of a process that the signal itself has ended."""
        return 128 + self.signal

    def __str__(self) -> str:
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name


class StopRequest:
    """Whether the program has been asked to end, for work that looks where it can end in order."""

    def __init__(self) -> None:
        """Start without a request."""
        self._number: int | None = None

    def __bool__(self) -> bool:
        return self._number is not None

    @contextmanager
    def by_signal(self) -> Iterator[None]:
        """Have a signal noted only. A block that ends with one noted raises `Stopped`."""

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
    """Have a signal raise `Stopped` wherever the block happens to be.

    That may be in the midst of a library that makes another error of it, prints it (TensorFlow's
    C++ does both), or goes on as if nothing had been (Python itself does, in callbacks). So on its
    way out nothing is printed to `sys.stderr`, it is raised again if it does not come out, and
    `Stopped` comes out.
    """
    raised: list[Stopped] = []
    console = sys.stderr

    def stop(number: int) -> None:
        raised.append(Stopped(number))
        sys.stderr = silence
        _call_every(_SECONDS_TO_COME_OUT, raise_again)
        raise raised[0]

    def raise_again() -> None:
        if sys.exc_info()[1] is None:  # it is on its way while `finally` and `with` clean up
            raise raised[0]

    try:
        with open(os.devnull, "w") as silence, _first_signal(stop):
            try:
                yield
            except Exception as error:
                if raised:
                    raise raised[0] from error
                raise
    finally:  # after which no signal can come that would silence it again
        if raised:
            _call_every(0, None)
            sys.stderr = console


def _call_every(seconds: float, function: Callable[[], None] | None) -> None:
    """Call `function` again and again, where the system has such a clock; 0 for no more."""
    if hasattr(signal, "setitimer"):
        if function is not None:
            signal.signal(signal.SIGALRM, lambda number, frame: function())
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


@contextmanager
def _first_signal(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` at the first signal, then put the system's own handling back.

    By that a second signal ends the process whatever it is doing, in TensorFlow's C++ too, where
    Python's handlers do not run. Signals that the process was started to ignore (`nohup`) stay
    ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
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
            # Not after the first signal: what then still runs is the way out.
            if signal.getsignal(number) is at_first:
                signal.signal(number, handler)
