"""What a search leaves for others to read, damaged in many ways, is refused by name."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from src.comparing.search_figure import search_figure
from src.errors import UserError
from src.experiment.pruned import PRUNED_FILE, Pruned, read_pruned, save_pruned
from src.searching.record import (
    RECORD_FILE,
    KeyRange,
    SearchRecord,
    TrialRecord,
    read_record,
    save_record,
)

RECORD = SearchRecord(
    search="tpe",
    prune="median",
    metric="validation.eer",
    is_higher_better=False,
    seconds=90.0,
    space={"margin": KeyRange(low=0.1, high=1.0, is_log=True), "a": KeyRange(choices=["x", None])},
    trials=[
        TrialRecord(
            number=n,
            name=f"trial_{n:04d}",
            values={"margin": 0.2 + n, "a": "x"},
            status="finished" if n else "failed",
            value=0.3 / n if n else None,
            seconds=30.0 * n,
        )
        for n in range(3)
    ],
)
PRUNED = Pruned(evaluation=2, metric="validation.eer", value=0.5, median=0.4)


def test_as_it_was_written(tmp_path):
    assert read_record(tmp_path) is None and read_pruned(tmp_path) is None
    save_record(tmp_path, RECORD)
    save_pruned(tmp_path, PRUNED)
    assert read_record(tmp_path) == RECORD and read_pruned(tmp_path) == PRUNED


@pytest.mark.parametrize(("name", "read"), [(RECORD_FILE, read_record), (PRUNED_FILE, read_pruned)])
def test_damaged(tmp_path, name, read):
    save_record(tmp_path, RECORD)
    save_pruned(tmp_path, PRUNED)
    whole = (tmp_path / name).read_bytes()
    random = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), random.integers(1, 4)):
            content[place] = random.integers(0, 256)
        (tmp_path / name).write_bytes(content[: random.integers(0, len(content) + 1)])
        try:
            found = read(tmp_path)
        except UserError as error:
            assert name in str(error) and "accepted" in str(error) and str(error).isprintable()
        else:
            if name == RECORD_FILE:
                search_figure({Path("p"): found})
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError):
        read(tmp_path)


@pytest.mark.parametrize(
    "value", ["text", None, True, [1], {"a": 1}, 10**400], ids=lambda value: str(value)[:9]
)
def test_a_value_that_is_no_number_is_not_drawn_on_an_axis_of_numbers(tmp_path, value):
    content = json.loads(RECORD.model_dump_json())
    content["trials"][1]["values"] = {"margin": value, "other": value}
    (tmp_path / RECORD_FILE).write_text(json.dumps(content))
    found = read_record(tmp_path)
    assert found is not None
    drawn = search_figure({tmp_path: found}).get_axes()[2].get_lines()[0].get_xydata()
    assert drawn.tolist() == [[2.2, 0.15]]


def test_lower_is_better(tmp_path):
    figure = search_figure({tmp_path: RECORD})
    line = figure.get_axes()[0].get_lines()[0].get_xydata().tolist()
    assert line == [[2.0, 0.3], [3.0, 0.15]]


def test_searches_of_equal_names_are_told_apart():
    paths = [Path("a/one/search"), Path("a/two/search"), Path("a/_three")]
    (legend,) = search_figure(dict.fromkeys(paths, RECORD)).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("one/search (tpe)", "two/search (tpe)", " _three (tpe)")
    ]
    (legend,) = search_figure(dict.fromkeys(paths[:2] + [Path("a/one/b")], RECORD)).legends
    assert "one/b (tpe)" in [text.get_text() for text in legend.get_texts()]


def panels_of(trials, **changes):
    record = RECORD.model_copy(update={"trials": trials, **changes})
    figure = search_figure({Path("p"): record})
    return figure, {axes.get_title(): axes for axes in figure.get_axes()}


def test_one_trial_is_visible():
    figure, panels = panels_of(RECORD.trials[1:2])
    FigureCanvasAgg(figure).draw()
    axes = panels["best so far, over trials"]
    (line,) = axes.get_lines()
    assert line.get_xydata().tolist() == [[1, 0.3]] and line.get_marker() == "o"
    assert all(place.is_integer() for place in axes.get_xticks())


def test_without_anything_finished_axes_have_no_numbers():
    _, panels = panels_of(RECORD.trials[:1])
    for axes in panels.values():
        assert not len(axes.get_yticks()) and axes.texts[0].get_text() == "nothing has finished"
    assert panels["margin"].get_lines()[1].get_xydata().tolist() == [[0.2, 0.02]]


def test_choices_that_begin_alike_have_places_of_their_own():
    choices = [{"shift": 2, "rotation": 10 * n, "flip": True} for n in range(3)]
    trials = [
        one.model_copy(update={"values": {"augment": choice}, "value": 0.5, "status": "finished"})
        for one, choice in zip(RECORD.trials, choices, strict=True)
    ]
    _, panels = panels_of(trials, space={"augment": KeyRange(choices=choices)})
    drawn = panels["augment"].get_lines()[0].get_xydata().tolist()
    assert drawn == [[0, 0.5], [1, 0.5], [2, 0.5]]
    assert [label.get_text()[:11] for label in panels["augment"].get_xticklabels()] == [
        '{"shift": 2'
    ] * 3


def test_a_key_that_a_trial_did_not_search_is_not_null():
    trials = [one.model_copy(update={"values": {"margin": 0.2}}) for one in RECORD.trials]
    _, panels = panels_of([*trials, RECORD.trials[2].model_copy(update={"number": 3})])
    drawn = [line.get_xydata().tolist() for line in panels["a"].get_lines()]
    assert drawn == [[[0, 0.15]], []]
    assert panels["a"].get_xlabel() == "a" and "not finished" in panels["margin"].get_xlabel()


def test_names_of_choices_do_not_overlap():
    names = ["batch_all", "batch_hard", "batch_semihard", "easy_positive", "distance_weighted"]
    space = {"a": KeyRange(choices=names), "b": KeyRange(choices=list("xyz"))}
    figure, panels = panels_of(RECORD.trials, space=space)
    FigureCanvasAgg(figure).draw()
    for key in space:
        slanted = [label.get_rotation() for label in panels[key].get_xticklabels()]
        assert set(slanted) == ({30.0} if key == "a" else {0.0})
