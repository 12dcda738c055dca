"""The command line that all programs share: arguments, errors, a quiet console."""

import argparse
import contextlib
import errno
import io
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from src.errors import SweepFailed, TrainingDiverged, UserError, WorkerLost
from src.printable import printable
from src.system.process import prepare_for_tensorflow
from src.system.regular_file import open_to_append
from src.system.signals import Stopped, stops_at_once

_MAX_LINE = 1000  # characters of an error message


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages stay on one line, whatever the input."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and `message`, and exit with code 2."""
        super().error(printable(message))


def program_parser(
    description: str, examples: str, *, prog: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser without arguments.

    Args:
        description: what the program does, in one sentence.
        examples: command lines, shown below the options.
        prog: the program's name, if it differs from its file name.
    """
    return _Parser(
        prog=prog,
        allow_abbrev=False,  # what a program prints to run it again needs the options' own names
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def experiment_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments shared by all programs that work on one experiment."""
    parser = program_parser(description, examples)
    add_experiment(parser)
    add_data_dir(parser)
    parser.add_argument(
        "--verbose", action="store_true", help="print TensorFlow's own log on the console"
    )
    return parser


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--model_dir`."""
    parser.add_argument(
        "--model_dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="the experiment's directory: it has a params.json, and all results are written to it",
    )


def add_gallery(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--gallery`."""
    parser.add_argument(
        "--gallery",
        metavar="WHERE",
        help="a file, or postgresql://user@host/database (default: gallery.sqlite in the "
        "experiment)",
    )


def add_far(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--far`."""
    parser.add_argument(
        "--far",
        type=rate,
        metavar="RATE",
        help="the share of strangers that may be let in, or of pairs of different classes: a rate "
        "that was measured (default: 0.01, or else the next larger one)",
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--data_dir`."""
    parser.add_argument(
        "--data_dir",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="the folder of all datasets, each in a subfolder of its name (default: data)",
    )


def add_keep_splits(parser: argparse.ArgumentParser) -> None:
    """Add the argument `--keep_splits`."""
    parser.add_argument(
        "--keep_splits",
        action="store_true",
        help="accept data that have changed since the training began: known images keep their "
        "splits, and new images are distributed among the splits",
    )


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argument type for whole numbers in a range; argparse reports other input."""
    accepted = f"a whole number from {least} " + ("on" if most is None else f"to {most}")

    def read(text: str) -> int:
        # At most 18 digits, so that calculations can use the number.
        number = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"found {text:.80}; accepted: {accepted}")
        return number

    return read


positive_int = whole_number(1)


def positive_number(text: str) -> float:
    """Return a number greater than 0; argparse reports other input."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"found {text:.80}; accepted: a number greater than 0")
    return number


def rate(text: str) -> float:
    """Return a rate between 0 and 1."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"found {text:.80}; accepted: a rate such as 0.01 or 1e-3")
    return number


def png_path(text: str) -> Path:
    """Return the path of a PNG file to write; argparse reports other input."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"found {text:.80}; accepted: a name that ends in .png")
    return Path(text)


def print_warnings(lines: Iterable[str]) -> None:
    """Print one warning per line, with names from outside escaped."""
    for line in lines:
        print(f"warning: {printable(line)}", flush=True)


def run(main: Callable[[], None]) -> None:
    """Run a program. Bad input and failed trainings end it with one line, bugs with a traceback.

    If the system refuses a file operation, that counts as bad input.

    Exit codes: 2 for bad input; 3 for a training that diverged or collapsed, or a sweep with such a
    training; 4 if another worker of the training has ended; 130 for Ctrl-C and 143 for SIGTERM (a
    second signal ends the process at once); 141 if the reader of a pipe has closed it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # escape what the console lacks, as `stderr` does
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with stops_at_once():
            prepare_for_tensorflow()
            main()
            if sys.stdout:  # None if it was closed before the program started
                sys.stdout.flush()
    except UserError as error:
        _exit_with(str(error), 2)
    except (SweepFailed, TrainingDiverged) as error:
        _exit_with(str(error), 3)
    except WorkerLost as error:
        _exit_with(str(error), 4)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr)
        _exit_at_once(stopped.exit_code)
    except BrokenPipeError:  # `| head` closed the pipe
        _discard_output()
        sys.exit(141)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        _exit_with(_refusal(error), 2)


# Refusals of the system: permissions, names, kinds of files, disks and limits.
_REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, errno.EILSEQ),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE),
    *(getattr(errno, "ESTALE", errno.EIO), errno.ETXTBSY, errno.EBUSY, errno.ENODEV),
}


def _refusal(error: OSError) -> str:
    """Return the line that says what failed, and for which file."""
    place = error.filename
    if not isinstance(place, str | bytes):  # an open file, usually standard output
        place = "output"
        _discard_output()
    reason = error.strerror or os.strerror(error.errno or 0)
    accepted = "a file or folder that this user may read and write, on a disk with free space"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        accepted = "a higher limit of open files (ulimit -n)"
    return f"{printable(os.fsdecode(place))}: {reason}; accepted: {accepted}"


def _exit_with(message: str, code: int) -> None:
    """Print an error and exit. All control characters except line ends are escaped."""
    try:
        sys.stdout.flush()
    except (AttributeError, OSError):  # no stdout; its reader has gone, or its disk is full
        _discard_output()
    lines = [_shortened(printable(line)) for line in f"error: {message}".split("\n")]
    print("\n".join(lines), file=sys.stderr)
    sys.exit(code)


def _shortened(line: str) -> str:
    """Return a line without its middle if it is too long, for example because of a long path."""
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE // 2]} ... {line[-400:]}"


def _exit_at_once(code: int) -> None:
    """Exit without Python's normal shutdown.

    The shutdown can fail if a signal has interrupted a library, for example while it was imported.
    Everything the program leaves is already on the disk.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # missing, full, closed
            stream.flush()
    os._exit(code)


def _discard_output() -> None:
    """Discard what is still to be written to standard output."""
    with contextlib.suppress(AttributeError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def quiet_console(log_path: Path, *, verbose: bool) -> Iterator[None]:
    """Redirect TensorFlow's console output to a file during the block.

    TensorFlow's C++ code writes to file descriptor 2; since version 2.17 it ignores
    TF_CPP_MIN_LOG_LEVEL. So the descriptor itself is redirected. Python's own `sys.stderr`
    (progress bars, warnings, tracebacks) stays on the console.

    Args:
        log_path: the file to append to.
        verbose: leave all output on the console, and log at level INFO.
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
            # Uses its own descriptor, which stays open while a logger made in the block holds it.
            sys.stderr = open(  # noqa: SIM115
                os.dup(console), "w", buffering=1, errors="backslashreplace"
            )
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python_stderr
        os.dup2(console, 2)
        os.close(console)
