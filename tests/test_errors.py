"""Every kind of bad input: one line, exit code 2, before TensorFlow is imported; docs/errors.md."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input import CASES, DOCUMENT, document, outcomes

ROOT = Path(__file__).parent.parent
NAMES = [case.name for case in CASES]


@pytest.fixture(scope="module")
def without_tensorflow():
    """The cases that are found early, in a process of their own: what came of them, and imports."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "bad_input.py", "--without-tensorflow"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def results(without_tensorflow):
    """What came of each case."""
    late = outcomes(case for case in CASES if case.needs_tensorflow)
    return {**without_tensorflow["results"], **late}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_bad_input(results, case):
    code, out, error = results[case.name]
    assert code == 2
    lines = error.splitlines()
    assert len(lines) == case.num_lines, error
    assert lines[0].startswith("error: ") and max(map(len, lines)) < 1200
    assert re.search("; accepted: |did you mean|more errors", lines[-1])
    assert "Traceback" not in out


def test_tensorflow_is_not_imported_before(without_tensorflow):
    assert without_tensorflow["imports"] is False


def test_the_table_is_up_to_date(results):
    assert DOCUMENT.read_text() == document(results), "write it again: make errors"


def test_the_names_are_distinct():
    assert len(set(NAMES)) == len(NAMES) > 60
