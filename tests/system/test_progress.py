"""Progress bars: with their name on a terminal, and nothing elsewhere."""

import os
import pty
import sys
import time

import numpy as np
from figure_data import data_of
from terminals import on_terminal

from src.data.split import Split
from src.embeddings import layouts
from src.embeddings.neighborhood import errors_nearby, neighbors
from src.figures import write_figures
from src.projector.files import write_projector
from src.system.progress import phase, progress_bar


def test_a_bar_is_shown_and_removed(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress_bar("neighbours", 10, "images") as bar:
        bar.update(4)
        bar.refresh()
    assert "neighbours:  40%" in terminal.getvalue()
    assert "4.00/10.0" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_without_a_number_of_steps_the_name_stands_there(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with phase("starting TensorFlow"):
        deadline = time.monotonic() + 10
        while "starting TensorFlow ..." not in terminal.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert terminal.getvalue().endswith("\r")


def test_on_a_terminal_that_does_not_know_its_size(monkeypatch):
    monkeypatch.setattr("src.system.progress.DELAY", 0.0)
    reader, writer = pty.openpty()
    with os.fdopen(reader, "rb", buffering=0) as shown, os.fdopen(writer, "w") as terminal:
        assert os.get_terminal_size(writer) == (0, 0)
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress_bar("neighbours", 10, "images") as bar:
            bar.update(4)
            bar.refresh()
        with phase("starting TensorFlow"):
            time.sleep(0.8)
        monkeypatch.undo()
        text = shown.read(100_000)
    assert b"neighbours:  40%" in text
    assert b"starting TensorFlow ..." in text


def test_a_name_from_outside_is_shown_as_it_is(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with phase("reading a{b}\x1b[2J"):
        deadline = time.monotonic() + 10
        while "reading a{b}\\x1b[2J ..." not in terminal.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_what_is_quick_does_not_flash(monkeypatch):
    terminal = on_terminal(monkeypatch, delay=0.5)
    with progress_bar("quick", 3) as bar:
        bar.update(3)
    assert "quick" not in terminal.getvalue()
    with progress_bar("slow", 3) as bar:
        time.sleep(0.6)
        bar.update(1)
    assert "slow" in terminal.getvalue()


def test_a_file_gets_nothing(capsys):
    with phase("starting TensorFlow"), progress_bar("neighbours", 10) as bar:
        bar.update(10)
        bar.refresh()
    assert capsys.readouterr() == ("", "")


def test_every_phase_of_a_view_has_its_name(tmp_path, monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr(layouts, "EXAGGERATED_ITERATIONS", 20)
    monkeypatch.setattr(layouts, "ITERATIONS", 20)
    data = data_of()
    points, labels = data.embeddings, data.split.labels
    neighbors(points, labels, points, labels, np.arange(60))
    errors_nearby(points, np.ones(60, bool), np.zeros(60, bool))
    layouts.tsne(points, seed=0)
    images = np.zeros((60, 8, 8, 1), np.uint8)
    split = Split(images, labels, data.split.class_names)
    write_projector(
        tmp_path, name="x", embeddings=points, split=split, layouts={"pca": points[:, :2]}
    )
    write_figures(tmp_path, data, ["distances"])
    for name in (
        *("neighbours", "errors nearby", "t-SNE", "sprite sheet", "writing sprite.png"),
        *("tinting", "writing metadata.tsv", "writing bookmarks.json", "pairs", "figure"),
    ):
        assert name in terminal.getvalue(), name


def test_a_name_from_outside_controls_no_terminal(monkeypatch):
    terminal = on_terminal(monkeypatch)
    with progress_bar("decode a\x1b[2J\u202eb", 2, "pictures") as bar:
        bar.update(1)
    assert "decode a\\x1b[2J\\u202eb: " in terminal.getvalue()
    assert "\u202e" not in terminal.getvalue() and "\x1b[2J" not in terminal.getvalue()
