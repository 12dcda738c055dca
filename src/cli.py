"""What the programs share on the command line: arguments, errors, a quiet console."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from src.errors import SweepFailed, TrainingDiverged, UserError
from src.regular_file import open_to_append
from src.stopping import Stopped, stops_at_once


def program_parser(description: str, examples: str) -> argparse.ArgumentParser:
    """Return a parser without arguments.

    Args:
        description: what the program does, one sentence.
        examples: command lines, shown below the options.
    """
    return argparse.ArgumentParser(
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


def positive_int(text: str) -> int:
    """Return the number that an argument states; argparse reports what is none."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text}; accepted: a whole number from 1 on")
    return value


def run(main: Callable[[], None]) -> None:
    """Run a program: bad input and a failed training end it with one line, a bug with a traceback.

    Exit codes: 2 for bad input; 3 for a training that diverged or collapsed, and a sweep with one
    that failed; 130 for Ctrl-C, 143 for SIGTERM, of which a second ends the process at once; 141
    where the reader of a pipe has gone.
    """
    try:
        with stops_at_once():
            main()
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (SweepFailed, TrainingDiverged) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


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
