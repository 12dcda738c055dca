"""The words for how an experiment stands are the same in files, tables and messages."""

import csv
import io
import json

import pytest

from src.experiment import state_files
from src.experiment.status import Status

WORDS = {
    *("running", "finished", "stopped", "collapsed", "diverged", "failed", "not trained"),
    *("parent", "damaged", "unreadable", "running?", "baseline", "to run", "pruned"),
}


def test_the_words():
    assert set(Status) == WORDS and {str(status) for status in Status} == WORDS


@pytest.mark.parametrize("status", Status)
def test_a_status_is_shown_as_its_word(status):
    word = status.value
    assert type(str(status)) is str and f"{status}" == word and f"{status:14}|" == f"{word:14}|"
    assert json.dumps(status) == json.dumps(word) and {word: 1}[status] == 1
    assert ", ".join([status]) == word and sorted([status, ""])[1] == word
    file = io.StringIO()
    csv.writer(file).writerow([status])
    assert file.getvalue().strip() == word


@pytest.mark.parametrize("status", ["running", "finished", "stopped", "collapsed", "diverged"])
def test_metrics_json_has_the_word(status):
    content = state_files.format_metrics({"status": Status(status)})
    assert json.loads(content) == {"status": status}
    assert Status(state_files.parse_metrics(content)["status"]) is Status(status)
