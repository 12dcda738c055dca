"""The page of all figures: self-contained, harmless, and complete."""

import os
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from figure_data import data_of, with_paths
from hostile_names import HOSTILE
from PIL import Image

from src.drawing.animation import write_gif
from src.drawing.headline import verdict
from src.figures import MAX_SHOWN, draw, write_figures
from src.params.schema import Params
from src.registry import FIGURES
from src.system.aside import Aside


class Page(HTMLParser):
    """What a page refers to, its text, and that its tags close in the order they open."""

    VOID = ("meta", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.references, self.ids, self.links, self.alts = [], [], [], [], []
        self.seen, self.text = [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [
            attributes[key] for key in ("src", "data", "srcset") if key in attributes
        ]
        self.links += [attributes["href"]] if "href" in attributes else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.alts += [attributes["alt"]] if tag == "img" else []
        assert not [key for key in attributes if key.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_all_figures_and_nothing_from_elsewhere(tmp_path):
    page, *figures = write_figures(tmp_path, data_of(spread=0.4))
    names = [name for name in FIGURES if name != "progress"]
    assert [path.name for path in figures] == [
        f"{name}.{ending}" for name in names for ending in ("png", "svg")
    ]
    assert sorted(tmp_path.iterdir()) == sorted([page, *figures])
    for path in figures:
        if path.suffix == ".svg":
            ElementTree.parse(path)
        else:
            with Image.open(path) as image:
                assert min(image.size) >= 600 and image.width >= 1350  # 4 x 9 inches or more
    found = Page(page.read_text(encoding="utf-8"))
    assert len(found.references) == len(names)
    assert all(uri.startswith("data:image/svg+xml;base64,") for uri in found.references)
    pictures = [name for name in names if name != "curves"]
    assert found.ids == ["curves", "pictures", *pictures, "metrics", "classes", "params"]
    # Each picture has a link to itself, which enlarges it, and one back.
    assert found.links == [link for name in pictures for link in ("#pictures", f"#{name}")]
    assert found.seen.count("details") == 3  # the tables
    assert all(
        draw(name, data_of(spread=0.4)).caption in found.text for name in ("curves", "distances")
    )
    assert all(found.alts)
    assert "script" not in found.seen
    assert "link" not in found.seen
    assert "url(" not in page.read_text(encoding="utf-8").split("</style>")[0]
    assert "0.875" in found.text  # a metric
    assert "batch_all" in found.text  # a param


def report(best=0.3, **more):
    """metrics.json of a training, with baselines."""
    return {
        "class_names": ["a", "b"],
        "global_step": 101,
        "seconds": 300.0,
        "baselines": {
            "untrained": {"test": {"map_at_r_within": 0.2, "recall_at_1_within": 0.5}},
            "raw_pixels": {"test": {"map_at_r_within": best, "recall_at_1_within": None}},
        },
        **more,
    }


def of_value(value, **of_report):
    metrics = {"train": {"num_examples": 600}, "test": {"map_at_r_within": value}}
    return replace(data_of(), metrics=metrics, report=report(**of_report))


@pytest.mark.parametrize(
    ("value", "of_report", "said"),
    [
        (0.25, {}, "did harm: raw pixels would do better. MAP@R is 0.250 against 0.300."),
        (0.31, {}, "did little: the network is hardly better than raw pixels. MAP@R is"),
        (0.5, {}, "helped: the network is better than raw pixels."),
        (0.65, {}, "worked: the network is far better than raw pixels. MAP@R is 0.650"),
        (0.5, {"best": 0.1}, "helped: the network is better than the untrained network."),
        (0.5, {"collapsed": True}, "collapsed: all embeddings became one point."),
        (None, {}, "MAP@R is not defined for the test split, so there is no verdict."),
        ("absent", {}, "MAP@R was not measured on the test split, so there is no verdict."),
        (0.5, None, "MAP@R is 0.500; for this split no baseline was"),
    ],
)
def test_the_verdict(value, of_report, said):
    data = of_value(value, **(of_report or {}))
    if value == "absent":
        del data.metrics["test"]
    assert said in verdict(data if of_report is not None else replace(data, report={}))


def test_the_page_begins_with_what_was_trained_and_numbers_beside_baselines(tmp_path):
    data = of_value(0.65)
    page, *_ = write_figures(tmp_path, data, ["curves"])
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    head = Page(text.split("</header>")[0].split("<body>")[1] + "</header>").text
    assert "trained by batch_all with margin 0.5 on 600 images of mnist (2 classes in all)" in head
    assert "in 101 steps and 5 minutes." in head
    assert verdict(data) in head
    shown = [line for line in head.split("\n") if line.startswith(("this", "the un", "raw"))]
    assert shown == ["this network0.650", "the untrained network0.200", "raw pixels0.300"]
    assert 'style="width:65.0%"' in text
    assert "recall@1" not in head  # it is not known
    assert found.text.index("Training curves") < found.text.index("All metrics")


def test_a_margin_that_the_loss_does_not_read_is_not_named(tmp_path):
    params = Params(triplet_strategy="multi_similarity", distance="cosine")
    page, *_ = write_figures(tmp_path, replace(of_value(0.65), params=params), ["curves"])
    assert "trained by multi_similarity on 600 images" in Page(page.read_text("utf-8")).text


def test_hostile_names_arrive_intact_and_harmless(tmp_path):
    data = data_of(100, len(HOSTILE), names=HOSTILE, spread=0.3)
    page, *_ = write_figures(tmp_path, data, ["confusion"])
    found = Page(page.read_bytes().decode())
    assert "script" not in found.seen
    for name in ("<script>alert(1)</script>", "猫", "קופסה", "a&b", "$x$", "x" * 80):
        assert name in found.text


def test_the_same_data_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_figures(tmp_path / name, data_of(), ["pca"])
    one = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    two = {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert one == two


def test_animations_beside_it_are_shown(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    write_gif(tmp_path / "live" / "confusion.gif", frames)
    write_gif(tmp_path / "evolution.gif", frames)
    page, *_ = write_figures(tmp_path, data_of(), ["confusion"])
    found = Page(page.read_text(encoding="utf-8"))
    assert found.ids[1:4] == ["confusion", "animation-evolution", "animation-confusion"]
    assert sum(uri.startswith("data:image/gif;base64,") for uri in found.references) == 2


def test_a_metric_that_is_not_defined_is_a_dash(tmp_path):
    metrics = {"test": {"map_at_r": None, "loss": 0.5}, "train": {"loss": 0.25}}
    page, *_ = write_figures(tmp_path, replace(data_of(), metrics=metrics), [])
    text = page.read_text(encoding="utf-8")
    dash, none = '<td class="number">-</td>', "None"
    assert f"<td>map_at_r</td>{dash}{dash}" in text
    assert none not in text.split('id="params"')[0]


def test_a_figure_of_before_that_shows_nothing_now_is_removed(tmp_path):
    names = ["mistakes", "curves"]
    written = write_figures(tmp_path, data_of(spread=0.4), names)
    assert tmp_path / "mistakes.svg" in written
    (tmp_path / "mine.png").write_bytes(b"")
    write_figures(tmp_path, data_of(spread=100), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("curves.png", "curves.svg", "index.html", "mine.png")
    ]


def test_what_another_process_draws_is_the_same(tmp_path, monkeypatch):
    names = ["before_after", "mistakes", "confusion", "curves"]
    data = data_of(spread=0.4)
    here = write_figures(tmp_path / "here", data, names)
    monkeypatch.setattr("src.system.aside.MIN_IMAGES", 1)
    there = write_figures(tmp_path / "there", data, names)
    assert [path.name for path in there] == [path.name for path in here]
    for path, other in zip(here, there, strict=True):
        assert path.read_bytes() == other.read_bytes()
    write_figures(tmp_path / "there", replace(data, untrained=None), names)
    assert {path.name for path in here} - {
        path.name for path in (tmp_path / "there").iterdir()
    } == {*("before_after.png", "before_after.svg")}


def test_what_another_process_could_not_draw_is_drawn_here(tmp_path, monkeypatch):
    monkeypatch.setattr("src.system.aside.MIN_IMAGES", 1)
    monkeypatch.setattr("src.figures.Aside", lambda *_: Aside(os.abort))
    page, *figures = write_figures(tmp_path, data_of(spread=0.4), ["mistakes", "confusion"])
    assert sorted(tmp_path.iterdir()) == sorted([page, *figures]) and len(figures) == 4


def test_files_of_others_beside_it_are_not_shown(tmp_path):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    write_gif(tmp_path / "live" / '"><b>.gif', frames)
    (tmp_path / "evolution.gif").mkdir()
    page, *_ = write_figures(tmp_path, data_of(), [])
    assert Page(page.read_text(encoding="utf-8")).references == []


def test_of_a_large_split_some_are_shown(tmp_path):
    size = MAX_SHOWN + 1000
    data = data_of(size, spread=0.2)
    shown = data.of_shown()
    assert len(shown.split) == len(shown.embeddings) == MAX_SHOWN
    assert all(len(layout) == MAX_SHOWN for layout in shown.layouts.values())
    assert len(shown.untrained) == MAX_SHOWN
    assert shown.num_examples == size
    page, *_ = write_figures(tmp_path, data, ["confusion"])
    assert f"{MAX_SHOWN} of {size} images" in page.read_text(encoding="utf-8")
    assert data_of().of_shown().split.labels.shape == (60,)


def test_names_of_files_arrive_escaped_on_the_page_and_in_the_figures(tmp_path):
    data = with_paths(data_of(spread=0.4))
    # The images with odd names are the most mistaken: each in the midst of another class.
    embeddings = data.embeddings.copy()
    for image in (58, 59):
        other = np.flatnonzero(data.split.labels != data.split.labels[image])[0]
        embeddings[image] = embeddings[other] + 1e-3
    names = ["mistakes", "triplets"]  # which show names of files
    page, *figures = write_figures(tmp_path, replace(data, embeddings=embeddings), names)
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert "script" not in found.seen
    assert any("a\\x1b[31m\\u202egnp.exe" in alt for alt in found.alts)
    assert any('"><script>alert(1)</script>.png' in alt for alt in found.alts)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for path in figures:
        if path.suffix == ".svg":
            assert b"<script" not in path.read_bytes()
            ElementTree.parse(path)


def test_a_page_without_two_images_of_a_class_says_so(tmp_path):
    for shown, is_said in ((data_of(30, 30), True), (data_of(), False)):
        page, *_ = write_figures(tmp_path, shown, [])
        assert ("No two images share a class." in page.read_text()) == is_said
