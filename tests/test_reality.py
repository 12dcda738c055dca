"""`make reality-check`: its table by hand, its figure, and its parts with `fake_train.py`."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_train import DIVERGES, EVALUATIONS, peak
from searching.search_program import use_fake
from tiny import write_noise

import sweep
from benchmarks import reality, reality_page
from benchmarks.reality_page import against, figure_of, interval, page_of
from benchmarks.reality_protocol import (
    PARTS,
    STRATEGIES,
    TASKS,
    TRIALS,
    Row,
    Strategy,
    params_of,
    protocol_of,
    ranges_of,
    read_rows,
    write_rows,
)
from benchmarks.results_page import END, begin_of
from src.data.holdout import held_out_labels
from src.datasets.fashion_mnist import CLASS_NAMES
from src.errors import SweepFailed, UserError
from src.params.reading import check_params, load_params
from src.searching.goal import DEFAULT_METRIC, make_goal
from src.searching.record import read_record
from src.searching.request import Request, check_space
from src.sweeping.launchers.local import Local
from src.sweeping.space import parse_dimension

ROOT = Path(__file__).parent.parent
MARKS = f"before\n{begin_of('reality-check')}\nold\n{END}\nafter\n"


def row(task, strategy, seed, map_at_r, **changes):
    values = {
        "found": {"learning_rate": 0.00123, "margin": 0.2},
        "status": "finished",
        "recall_at_1": 0.5,
        "validation": 0.9,
        "raw_pixels": 0.3,
        "untrained": 0.2 + seed / 10,
        "seconds": 600,
        "search_seconds": 1800,
        "machine": "a machine",
        "date": "2026-11-27",
        "protocol": protocol_of((task, strategy)) if (task, strategy) in PARTS else "x",
        "trials": TRIALS,
    }
    return Row(
        dataset=task, strategy=strategy, seed=seed, map_at_r=map_at_r, **{**values, **changes}
    )


def rows_of(task, strategy, *values, **changes):
    return [row(task, strategy, n, value, **changes) for n, value in enumerate(values, start=1)]


# The protocol


@pytest.mark.parametrize("part", PARTS, ids="-".join)
def test_each_part_is_a_search_that_sweep_accepts(part, tmp_path):
    (tmp_path / "params.json").write_text(json.dumps(params_of(part)))
    space = dict(parse_dimension(f"{key}={text}") for key, text in ranges_of(part).items())
    goal = make_goal("tpe", DEFAULT_METRIC, "none", TRIALS, None)
    check_space(Request(tmp_path, space, goal, 1, tmp_path, False, None))
    params = load_params(tmp_path / "params.json")
    assert params.best_metric == "map_at_r_within" and params.triplet_strategy == part[1]
    own = set(space) - {"learning_rate"}
    names = {f"multi_similarity_{name}" for name in ("alpha", "beta", "base")}
    assert own == names if part[1] == "multi_similarity" else len(own) == 1


def test_classes_of_fashion_mnist_are_named_as_they_are():
    params = check_params(params_of(("fashion_unseen", "batch_all")), Path("params.json"))
    assert held_out_labels(params, CLASS_NAMES, Path("params.json")) == [7, 8, 9]


def test_strategies_differ_in_nothing_but_their_own_keys():
    for task in TASKS:
        common = [
            {
                key: v
                for key, v in params_of((task, one)).items()
                if key not in STRATEGIES[one].params
            }
            for one in STRATEGIES
        ]
        for params in common:
            del params["triplet_strategy"]
        assert all(params == common[0] for params in common)


def test_the_protocol_tells_apart_what_gives_other_numbers(monkeypatch):
    before = {part: protocol_of(part) for part in PARTS}
    assert len(set(before.values())) == len(PARTS)
    monkeypatch.setitem(STRATEGIES["batch_all"].ranges, "margin", "0.05..2:log")
    changed = {part for part in PARTS if protocol_of(part) != before[part]}
    assert {part[1] for part in changed} >= {"batch_all"}
    assert ("mnist", "multi_similarity") not in changed


# The numbers


def test_an_interval_by_hand():
    assert interval([]) is None
    assert interval([0.3]) == (0.3, None, 1)
    mean, half, n = interval([0.1, 0.2, 0.3])
    # Student's t with 2 degrees of freedom: 4.3027; the sample deviation is 0.1.
    assert (mean, n) == (pytest.approx(0.2), 3)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert interval([0.1, 0.3]).half == pytest.approx(12.706205 * 0.1, rel=1e-6)


def test_differences_are_of_the_same_seed():
    mean, half, n = against({1: 0.5, 2: 0.6, 3: 0.7, 4: 1.0}, {3: 0.4, 2: 0.4, 1: 0.4})
    assert (mean, n) == (pytest.approx(0.2), 3)
    assert half == pytest.approx(4.302653 * 0.1 / math.sqrt(3), rel=1e-6)
    assert against({1: 0.5}, {2: 0.5}) is None


def test_the_table_by_hand():
    diverged = row("mnist", "batch_hard", 3, None, status="diverged", recall_at_1=None)
    rows = [
        *rows_of("mnist", "batch_all", 0.4, 0.4, 0.4),
        *rows_of("mnist", "batch_semihard", 0.5, 0.6, 0.7, recall_at_1=0.75),
        *rows_of("mnist", "batch_hard", 0.1, 0.3, status="collapsed"),
        diverged,
    ]
    text = page_of(MARKS, rows)
    lines = [line for line in text.split("\n") if line.startswith("| MNIST")]
    found = "learning_rate 0.00123, margin 0.2"
    assert lines == [
        "| MNIST | *raw pixels* | 0.3000 |  |  |  |  |",
        "| MNIST | *untrained* | 0.4000 |  |  |  |  |",
        f"| MNIST | `batch_all` | 0.4000 ± 0.0000 | 0.4000, 0.4000, 0.4000 |  | 0.5000 | {found} |",
        "| MNIST | `batch_hard` | 0.2000 ± 1.2706 (2 of 3) | 0.1000 collapsed, 0.3000 collapsed, "
        f"diverged | -0.2000 ± 1.2706 (2 of 3) | 0.5000 | {found} |",
        "| MNIST | `batch_semihard` | 0.6000 ± 0.2484 | 0.5000, 0.6000, 0.7000 | +0.2000 ± 0.2484 "
        f"| 0.7500 | {found} |",
    ]
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "3 of 28 parts, each of 12 + 3 trainings, 3.0 hours" in text  # 9 x 600 s and 3 x 1800 s
    assert "(a machine, 2026-11-27; `make reality-check`;" in text
    left = "distance_weighted, easy_positive, multi_similarity, supervised_contrastive"
    assert f"- MNIST (`mnist`): {left}\n" in text
    assert "- ORL, unseen persons (`orl_unseen`): all strategies\n" in text
    assert page_of(text, rows) == text


def test_a_part_with_a_seed_missing_is_not_run_yet():
    text = page_of(MARKS, rows_of("mnist", "batch_all", 0.4, 0.5))
    assert "0 of 28 parts" in text and "- MNIST (`mnist`): all strategies" in text
    assert "| 0.4500 ± 0.6353 (2 of 3) |" in text


def test_if_all_is_run_the_page_says_so():
    rows = [one for part in PARTS for one in rows_of(*part, 0.4, 0.5, 0.6)]
    text = page_of(MARKS, rows)
    assert "All parts have been run." in text and "Not run yet" not in text


def test_the_committed_page_is_of_the_committed_results():
    page = (ROOT / "docs" / reality_page.PAGE).read_text(encoding="utf-8")
    rows = read_rows(ROOT / "docs")
    reality.check_rows(rows, TRIALS, ROOT / "docs")
    assert page_of(page, rows) == page
    assert (ROOT / "docs" / reality_page.FIGURE).exists() == bool(rows)


def test_the_page_states_what_is_searched():
    page = (ROOT / "docs" / reality_page.PAGE).read_text(encoding="utf-8")
    for part in PARTS:
        assert f"`{part[1]}`" in page and f"`{part[0]}`" in page
        for key, text in ranges_of(part).items():
            assert f"`{key}={text}`" in page
    trainings = len(PARTS) * (TRIALS + len(reality.FINAL_SEEDS))
    assert f"{len(PARTS)} parts, {trainings} trainings" in page
    assert f"--trials {TRIALS}`" in page


# The figure


def test_the_figure_has_a_panel_for_each_data_set():
    rows = [
        *rows_of("mnist", "batch_all", 0.4, 0.5, 0.6),
        *rows_of("mnist", "supervised_contrastive", 0.8, None, None),
        *rows_of("orl_unseen", "batch_hard", 0.7, 0.8, 0.9),
    ]
    figure = figure_of(rows)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert list(panels) == [task.title for task in TASKS.values()]
    measured, unseen = panels["MNIST"], panels["ORL, unseen persons"]
    assert measured.get_xlabel() == "MAP@R within test, with its 95 % interval"
    assert unseen.get_xlabel() == "MAP@R within unseen, with its 95 % interval"
    assert [axes.get_ylabel() for axes in figure.axes] == 2 * ["triplet_strategy", ""]
    assert [label.get_text() for label in measured.get_yticklabels()] == list(STRATEGIES)
    places = {
        (round(float(x), 4), list(STRATEGIES)[int(y)])
        for line in measured.get_lines()
        if line.get_marker() == "|"
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }
    assert {one for one in places if one[1] == "supervised_contrastive"} == {
        (0.8, "supervised_contrastive")
    }
    (bar, *_) = (one for one in measured.containers)
    ends = bar.lines[2][0].get_segments()[0][:, 0]
    np.testing.assert_allclose(ends, [0.5 - 0.248414, 0.5 + 0.248414], atol=1e-6)
    assert [text.get_text() for text in panels["Fashion-MNIST"].texts] == ["not run yet"]
    assert not measured.texts


# The file


def test_results_are_kept_in_the_order_of_the_parts(tmp_path):
    rows = [*rows_of("orl_unseen", "batch_all", 0.4), *rows_of("mnist", "batch_hard", 0.1, 0.2)]
    write_rows(tmp_path, reversed(rows))
    assert read_rows(tmp_path) == [*rows[1:], rows[0]]
    assert read_rows(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (rows_of("mnist", "batch_all", 0.4, trials=2), "found a result of 2 trials, protocol"),
        (rows_of("mnist", "batch_all", 0.4, protocol="other"), "protocol other; accepted: 12"),
        (rows_of("other", "batch_all", 0.4), "other with batch_all, seed 1: found a result"),
        (2 * rows_of("mnist", "batch_all", 0.4), "mnist with batch_all, seed 1, twice; accepted:"),
    ],
)
def test_other_results_are_refused_by_name(tmp_path, rows, expected):
    write_rows(tmp_path, rows)
    before = (tmp_path / reality.RESULTS).read_bytes()
    with pytest.raises(UserError, match=expected):
        reality.main(["--out", str(tmp_path), "--page_only"])
    assert (tmp_path / reality.RESULTS).read_bytes() == before
    assert not (tmp_path / reality_page.PAGE).exists()


def test_damaged_results_are_refused(tmp_path):
    (tmp_path / reality.RESULTS).write_text('{"rows": [{"dataset": 3}]}')
    with pytest.raises(UserError, match=r"reality-check.json: damaged .*; accepted: the file"):
        reality.main(["--out", str(tmp_path), "--page_only"])


# Parts


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_noise(folder / "mnist")
    return folder


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(sweep, "_job", sweep._job)
    monkeypatch.setattr(Local, "look_every_seconds", 0.02)
    use_fake(0.0)


def arguments(tmp_path, data, *strategies, trials=3):
    return [
        *("--datasets", "mnist", "--strategies", *strategies, "--trials", str(trials)),
        *("--directory", str(tmp_path / "trainings"), "--out", str(tmp_path / "out")),
        *("--data_dir", str(data)),
    ]


def starts(tmp_path):
    return {path: path.read_text() for path in (tmp_path / "trainings").rglob("started")}


def test_parts_are_measured_once_and_with_other_seeds_than_the_search(tmp_path, data, fake):
    reality.main(arguments(tmp_path, data, "batch_all"))
    (search_dir,) = (tmp_path / "trainings" / "mnist").glob("batch_all-*/search")
    record = read_record(search_dir)
    best = max(record.trials, key=lambda trial: trial.value)
    rows = read_rows(tmp_path / "out")
    assert [one.seed for one in rows] == [1, 2, 3]
    for one in rows:
        assert one.found == best.values and set(one.found) == {"learning_rate", "margin"}
        params = check_params(
            {**params_of(one.part), **one.found, "seed": one.seed}, Path("params.json")
        )
        of_validation = peak(params) * (1 - 0.5**EVALUATIONS)
        assert one.validation == pytest.approx(of_validation)
        assert one.map_at_r == pytest.approx(of_validation / 2)  # that of the test split
        assert (one.recall_at_1, one.raw_pixels, one.untrained) == (0.9, 0.01, None)
        assert (one.trials, one.protocol) == (3, protocol_of(one.part))
        assert re.fullmatch(r".+, \d+ cores, \d+ GB; tensorflow .+", one.machine)
    page = (tmp_path / "out" / reality_page.PAGE).read_text(encoding="utf-8")
    assert "1 of 28 parts, each of 3 + 3 trainings" in page and "how to read it" in page.lower()
    assert (tmp_path / "out" / reality_page.FIGURE).read_bytes()[:4] == b"\x89PNG"

    before = starts(tmp_path)
    assert len(before) == 6
    reality.main(arguments(tmp_path, data, "batch_all", "batch_hard"))
    after = starts(tmp_path)
    assert len(after) == 12 and {path: after[path] for path in before} == before
    again = read_rows(tmp_path / "out")
    assert again[:3] == rows and [one.strategy for one in again[3:]] == ["batch_hard"] * 3

    command = arguments(tmp_path, data, "batch_hard", trials=2)
    command[command.index("--out") + 1] = str(tmp_path / "other")
    with pytest.raises(UserError, match="found a search of 3 trials; accepted: at most 2"):
        reality.main(command)


def test_with_again_a_part_goes_on_with_a_larger_budget(tmp_path, data, fake, monkeypatch):
    monkeypatch.setattr(reality, "FINAL_SEEDS", (1,))
    reality.main(arguments(tmp_path, data, "batch_all", trials=1))
    with pytest.raises(UserError, match="found a result of 1 trials"):
        reality.main(arguments(tmp_path, data, "batch_all", trials=3))
    reality.main([*arguments(tmp_path, data, "batch_all", trials=3), "--again"])
    (row,) = read_rows(tmp_path / "out")
    (search_dir,) = (tmp_path / "trainings" / "mnist").glob("batch_all-*/search")
    trials = read_record(search_dir).trials
    assert (row.trials, len(trials)) == (3, 3)
    assert row.found == max(trials, key=lambda trial: trial.value).values
    assert set(starts(tmp_path).values()) == {"0\n"}


def test_a_training_that_diverged_is_a_result(tmp_path, data, fake, monkeypatch):
    monkeypatch.setattr(reality, "FINAL_SEEDS", (1, 2, DIVERGES))
    reality.main(arguments(tmp_path, data, "batch_all", trials=1))
    rows = read_rows(tmp_path / "out")
    assert [one.status for one in rows] == ["finished", "finished", "diverged"]
    assert rows[2].map_at_r is None and rows[1].map_at_r is not None


def test_a_part_that_failed_is_named_and_stays_open(tmp_path, data, fake, monkeypatch):
    monkeypatch.setattr(reality, "FINAL_SEEDS", (1,))
    monkeypatch.setitem(STRATEGIES, "batch_all", Strategy({}, {"margin": "20..30"}))  # diverge
    failed = "1 of 2 parts failed:\n  mnist with batch_all: none of 2 trials has finished"
    with pytest.raises(SweepFailed, match=failed):
        reality.main(arguments(tmp_path, data, "batch_all", "batch_hard", trials=2))
    assert [one.strategy for one in read_rows(tmp_path / "out")] == ["batch_hard"]


def test_a_search_with_a_failed_trial_is_no_equal_budget(tmp_path, data, fake, monkeypatch):
    def with_a_failure(folder):
        record = read_record(folder)
        if record is None:
            return None
        failed = record.trials[0].model_copy(update={"status": "failed", "reason": "no memory"})
        return record.model_copy(update={"trials": [failed, *record.trials[1:]]})

    monkeypatch.setattr(reality, "read_record", with_a_failure)
    with pytest.raises(SweepFailed, match="1 of 2 trials failed, so its budget .*: no memory"):
        reality.main(arguments(tmp_path, data, "batch_all", trials=2))
    assert len(starts(tmp_path)) == 2 and read_rows(tmp_path / "out") == []


def test_missing_data_are_named_before_anything_is_trained(tmp_path, data, fake):
    command = arguments(tmp_path, data, "batch_all")
    command[1:2] = ["mnist", "orl_unseen"]
    with pytest.raises(UserError, match="orl_unseen: .*orl_faces"):
        reality.main(command)
    assert starts(tmp_path) == {} and not (tmp_path / "out").exists()


@pytest.mark.system
@pytest.mark.parametrize(
    ("number", "where"), [(signal.SIGKILL, "search/trial_0001"), (signal.SIGINT, "final_*/seed_2")]
)
def test_stopped_in_a_training_it_goes_on(tmp_path, data, fake, number, where):
    code = (
        "from searching.search_program import use_fake; from benchmarks import reality; "
        "from src.system.cli import run; use_fake(0.3); run(reality.main)"
    )
    command = [sys.executable, "-c", code, *arguments(tmp_path, data, "batch_all", trials=2)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as program:
        end = time.monotonic() + 60
        checkpoints = f"mnist/batch_all-*/{where}/model.ckpt-2.index"
        while not list((tmp_path / "trainings").glob(checkpoints)):
            assert program.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        program.send_signal(number)
        said = program.communicate()[0]
    assert program.returncode == (-9 if number == signal.SIGKILL else 130)
    assert ("the same command as before" in said) == (number == signal.SIGINT)
    assert not (tmp_path / "out" / reality.RESULTS).exists()

    reality.main(arguments(tmp_path, data, "batch_all", trials=2))
    (model_dir,) = (tmp_path / "trainings" / "mnist").glob(f"batch_all-*/{where}")
    steps = [int(text) for text in (model_dir / "started").read_text().split()]
    # Killed, it leaves a training that runs on and is waited for; interrupted, one that resumes.
    assert steps == [0] if number == signal.SIGKILL else steps[0] == 0 and steps[1] >= 2
    assert [text.split()[0] for text in starts(tmp_path).values()] == ["0"] * 5
    whole = tmp_path / "whole"
    reality.main(arguments(whole, data, "batch_all", trials=2))
    timeless = {"seconds": None, "search_seconds": 0.0}
    assert [one.model_copy(update=timeless) for one in read_rows(tmp_path / "out")] == [
        one.model_copy(update=timeless) for one in read_rows(whole / "out")
    ]
