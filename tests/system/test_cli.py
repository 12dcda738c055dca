"""What the programs share: exit codes, one-line errors, a quiet console. In processes of their own,
for it is exit codes and file descriptors that count."""

import errno
import os
import signal
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from src.system.cli import (
    experiment_parser,
    positive_int,
    print_warnings,
    program_parser,
    whole_number,
)

ROOT = Path(__file__).parents[2]

PREAMBLE = """
import os, signal, sys
from pathlib import Path
from src.system.cli import experiment_parser, positive_int, program_parser, quiet_console, run
from src.errors import UserError
LOG = Path(sys.argv[1])
"""


@pytest.fixture
def log(tmp_path):
    return tmp_path / "tensorflow.log"


def program(code, log, **variables):
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code, str(log)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **variables},
    )


def test_success(log):
    done = program("run(lambda: print('fine'))", log)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_bad_input_ends_with_one_line_and_exit_code_2(log):
    done = program(
        """
def main():
    raise UserError("params.json: margin: found -1; accepted: greater than 0")
run(main)
""",
        log,
    )
    assert done.returncode == 2
    assert done.stderr == "error: params.json: margin: found -1; accepted: greater than 0\n"
    assert done.stdout == ""


def test_bad_input_in_the_quiet_block(log):
    done = program(
        """
def main():
    with quiet_console(LOG, verbose=False):
        raise UserError("wrong")
run(main)
""",
        log,
    )
    assert (done.returncode, done.stderr) == (2, "error: wrong\n")


def test_keyboard_interrupt(log):
    done = program(
        """
def main():
    os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
run(main)
""",
        log,
    )
    assert (done.returncode, done.stderr) == (130, "stopped by Ctrl-C\n")


def test_interrupt_from_outside_in_the_quiet_block(log):
    code = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
def main():
    with quiet_console(LOG, verbose=False):
        print("ready", flush=True)
        time.sleep(60)
run(main)
"""
    with subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + code, str(log)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "stopped by Ctrl-C\n")


@pytest.mark.parametrize("error", ["ValueError", "KeyError", "AssertionError"])
def test_a_bug_keeps_its_traceback(log, error):
    done = program(
        f"""
def main():
    raise {error}("a bug")
run(main)
""",
        log,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert f"{error}: " in done.stderr and "a bug" in done.stderr


def test_descriptor_2_goes_to_the_log_and_python_to_the_console(log):
    done = program(
        """
with quiet_console(LOG, verbose=False):
    os.write(2, b"from C++\\n")
    print("from Python", file=sys.stderr)
    os.system("echo from a child >&2")
os.write(2, b"C++ afterwards\\n")
print("Python afterwards", file=sys.stderr)
""",
        log,
    )
    assert done.returncode == 0
    assert log.read_text() == "from C++\nfrom a child\n"
    assert done.stderr == "from Python\nC++ afterwards\nPython afterwards\n"


def test_what_was_written_before_the_block_stays_on_the_console(log):
    done = program(
        """
sys.stderr.write("without a line's end, ")
with quiet_console(LOG, verbose=False):
    print("within", file=sys.stderr)
""",
        log,
    )
    assert done.stderr == "without a line's end, within\n"
    assert log.read_text() == ""


def test_standard_output_is_left_alone(log):
    done = program(
        """
with quiet_console(LOG, verbose=False):
    print("from Python", flush=True)
    os.write(1, b"from C++\\n")
""",
        log,
    )
    assert done.stdout == "from Python\nfrom C++\n"


def test_a_traceback_goes_to_the_console(log):
    done = program(
        """
def main():
    with quiet_console(LOG, verbose=False):
        os.write(2, b"from C++\\n")
        raise RuntimeError("a bug")
run(main)
""",
        log,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") and "RuntimeError: a bug" in done.stderr
    assert log.read_text() == "from C++\n"


@pytest.mark.parametrize("end", ["pass", "raise ValueError"])
def test_everything_is_restored(log, end):
    done = program(
        f"""
before = sys.stderr, os.fstat(2), sorted(os.listdir("/proc/self/fd") if LINUX else [])
try:
    with quiet_console(LOG, verbose=False):
        assert not os.path.samestat(os.fstat(2), before[1])
        assert sys.stderr is not before[0]
        {end}
except ValueError:
    pass
assert sys.stderr is before[0] is sys.__stderr__
assert os.path.samestat(os.fstat(2), before[1])
assert sorted(os.listdir("/proc/self/fd") if LINUX else []) == before[2]
""".replace("LINUX", str(sys.platform == "linux")),
        log,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_logger_made_in_the_block_can_log_afterwards(log):
    # TensorFlow's own logger is: it keeps the sys.stderr that it found when it was imported.
    done = program(
        """
import logging
with quiet_console(LOG, verbose=False):
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    logging.error("within")
with open(LOG.with_name("other"), "w") as other:
    logging.error("afterwards")
""",
        log,
    )
    assert done.stderr == "within\nafterwards\n"
    assert log.with_name("other").read_text() == ""


def test_the_log_is_appended_to(log):
    log.write_text("of an earlier run\n")
    program(
        """
for _ in range(2):
    with quiet_console(LOG, verbose=False):
        os.write(2, b"again\\n")
""",
        log,
    )
    assert log.read_text() == "of an earlier run\nagain\nagain\n"


def test_a_stream_of_someone_else_in_place_of_stderr_is_kept(log):
    done = program(
        """
import io
sys.stderr = captured = io.StringIO()
with quiet_console(LOG, verbose=False):
    print("from Python", file=sys.stderr)
assert sys.stderr is captured and captured.getvalue() == "from Python\\n"
""",
        log,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_character_that_the_console_lacks_stops_nothing(log):
    done = program(
        """
with quiet_console(LOG, verbose=False):
    print("\\u2588", file=sys.stderr)
""",
        log,
        LC_ALL="C",
        PYTHONCOERCECLOCALE="0",
        PYTHONUTF8="0",
    )
    assert (done.returncode, done.stderr) == (0, "\\u2588\n")


def test_verbose_leaves_descriptor_2_alone(log):
    done = program(
        """
import logging
before = sys.stderr, os.fstat(2)
with quiet_console(LOG, verbose=True):
    assert os.path.samestat(os.fstat(2), before[1]) and sys.stderr is before[0]
    os.write(2, b"from C++\\n")
    print("from Python", file=sys.stderr)
    assert logging.getLogger("tensorflow").level == logging.INFO
""",
        log,
    )
    assert (done.returncode, done.stderr) == (0, "from C++\nfrom Python\n")
    assert not log.exists()


def test_the_shared_arguments():
    parser = experiment_parser("Do it.", "  program --model_dir x")
    args = parser.parse_args(["--model_dir", "experiments/x"])
    assert args.model_dir == Path("experiments/x")
    assert args.data_dir == Path("data")
    assert args.verbose is False
    args = parser.parse_args(["--model_dir", "x", "--data_dir", "/data", "--verbose"])
    assert (args.data_dir, args.verbose) == (Path("/data"), True)


def test_without_an_experiment(log):
    done = program("experiment_parser('Do it.', '').parse_args([])", log)
    assert done.returncode == 2
    assert "--model_dir" in done.stderr and "Traceback" not in done.stderr


def test_help_shows_the_examples_as_they_are():
    text = experiment_parser("Do it.", "  program a\n  program b").format_help()
    assert text.endswith("examples:\n  program a\n  program b\n")


def test_what_the_system_refuses_is_no_traceback(log):
    names = ["EACCES", "EPERM", "EROFS", "ENAMETOOLONG", "ELOOP", "EISDIR", "ENOTDIR", "EIO"]
    codes = [getattr(errno, name) for name in [*names, "ENOSPC"]]
    done = program(
        f"""
def main():
    raise OSError(code, os.strerror(code), "some\x1b[2J/file\u202e")
for code in {codes}:
    try:
        run(main)
    except SystemExit as end:
        assert end.code == 2
""",
        log,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "".join(
        rf"error: some\x1b[2J/file\u202e: {os.strerror(code)}; accepted: a file or folder that "
        "this user may read and write, on a disk with free space\n"
        for code in codes
    )


def test_no_more_open_files(log):
    done = program(
        """
import resource
def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
    kept = [open(LOG, "wb") for _ in range(20)]
run(main)
""",
        log,
    )
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {log}: Too many open files; accepted: a higher limit of open files (ulimit -n)\n",
    )


@pytest.mark.parametrize("code", ["ENOENT", "EBADF", "EINVAL", "ECHILD"])
def test_what_may_be_a_mistake_of_ours_keeps_its_traceback(log, code):
    done = program(
        f"""
import errno
def main():
    raise OSError(errno.{code}, "of ours", "file")
run(main)
""",
        log,
    )
    assert done.returncode == 1 and done.stderr.startswith("Traceback")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("text", ["short", "long" * 100_000])
def test_standard_output_on_a_full_disk(log, text):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                f"{PREAMBLE}run(lambda: print({text[:4]!r} * {len(text)}))",
                log,
            ],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.startswith("error: output: No space left on device; accepted: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("error", ["UserError('wrong')", "OSError(13, 'no', 'file')"])
def test_an_error_where_nobody_reads_the_output(log, error):
    code = f"""{PREAMBLE}
def main():
    print("text")
    raise {error}
run(main)
"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, log],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},  # what is not yet written is not read
        )
    finally:
        os.close(writer)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_names_in_errors_control_no_console(log):
    done = program(
        r"""
def main():
    raise UserError("a\x1b[2J\u202e\r: wrong\nb\udcff\x07\u2028: wrong too")
run(main)
""",
        log,
    )
    assert done.returncode == 2
    assert done.stderr == (
        r"error: a\x1b[2J\u202e\r: wrong" + "\n" + r"b\udcff\x07\u2028: wrong too" + "\n"
    )


def test_a_line_of_an_error_is_no_longer_than_a_console_takes(log):
    done = program(
        "def main(): raise UserError('x' * 99_999 + ': wrong; accepted: y')\nrun(main)", log
    )
    assert done.stderr.startswith("error: xxx") and done.stderr.endswith("x: wrong; accepted: y\n")
    assert " ... " in done.stderr and len(done.stderr) < 1000


def test_arguments_in_errors_control_no_console(log):
    code = "experiment_parser('Do it.', '').parse_args(['--model_dir', 'x', '\x1b[2J\u202e\\n'])"
    done = program(code, log)
    assert done.returncode == 2
    assert done.stderr.endswith(r"error: unrecognized arguments: \x1b[2J\u202e\n" + "\n")


def test_a_name_that_the_console_lacks_is_printed_all_the_same(log):
    done = program(
        r"run(lambda: print('\u00fc \u202e \udcff'))",
        log,
        LC_ALL="C",
        PYTHONCOERCECLOCALE="0",
        PYTHONUTF8="0",
    )
    assert (done.returncode, done.stdout) == (0, r"\xfc \u202e \udcff" + "\n")


def test_standard_output_that_is_closed(log):
    code = PREAMBLE + "run(lambda: print('to nobody'))"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" log >&-', sys.executable, code],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_log_is_no_way_to_another_file(log, tmp_path):
    (tmp_path / "mine").write_text("mine\n")
    os.mkfifo(tmp_path / "pipe")
    code = "run(lambda: quiet_console(LOG, verbose=False).__enter__())"
    for target in ("mine", "pipe", "absent"):
        log.unlink(missing_ok=True)
        log.symlink_to(tmp_path / target)
        done = program(code, log)
        assert (done.returncode, done.stderr) == (
            2,
            f"error: {log}: a symbolic link; accepted: a regular file\n",
        )
    assert (tmp_path / "mine").read_text() == "mine\n" and not (tmp_path / "absent").exists()
    log.unlink()
    os.mkfifo(log)
    done = program(code, log)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr == f"error: {log}: a named pipe; accepted: a regular file\n"


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "", "9" * 5000, "\u0663"])
def test_what_is_no_number(text, capsys):
    parser = program_parser("Do it.", "")
    parser.add_argument("--jobs", type=positive_int)
    assert parser.parse_args(["--jobs", "007"]).jobs == 7
    with pytest.raises(SystemExit):
        parser.parse_args(["--jobs", text])
    error = capsys.readouterr().err
    assert error.endswith(f"--jobs: found {text[:80]}; accepted: a whole number from 1 on\n")


@pytest.mark.parametrize(("text", "fits"), [("0", True), ("65535", True), ("65536", False)])
def test_numbers_in_a_range(text, fits):
    read = whole_number(0, 65535)
    if fits:
        assert read(text) == int(text)
    else:
        with pytest.raises(ArgumentTypeError, match="65536; accepted: a whole number from 0 to 65"):
            read(text)


def test_a_warning_is_one_line_whatever_it_names(capsys):
    print_warnings(["da\x1b[2Jta/\u202epics: odd\nerror: x"])
    assert capsys.readouterr().out == ("warning: da\\x1b[2Jta/\\u202epics: odd\\nerror: x\n")
