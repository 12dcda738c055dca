"""The look: colours, names that can be drawn, and files whose bytes repeat."""

import warnings
from xml.etree import ElementTree

import matplotlib
import numpy as np
from hostile_names import HOSTILE
from PIL import Image

from src.drawing.style import (
    display_names,
    figure_image,
    new_figure,
    save_figure,
    style,
)


def test_names_are_drawn_as_they_are_where_they_can_be():
    assert display_names(["cat", "naïve", "$x_1^2$"]) == ["cat", "naïve", "$x_1^2$"]
    assert display_names(["line\nbreak\t!"]) == ["line break !"]
    assert display_names(["", " \n", "\u200b"]) == ["#0", "#1", "#2"]
    assert display_names(["x" * 80], max_length=10) == ["x" * 9 + "…"]


def test_long_names_that_begin_alike_are_told_apart():
    models = ["Audi S4 Sedan 2012", "Audi S4 Sedan 2007", "Audi TT"]
    assert display_names(models, 14) == ["Audi S4 Se… #0", "Audi S4 Se… #1", "Audi TT"]


def test_names_without_glyphs_become_their_label(monkeypatch):
    monkeypatch.setattr("src.drawing.style._glyphs", lambda: frozenset(map(ord, "abc…")))
    assert display_names(["abc", "abd", "cab"]) == ["abc", "#1", "cab"]


def test_hostile_names_can_be_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings(), style():
        warnings.simplefilter("error")
        figure = new_figure(4, 8)
        axes = figure.add_subplot()
        axes.set_yticks(range(len(HOSTILE)), display_names(HOSTILE))
        axes.set_title(display_names(HOSTILE)[0])
        save_figure(figure, tmp_path / "names")
    assert np.asarray(figure_image(figure)).std() > 0
    ElementTree.parse(tmp_path / "names.svg")


def draw():
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [1, 0], label="a_b")
    axes.fill_between([0, 1], [1, 1], hatch="///")
    axes.legend()
    return figure


def test_files_repeat_to_the_byte(tmp_path):
    for name in ("one", "two"):
        with style():
            paths = save_figure(draw(), tmp_path / name)
        assert paths == [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"]
    for ending in ("png", "svg"):
        one, two = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two"))
        assert one == two
        assert b"atplotlib v" not in one  # so that a new version alone changes nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("one.png", "one.svg", "two.png", "two.svg")
    ]


def test_the_size_in_pixels(tmp_path):
    with style():
        save_figure(draw(), tmp_path / "x")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (450, 300)
    with style(dpi=100):
        assert figure_image(draw()).size == (300, 200)


def test_the_settings_of_others_come_back():
    before = dict(matplotlib.rcParams)
    with style():
        assert not matplotlib.rcParams["text.parse_math"]
    assert dict(matplotlib.rcParams) == before
