"""The study: proposals that depend on what is known alone, the median, and the journal."""

import json

import numpy as np
import pytest

from src.errors import UserError
from src.experiment.status import Status
from src.searching.evaluations import best_so_far
from src.searching.study import JOURNAL_FILE, MIN_FINISHED, Study
from src.sweeping.space import parse_dimension

SPACE = ["margin=0.05..5:log", "triplet_strategy=batch_all,batch_hard", "augment.shift=0..4"]


def open_study(directory, texts=SPACE, **changes):
    settings = {
        "search": "tpe",
        "metric": "validation.map_at_r_within",
        "is_higher_better": True,
        "seed": 3,
        "num_trials": 12,
        **changes,
    }
    return Study(directory, dict(map(parse_dimension, texts)), **settings)


def score(values):
    return 1 / (1 + abs(np.log(values["margin"] / 0.3)))


def run(study, count):
    """Propose and end `count` trials; return their values."""
    found = []
    for _ in range(count):
        trial = study.propose()
        found.append(trial.values)
        study.end(trial.number, Status.FINISHED, score(trial.values), 1.0)
    return found


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_the_same_seed_proposes_the_same_however_often_it_is_opened(tmp_path, search):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    at_once = run(open_study(tmp_path / "a", search=search), 12)
    in_parts = []
    for count in (1, 4, 2, 5):
        in_parts += run(open_study(tmp_path / "b", search=search), count)
    assert at_once == in_parts
    other = run(open_study(tmp_path / "c", search=search, seed=4), 12)
    assert other != at_once
    assert all(0.05 <= values["margin"] <= 5 for values in at_once)
    assert {type(values["augment.shift"]) for values in at_once} == {int}


def test_tpe_looks_where_it_was_good(tmp_path):
    values = run(open_study(tmp_path), 30)
    early, late = np.array([score(one) for one in values[:4]]), [score(one) for one in values[15:]]
    assert np.median(late) > early.mean() + 0.1


def test_what_a_kill_cuts_off_is_proposed_again(tmp_path):
    """The journal ends anywhere, also within a line."""
    (tmp_path / "whole").mkdir()
    whole = run(open_study(tmp_path / "whole"), 8)
    journal = (tmp_path / "whole" / JOURNAL_FILE).read_bytes()
    for n, size in enumerate(np.random.default_rng(0).integers(1, len(journal), 40)):
        directory = tmp_path / str(n)
        directory.mkdir()
        (directory / JOURNAL_FILE).write_bytes(journal[:size])
        study = open_study(directory)
        for trial in study.trials():
            if trial.status == Status.RUNNING:
                study.end(trial.number, Status.FINISHED, score(trial.values), 1.0)
        run(study, 8 - len(study.trials()))
        assert [trial.values for trial in study.trials()] == whole, size


@pytest.mark.parametrize("is_higher_better", [True, False])
def test_pruned_by_the_median_means_what_it_says(tmp_path, is_higher_better):
    """Against NumPy: worse than the median of the finished ones' best values at the same point."""
    random = np.random.default_rng(int(is_higher_better))
    study = open_study(tmp_path, is_higher_better=is_higher_better, search="random")
    finished, num_pruned, num_kept = [], 0, 0
    for _ in range(25):
        trial = study.propose()
        curve = best_so_far(list(random.random(6)), is_higher_better)
        for evaluation, value in enumerate(curve, start=1):
            at_it = [one[evaluation - 1] for one in finished]
            median = float(np.median(at_it)) if at_it else None
            is_worse = len(finished) >= MIN_FINISHED and (
                value < median if is_higher_better else value > median
            )
            found = study.report(trial.number, evaluation, value)
            assert found == (pytest.approx(median) if is_worse else None)
            if is_worse:
                study.end(trial.number, Status.PRUNED, None, 1.0)
                num_pruned += 1
                break
            num_kept += 1
        else:
            study.end(trial.number, Status.FINISHED, curve[-1], 1.0)
            finished.append(curve)
    assert num_pruned > 5 and num_kept > 20


def test_what_was_not_trained_again_is_no_training_that_finished(tmp_path):
    """Neither for pruning nor for the importances."""
    study = open_study(tmp_path, ["margin=0.2,0.4,0.8"], search="grid")
    for n, margin in enumerate([0.2, 0.2, 0.2, 0.2, 0.4, 0.8]):
        trial = study.propose({"margin": margin})
        if n in (0, 4):
            study.report(trial.number, 1, 0.9)
        if n < 5:
            study.end(trial.number, Status.FINISHED, 0.9 if n < 4 else 0.7, 1.0)
    assert study.report(trial.number, 1, 0.1) is None
    assert study.importances() is None


def test_the_best_so_far_by_a_loop():
    values = [0.2, 0.1, float("nan"), 0.4, 0.3]
    assert best_so_far(values, True) == [0.2, 0.2, 0.2, 0.4, 0.4]
    assert best_so_far(values, False) == [0.2, 0.1, 0.1, 0.1, 0.1]
    assert best_so_far([], True) == []


def test_a_report_again_changes_nothing(tmp_path):
    study = open_study(tmp_path)
    trial = study.propose()
    study.report(trial.number, 1, 0.5)
    study.report(trial.number, 2, 0.6)
    study.report(trial.number, 1, 0.9)
    assert study.trials()[0].reports == {1: 0.5, 2: 0.6}


def test_what_diverges_is_proposed_less(tmp_path):
    """It counts as worse than everything finished, although it has no metric."""
    study = open_study(tmp_path, ["margin=0.05..5:log"], num_trials=60)
    is_bad = []
    for number in range(60):
        margin = study.propose().values["margin"]
        is_bad.append(margin < 1)
        status = Status.DIVERGED if is_bad[-1] else Status.FINISHED
        study.end(number, status, None if is_bad[-1] else 0.5, 1.0)
    at_random = np.log(1 / 0.05) / np.log(5 / 0.05)
    assert np.mean(is_bad[20:]) < at_random - 0.15


def test_another_metric_seed_search_or_other_choices_are_refused(tmp_path):
    run(open_study(tmp_path), 2)
    for changes in ({"metric": "validation.eer"}, {"seed": 9}, {"search": "random"}):
        with pytest.raises(UserError, match="found .*, but the search in .* has .*; accepted"):
            open_study(tmp_path, **changes)
    with pytest.raises(UserError, match="triplet_strategy: not the choices"):
        open_study(tmp_path, ["triplet_strategy=batch_all"])


def test_another_key_or_another_range_goes_on(tmp_path):
    before = run(open_study(tmp_path, ["margin=0.05..5:log"]), 6)
    study = open_study(tmp_path, ["margin=0.1..1:log", "augment.shift=0..4"])
    after = run(study, 4)
    assert [trial.values for trial in study.trials()] == before + after
    assert all(set(values) == {"margin", "augment.shift"} for values in after)


def test_a_damaged_journal_is_named(tmp_path):
    run(open_study(tmp_path), 2)
    path = tmp_path / JOURNAL_FILE
    whole = path.read_bytes()
    lines = len(whole.splitlines())
    path.write_bytes(json.dumps({"op_code": 99}).encode() + b"\n")
    with pytest.raises(UserError, match="search.journal: damaged .*accepted"):
        open_study(tmp_path)
    for garbage in (b"{}\n", b"nothing\n" * 3, b"\xff\xfe\x00\n", b"[1]\n", b"[" * 10**5 + b"\n"):
        path.write_bytes(whole + garbage)
        with pytest.raises(UserError, match="remove the lines from this one on") as caught:
            open_study(tmp_path)
        assert f"search.journal: line {lines + 1}: found " in str(caught.value)
        assert path.read_bytes() == whole + garbage  # nothing is lost
    for torn in (b"\xff\xfe", b'{"op_code": 4, "wor', b"\0" * 4096):  # a kill, a power failure
        path.write_bytes(whole + torn)
        assert len(open_study(tmp_path).trials()) == 2
        now = path.read_bytes()
        assert now.startswith(whole) and not now.startswith(whole + torn)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="accepted: a regular file"):
        open_study(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("user_attr", {}, "trial 0 has ended without a status"),
        ("values", [float("nan")], "trial 0: a value is missing, or no finite number"),
        ("values", [], "list index"),
        ("param_value_internal", [], "not 'list'"),
        ("intermediate_value", None, "trial 0: a value is missing"),
    ],
)
def test_a_journal_of_entries_with_other_values_is_named(tmp_path, key, value, message):
    """Each line can be read, but what it says is not what was written."""
    study = open_study(tmp_path)
    study.report(study.propose().number, 1, 0.5)
    study.end(0, Status.FINISHED, 0.5, 1.0)
    path = tmp_path / JOURNAL_FILE
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [{**entry, key: value} if key in entry else entry for entry in entries]
    if key == "user_attr":
        changed = [one for one in entries if "status" not in one.get("user_attr", {})]
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in changed))
    with pytest.raises(UserError, match=f"search.journal: damaged .*{message}.*accepted"):
        open_study(tmp_path)


def test_importances_by_what_matters(tmp_path):
    study = open_study(tmp_path, search="random")
    assert study.importances() is None
    run(study, 40)
    found = study.importances()
    assert set(found) == {"margin", "triplet_strategy", "augment.shift"}
    assert found["margin"] > 0.7 and sum(found.values()) == pytest.approx(1)
