"""Every kind of bad input: one line, exit code 2, before TensorFlow is imported; and the table."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bad_input import CASES, DOCUMENT

ROOT = Path(__file__).parent.parent
NAMES = [case.name for case in CASES]


@pytest.fixture(scope="module")
def results():
    """What came of each case, all in a process of their own."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "bad_input.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_bad_input(results, case):
    code, out, error = results[case.name]
    assert code == 2
    lines = error.splitlines()
    assert len(lines) == case.num_lines, error
    assert lines[0].startswith("error: ") and max(map(len, lines)) < 1200
    # What would have been right: accepted, needed, what the header's sizes take, a key's name.
    right = r"accepted|needed|take|did you mean|starts with|an experiment is|more errors"
    assert re.search(right, lines[-1])
    assert "Traceback" not in out


def test_all_of_it_is_found_before_tensorflow_is_imported(results):
    assert results["tensorflow"] is False


def test_the_table_is_up_to_date(results):
    assert DOCUMENT.read_text() == results["document"], "make errors writes it anew"


def test_the_names_are_distinct():
    assert len(set(NAMES)) == len(NAMES) > 60
