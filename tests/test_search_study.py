"""`make search-study`: its curves and table by hand, its figure, its searches with a fake."""

import json
from pathlib import Path

import pytest
from fake_train import peak
from searching.search_program import use_fake
from tiny import write_noise

import sweep
from benchmarks import searching
from benchmarks.results_page import END, begin_of, with_results
from benchmarks.searching_page import (
    FIGURE,
    PAGE,
    best_at,
    figure_of,
    mean_of,
    page_of,
)
from benchmarks.searching_protocol import (
    MINUTES,
    PARAMS,
    RANGES,
    RESULTS,
    SEARCHES,
    Searched,
    check_searched,
    params_of,
    parts,
    protocol_of,
    read_searched,
    write_searched,
)
from src.errors import SweepFailed, UserError
from src.params.reading import check_params
from src.searching.goal import DEFAULT_METRIC, make_goal
from src.searching.record import SearchRecord, TrialRecord, read_record
from src.searching.request import Request, check_space
from src.sweeping.launchers.local import Local
from src.sweeping.space import parse_dimension

ROOT = Path(__file__).parent.parent
MARKS = f"before\n{begin_of('search-study')}\nold\n{END}\nafter\n"


def searched(search, seed, *trials, minutes=60.0, **changes):
    """A search of trials (minute, status, value)."""
    records = [
        TrialRecord(
            number=n,
            name=f"trial_{n:04}",
            values={"margin": 0.1 * (n + 1), "triplet_strategy": "batch_hard"},
            status=status,
            value=value,
            seconds=None if minute is None else 60.0 * minute,
        )
        for n, (minute, status, value) in enumerate(trials)
    ]
    values = [(one.value, one.name) for one in records if one.value is not None]
    record = SearchRecord(
        search=search,
        prune=SEARCHES[search],
        metric=DEFAULT_METRIC,
        is_higher_better=True,
        seconds=60.0 * minutes + 1,
        space={},
        trials=records,
        winner=max(values)[1] if values else None,
    )
    content = {"protocol": protocol_of(minutes), "machine": "a machine", "date": "2026-11-27"}
    content |= {"search": search, "seed": seed, "minutes": minutes, "record": record}
    return Searched(**{**content, **changes})


def finished(*points):
    return [(minute, "finished", value) for minute, value in points]


# The protocol


@pytest.mark.parametrize("search", SEARCHES)
def test_each_search_is_one_that_sweep_accepts(search, tmp_path):
    (tmp_path / "params.json").write_text(json.dumps(params_of(2)))
    place = search == "grid"
    space = dict(parse_dimension(f"{key}={texts[place]}") for key, texts in RANGES.items())
    goal = make_goal(search, DEFAULT_METRIC, SEARCHES[search], None, MINUTES)
    check_space(Request(tmp_path, space, goal, 1, tmp_path, False, None))


def test_the_grid_lies_within_what_the_others_draw_from():
    for drawn, grid in RANGES.values():
        drawn = parse_dimension(f"margin={drawn}")[1]
        grid = parse_dimension(f"margin={grid}")[1]
        if isinstance(drawn, list):
            assert grid == drawn
        else:
            assert (min(grid), max(grid)) == (drawn.low, drawn.high)


def test_kinds_take_turns_seed_by_seed():
    assert parts()[:4] == [("grid", 0), ("random", 0), ("tpe", 0), ("grid", 1)]
    assert len(parts()) == 9


# Curves


def test_curves_by_hand():
    one = [(10.0, 0.5), (20.0, 0.6), (60.0, 0.6)]
    assert [best_at(one, minute) for minute in (9.9, 10.0, 19.9, 20.0, 61.0)] == [
        *(None, 0.5, 0.5, 0.6, 0.6)
    ]
    other = [(5.0, 0.3), (15.0, 0.7), (59.0, 0.7)]
    expected = [(10, 0.4), (15, 0.6), (20, 0.65), (59, 0.65)]
    assert mean_of([one, other]) == [pytest.approx(point) for point in expected]
    assert mean_of([one]) == one
    assert mean_of([]) == mean_of([one, []]) == []


# The page


def test_the_table_by_hand():
    found = [
        searched("grid", 0, *finished((2, 0.5), (31, 0.7)), (40, "diverged", None)),
        searched("tpe", 0, *finished((16, 0.4), (30, 0.6)), (50, "pruned", None)),
        searched("tpe", 1, *finished((2, 0.8), (4, 0.6)), (None, "running", None)),
        searched("tpe", 2, *finished((15, 0.7), (59, 0.9))),
    ]
    text = page_of(MARKS, found)
    lines = [line for line in text.split("\n") if line.startswith("|")]
    found_2 = "margin 0.2, triplet_strategy batch_hard"
    assert lines == [
        "| search | seed | trainings | of them pruned | best after 15 min | best after 30 min "
        "| best after 60 min | params of the best |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| grid | 0 | 3 | 0 | 0.5000 | 0.5000 | 0.7000 | {found_2} |",
        f"| tpe | 0 | 3 | 1 | - | 0.6000 | 0.6000 | {found_2} |",
        "| tpe | 1 | 2 | 0 | 0.8000 | 0.8000 | 0.8000 | margin 0.1, triplet_strategy batch_hard |",
        f"| tpe | 2 | 2 | 0 | 0.7000 | 0.7000 | 0.9000 | {found_2} |",
        # The sample deviations of 0.6, 0.8, 0.7 and of 0.6, 0.8, 0.9.
        "| **tpe** | mean |  |  | - | 0.7000 ± 0.1000 | 0.7667 ± 0.1528 |  |",
    ]
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "(Recorded on: a machine, 2026-11-27; `make search-study`.)" in text
    left = "random with seed 0, grid with seed 1, random with seed 1, grid with seed 2, random with"
    assert f"Not run yet: {left} seed 2." in text
    assert page_of(text, found) == text


def test_a_search_in_which_nothing_finished_has_its_line():
    text = page_of(MARKS, [searched("grid", 0, (5, "collapsed", None))])
    assert "| grid | 0 | 1 | 0 | - | - | - | - |" in text


def test_if_all_is_run_nothing_is_left():
    found = [searched(search, seed, *finished((1, 0.5))) for search, seed in parts()]
    assert "Not run yet" not in page_of(MARKS, found)


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="lacks '<!-- results: written by make search-study"):
        with_results("a page", "search-study", ["text"])


def test_the_committed_page_is_of_the_committed_results():
    page = (ROOT / "docs" / PAGE).read_text(encoding="utf-8")
    found = read_searched(ROOT / "docs")
    check_searched(found, MINUTES, ROOT / "docs")
    assert page_of(page, found) == page
    assert (ROOT / "docs" / FIGURE).exists() == bool(found)


# The figure


def test_the_figure_has_a_line_for_each_search_and_for_the_mean_of_each_kind():
    found = [
        searched("grid", 0, *finished((2, 0.5), (31, 0.7))),
        searched("tpe", 0, *finished((4, 0.4))),
        searched("tpe", 1, *finished((8, 0.8))),
        searched("random", 0, (8, "diverged", None)),
    ]
    axes, over_trainings = figure_of(found).axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()]
    end = 60 + 1 / 60
    grid = ([2, 31, end], [0.5, 0.7, 0.7])
    tpe = [([4, end], [0.4, 0.4]), ([8, end], [0.8, 0.8]), ([8, end], [0.6, 0.6])]
    for (places, values), expected in zip(lines, [grid, grid, *tpe], strict=True):
        assert places == pytest.approx(expected[0]) and values == pytest.approx(expected[1])
    counted = [list(line.get_xdata()) for line in over_trainings.get_lines()]
    assert counted == [[1, 2], [1, 2], [1], [1], [1]]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["grid, mean", "tpe, mean"]


# The file


def test_results_are_kept_in_the_order_of_the_parts(tmp_path):
    found = [searched("tpe", 1, *finished((2, 0.5))), searched("random", 0)]
    write_searched(tmp_path, found)
    assert read_searched(tmp_path) == found[::-1]
    assert read_searched(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([searched("tpe", 1, minutes=5.0)], "tpe with seed 1: found a result of 5 minutes"),
        (
            [searched("tpe", 1, protocol="x")],
            f"x; accepted: 60 minutes, protocol {protocol_of(60)}",
        ),
        (2 * [searched("tpe", 1)], "tpe with seed 1: unknown, or twice"),
    ],
)
def test_other_results_are_refused_by_name(tmp_path, found, expected):
    write_searched(tmp_path, found)
    before = (tmp_path / RESULTS).read_bytes()
    with pytest.raises(UserError, match=expected):
        searching.main(["--out", str(tmp_path), "--directory", str(tmp_path / "searches")])
    assert (tmp_path / RESULTS).read_bytes() == before
    assert not (tmp_path / PAGE).exists() and not (tmp_path / "searches").exists()


def test_an_unknown_search_in_the_results_is_refused():
    one = searched("tpe", 1).model_copy(update={"seed": 7})
    with pytest.raises(UserError, match="tpe with seed 7: unknown"):
        check_searched([one], MINUTES, Path("docs"))


# Searches


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(sweep, "_job", sweep._job)
    monkeypatch.setattr(Local, "look_every_seconds", 0.02)
    use_fake(0.02)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_noise(folder / "fashion_mnist")
    return folder


def arguments(tmp_path, data, *options):
    return [
        *("--minutes", "0.02", "--directory", str(tmp_path / "searches")),
        *("--out", str(tmp_path / "out"), "--data_dir", str(data), *options),
    ]


def test_searches_have_their_time_and_are_not_run_again(tmp_path, data, fake, monkeypatch):
    searching.main(arguments(tmp_path, data, "--searches", "grid", "tpe", "--seeds", "1"))
    found = read_searched(tmp_path / "out")
    assert [one.part for one in found] == [("grid", 1), ("tpe", 1)]
    for one in found:
        folder = tmp_path / "searches" / f"{one.search}-seed_1"
        assert one.record == read_record(folder) and one.record.seconds >= 1.2
        assert one.record.prune == SEARCHES[one.search] and set(one.record.space) == set(RANGES)
        best = max((trial for trial in one.record.trials if trial.value), key=lambda t: t.value)
        params = json.loads((folder / best.name / "params.json").read_text())
        assert params.items() >= {**PARAMS, "seed": 1}.items()
        params = check_params(params, folder)
        assert best.value == pytest.approx(peak(params) * (1 - 0.5**5))
    page = (tmp_path / "out" / PAGE).read_text(encoding="utf-8")
    assert "Not run yet: grid with seed 0" in page and "| tpe | 1 |" in page
    assert (tmp_path / "out" / FIGURE).read_bytes()[:4] == b"\x89PNG"

    monkeypatch.setattr(sweep, "main", lambda command: pytest.fail("searched again"))
    searching.main(arguments(tmp_path, data, "--searches", "grid", "tpe", "--seeds", "1"))
    assert read_searched(tmp_path / "out") == found


def test_a_search_of_another_study_is_not_taken_for_this_one(tmp_path, data, fake, monkeypatch):
    command = arguments(tmp_path, data, "--searches", "random", "--seeds", "1")
    searching.main(command)
    other = [*command, "--out", str(tmp_path / "other")]
    with monkeypatch.context() as patch:
        patch.setitem(RANGES, "margin", ("0.05..2:log", "0.05,2"))
        with pytest.raises(UserError, match="found a search of other ranges, pruning or minutes"):
            searching.main(other)
    monkeypatch.setattr("benchmarks.searching_protocol._SECONDS_TO_END", 0.0)
    other[other.index("--minutes") + 1] = "0.001"
    with pytest.raises(UserError, match="found a search of other ranges, pruning or minutes"):
        searching.main(other)
    assert not (tmp_path / "other").exists()


def test_what_ends_after_the_time_is_not_the_best_within_it():
    late = searched("tpe", 0, *finished((30, 0.5), (60.02, 0.9)))
    assert "| tpe | 0 | 2 | 0 | - | 0.5000 | 0.5000 | margin 0.1," in page_of(MARKS, [late])


def test_a_grid_that_is_done_before_its_time_is_complete(tmp_path, data, fake, monkeypatch):
    for key in RANGES:
        drawn, grid = RANGES[key]
        monkeypatch.setitem(RANGES, key, (drawn, ",".join(grid.split(",")[:1])))
    command = arguments(tmp_path, data, "--searches", "grid", "--seeds", "1")
    command[command.index("--minutes") + 1] = "60"
    searching.main(command)
    (one,) = read_searched(tmp_path / "out")
    assert len(one.record.trials) == 1 and one.record.seconds < 60


def test_a_search_without_a_result_is_one_and_a_signal_ends_the_study(
    monkeypatch, tmp_path, capsys
):
    """The searches run in this process, so that none is left behind if it is killed."""
    begun = []

    def search(command):
        begun.append(Path(command[1]).name)
        kind, seed = begun[-1].split("-seed_")
        record = searched(kind, int(seed), (5, "diverged", None)).record
        monkeypatch.setattr(searching, "read_record", lambda folder: record)
        if begun[-1] == "tpe-seed_0":
            raise SweepFailed("no training has finished")
        if begun[-1] == "random-seed_2":
            raise SystemExit(130)

    monkeypatch.setattr(searching.sweep, "main", search)
    command = ["--directory", str(tmp_path / "searches"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        searching.main(command)
    assert begun[:4] == ["grid-seed_0", "random-seed_0", "tpe-seed_0", "grid-seed_1"]
    assert begun[-1] == "random-seed_2" and len(begun) == 8
    out = capsys.readouterr().out
    assert "no training has finished" in out and "the same command as before" in out
    assert [one.part for one in read_searched(tmp_path)] == parts()[:7]


@pytest.mark.parametrize(
    ("trial", "changes", "expected"),
    [
        ((5, "failed", None), {}, "trial_0000 failed, so the budget is not that of the others"),
        ((5, "finished", 0.5), {"seconds": 3599.0}, "ended after 60.0 minutes"),
    ],
)
def test_a_search_with_less_than_its_budget_is_named_and_stays_open(
    monkeypatch, tmp_path, trial, changes, expected
):
    def search(command):
        kind = Path(command[1]).name.split("-")[0]
        good = searched(kind, 0, *finished((5, 0.5))).record
        bad = searched(kind, 0, trial).record.model_copy(update=changes)
        monkeypatch.setattr(
            searching, "read_record", lambda folder: bad if kind == "random" else good
        )

    monkeypatch.setattr(searching.sweep, "main", search)
    command = ["--directory", str(tmp_path / "searches"), "--out", str(tmp_path), "--seeds", "0"]
    with pytest.raises(SweepFailed, match=f"1 of 3 searches failed:\n  random .*{expected}"):
        searching.main(command)
    assert [one.part for one in read_searched(tmp_path)] == [("grid", 0), ("tpe", 0)]
