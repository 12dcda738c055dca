"""setup_venv.sh, by which make sets up its environments: what it accepts, and what it repairs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "setup_venv.sh"


@pytest.fixture
def setup_venv(tmp_path):
    """`setup_venv(python, makeflags)` in a folder whose lock file asks for nothing."""
    (tmp_path / "empty.lock").write_text("# nothing\n")

    def run(python, makeflags=""):
        return subprocess.run(
            ["sh", SCRIPT, ".venv", "empty.lock", python, "3.10", "3.13"],
            cwd=tmp_path,
            env={**os.environ, "MAKEFLAGS": makeflags},
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def fake_python(tmp_path):
    """`fake_python(version)`: a program that says it is that Python, and can nothing else."""

    def make(version):
        path = tmp_path / f"fake{version}"
        path.write_text(f"#!/bin/sh\ncase $2 in *version*) echo {version};; *) exit 1;; esac\n")
        path.chmod(0o755)
        return path

    return make


@pytest.fixture
def quick_python(tmp_path):
    """A Python 3.12 whose environments are a copy of itself; it writes what it is to do to `did`.

    To install fails as long as there is a file `offline`.
    """
    path = tmp_path / "quick"
    path.write_text(
        f"""#!/bin/sh
cd {tmp_path}
case "$*" in
    *version_info*) echo 3.12 ;;
    "-m venv "*) echo "$*" >> did; rm -rf .venv; mkdir -p .venv/bin; cp quick .venv/bin/python ;;
    "-m pip "*) echo "$*" >> did; [ ! -e offline ] ;;
esac
"""
    )
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.9", "3.14", "3.20", "4.0"])
def test_other_pythons_are_refused_in_one_line(setup_venv, fake_python, version):
    done = setup_venv(fake_python(version))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: {fake_python(version)} is Python {version}; accepted: Python 3.10 to 3.13, named "
        "for example by: make demo PYTHON=python3.11\n"
    )


def test_a_python_that_is_not_there(setup_venv):
    done = setup_venv("python-that-is-not-there")
    assert done.returncode == 2
    assert done.stderr.startswith("error: python-that-is-not-there does not run; accepted: Python")
    assert done.stderr.count("\n") == 1


def test_a_python_without_venv(setup_venv, fake_python):
    done = setup_venv(fake_python("3.12"))
    assert done.returncode == 2
    assert "has no venv module; accepted: Python with venv" in done.stderr
    assert "apt install python3.12-venv" in done.stderr


def test_a_half_one_is_set_up_anew_then_kept(setup_venv, tmp_path):
    """With this Python itself: half of the files, and no copy of the lock file yet."""
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /nowhere\n")
    python.symlink_to("/nowhere/python")
    assert setup_venv(sys.executable).stdout.startswith("Setting up .venv with Python 3.")
    assert subprocess.run([python, "-c", ""]).returncode == 0
    assert setup_venv(sys.executable).stdout == ""
    # An environment that is complete needs no other Python, unless one is named.
    assert setup_venv("python-that-is-not-there").returncode == 0
    assert setup_venv("python-that-is-not-there", "-- PYTHON=python-that-is-not-there").returncode


def test_the_environment_of_another_checkout_is_not_emptied(setup_venv, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "installed.lock").write_text("# something else\n")
    (tmp_path / ".venv").symlink_to(elsewhere)
    done = setup_venv(sys.executable)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: .venv is a symbolic link")
    assert done.stderr.count("\n") == 1
    assert (elsewhere / "installed.lock").read_text() == "# something else\n"
    (elsewhere / "installed.lock").write_text(
        "# nothing\n"
    )  # it is complete: no reason to touch it
    assert setup_venv(sys.executable).returncode == 0


def test_set_up_again_when_it_was_interrupted_and_for_another_lock_file(
    setup_venv, quick_python, tmp_path
):
    did = [
        "-m venv --clear .venv",
        "-m pip install --quiet --disable-pip-version-check --require-hashes --no-deps "
        "-r empty.lock",
    ]

    def what_is_done():
        (tmp_path / "did").write_text("")
        done = setup_venv(quick_python)
        lines = (tmp_path / "did").read_text().split("\n")[:-1]
        assert bool(lines) == done.stdout.startswith("Setting up .venv with Python 3.12")
        return done.returncode, lines

    (tmp_path / "offline").touch()
    assert what_is_done() == (1, did)
    assert what_is_done() == (1, did)  # it is not taken for complete
    (tmp_path / "offline").unlink()
    assert what_is_done() == (0, did)
    assert what_is_done() == (0, [])
    (tmp_path / "empty.lock").write_text("# nothing, but otherwise\n")
    assert what_is_done() == (0, did)
    assert what_is_done() == (0, [])
