"""What the programs share on the command line: arguments, errors, a quiet console."""

import argparse
import contextlib
import errno
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from src.errors import SweepFailed, TrainingDiverged, UserError
from src.printable import printable
from src.system.regular_file import open_to_append
from src.system.signals import Stopped, stops_at_once

_MAX_LINE = 1000  # characters of an error


class _Parser(argparse.ArgumentParser):
    """A parser whose errors stay on their line, whatever was typed or pasted."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and `message`, and exit with code 2."""
        super().error(printable(message))


def program_parser(
    description: str, examples: str, *, prog: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser without arguments.

    Args:
        description: what the program does, one sentence.
        examples: command lines, shown below the options.
        prog: how the program is called, if not by the name of its file.
    """
    return _Parser(
        prog=prog,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def experiment_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every program that works on one experiment."""
    parser = program_parser(description, examples)
    parser.add_argument(
        "--model_dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="the experiment: a directory with a params.json, which also takes what is written",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--verbose", action="store_true", help="show TensorFlow's own log on the console"
    )
    return parser


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--data_dir`."""
    parser.add_argument(
        "--data_dir",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where the datasets are, each in a folder of its name (default: data)",
    )


def add_keep_splits(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--keep_splits`."""
    parser.add_argument(
        "--keep_splits",
        action="store_true",
        help="where the data have changed since the training began: go on, with the images of "
        "before in the splits where they were, and new ones dealt out beside them",
    )


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of an argument that is a number in a range; argparse reports what is none."""
    accepted = f"a whole number from {least} " + ("on" if most is None else f"to {most}")

    def read(text: str) -> int:
        # No more digits than a number has that calculations can take.
        number = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"found {text:.80}; accepted: {accepted}")
        return number

    return read


positive_int = whole_number(1)


def run(main: Callable[[], None]) -> None:
    """Run a program: bad input and a failed training end it with one line, a bug with a traceback.

    What the system refuses to do with a file, wherever that happens, is bad input too.

    Exit codes: 2 for bad input; 3 for a training that diverged or collapsed, and a sweep with one
    that failed; 130 for Ctrl-C, 143 for SIGTERM, of which a second ends the process at once; 141
    where the reader of a pipe has gone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a console that lacks a character, as `stderr`
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with stops_at_once():
            main()
            if sys.stdout:  # None where it was closed before the program was started
                sys.stdout.flush()
    except UserError as error:
        _exit_with(str(error), 2)
    except (SweepFailed, TrainingDiverged) as error:
        _exit_with(str(error), 3)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr)
        _exit_at_once(stopped.exit_code)
    except BrokenPipeError:  # `| head` has seen enough
        _discard_output()
        sys.exit(141)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _exit_with(_refusal(error), 2)


# What the system says no to: of permissions, names, kinds of files, disks and limits.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, errno.EILSEQ),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE),
    *(getattr(errno, "ESTALE", errno.EIO), errno.ETXTBSY, errno.EBUSY, errno.ENODEV),
}


def _refusal(error: OSError) -> str:
    """Return the line that says what could not be done with which file."""
    place = error.filename
    if not isinstance(place, str | bytes):  # of what is open, which is mostly standard output
        place = "output"
        _discard_output()
    reason = error.strerror or os.strerror(error.errno or 0)
    accepted = "a file or folder that this user may read or write, on a disk with room"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        accepted = "a higher limit of open files (ulimit -n)"
    return f"{printable(os.fsdecode(place))}: {reason}; accepted: {accepted}"


def _exit_with(message: str, code: int) -> None:
    """Print an error, in which only line ends control the console, and exit."""
    try:
        sys.stdout.flush()
    except (AttributeError, OSError):  # none; nobody reads it, or it has no room
        _discard_output()
    lines = [_shortened(printable(line)) for line in f"error: {message}".split("\n")]
    print("\n".join(lines), file=sys.stderr)
    sys.exit(code)


def _shortened(line: str) -> str:
    """Return a line without its middle where a path of thousands of letters makes it long."""
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE // 2]} ... {line[-400:]}"


def _exit_at_once(code: int) -> None:
    """Exit without Python's way of shutting down.

    That goes wrong where a signal has interrupted a library at whatever it was doing, such as
    being imported; and all that a program leaves is on the disk by then.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, full, closed
            stream.flush()
    os._exit(code)


def _discard_output() -> None:
    """Have what is still to be written to standard output go nowhere."""
    with contextlib.suppress(AttributeError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def quiet_console(log_path: Path, *, verbose: bool) -> Iterator[None]:
    """Send what TensorFlow writes to the console to a file, for the length of the block.

    Its C++ parts write to file descriptor 2, from TensorFlow 2.17 on whatever TF_CPP_MIN_LOG_LEVEL
    says, so the descriptor itself is turned aside. Python's own `sys.stderr` (progress bars,
    warnings, tracebacks) stays on the console.

    Args:
        log_path: the file to append to.
        verbose: leave everything on the console, and log at level INFO.
    """
    logging.getLogger("tensorflow").setLevel(logging.INFO if verbose else logging.ERROR)
    if verbose:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
        yield
        return
    console = os.dup(2)
    python_stderr = sys.stderr
    try:
        sys.stderr.flush()
        with open_to_append(log_path) as log:
            os.dup2(log.fileno(), 2)
        if python_stderr is sys.__stderr__:
            # With a descriptor of its own, open as long as a logger made in the block holds it.
            sys.stderr = open(  # noqa: SIM115
                os.dup(console), "w", buffering=1, errors="backslashreplace"
            )
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python_stderr
        os.dup2(console, 2)
        os.close(console)
