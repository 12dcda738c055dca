"""Every figure: what a user reads in it, whatever the names, the numbers and the classes are."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from figure_data import data_of, seen
from hostile_names import HOSTILE

from src.data.split import Split
from src.drawing.style import display_names
from src.embeddings.layouts import TITLES, pca
from src.embeddings.retrieval import recall_at_1
from src.figures import FigureData, draw
from src.params.schema import Params
from src.registry import FIGURES, LIVE_FIGURES

# What each figure of `data_of(spread=0.4)` says, besides the names of the classes
TEXTS = {
    **{name: {f"{title} of the embeddings, test split"} for name, title in TITLES.items()},
    "before_after": {"before training: recall@1 0.1667", "after 101 steps: recall@1 0.6167"},
    "distances": {
        *("Distances between images of the test split", "margin 0.5", "share of pairs"),
        "Euclidean distance between two embeddings",
    },
    "confusion": {
        *("Classes of nearest neighbours, test split", "class of the nearest neighbour"),
        *("class of the image", "Most frequent confusions"),
    },
    "mistakes": {"The worst mistakes of the test split", "nearest neighbours and distances"},
    "triplets": {
        *("The hardest triplets of the test split", "The easiest triplets of the test split"),
        *("positive", "anchor", "negative", "d(a,p)", "d(a,n)"),
    },
    "open_set": {
        *("Scores", "AUROC 0.9125", "test images of known classes", "strangers"),
        *("strangers accepted (FPIR)", "known images found (DIR)", " FPIR 0.1", " FPIR 0.01"),
    },
    "curves": {
        "map_at_r_within: step 101 was chosen",
        "loss",
        "fraction_positive",
        "step",
        "training",
        "validation",
    },
    "progress": {"PCA of 60 test images at step 101", "loss", "training", "validation"},
}
NAMED = FIGURES.keys() - {"distances", "curves", "open_set"}  # show the names of classes


@pytest.mark.parametrize("name", FIGURES)
def test_says_what_it_shows(name):
    drawn = draw(name, data_of(spread=0.4, names=["ant", "bee", "cat", "dog"]))
    texts = seen(drawn)
    assert set(texts) >= TEXTS[name]
    if name in NAMED:
        said = " ".join(texts)
        assert all(class_name in said for class_name in ("ant", "bee", "cat", "dog"))
    for text in (drawn.title, drawn.caption, drawn.alt):
        assert text.strip() == text != ""
    assert len(drawn.caption) > len(drawn.alt) / 2


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - {"tsne", "umap"}))  # drawn like pca
class TestEveryFigure:
    def test_hostile_names_and_colour_images(self, name):
        data = data_of(200, len(HOSTILE), names=HOSTILE, spread=0.3, channels=3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            said = " ".join(seen(draw(name, data)))
        shown = {"mistakes": 11, "confusion": 14, "triplets": 13}.get(name, 24)
        names = display_names(HOSTILE, max_length=shown)
        number = sum(class_name in said for class_name in names)
        wanted = {"mistakes": 5, "triplets": 5, "progress": 10}.get(name, len(HOSTILE))
        assert number >= wanted or name not in NAMED

    def test_the_largest_numbers_do_no_harm(self, name):
        data = data_of()
        largest = np.float32(3e38) * np.sign(data.embeddings)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = draw(name, replace(data, embeddings=largest, untrained=largest, layouts={}))
            assert drawn is None or seen(drawn)
        # of figures without a layout only those that compute none can be drawn
        assert (drawn is None) == (name in ("pca", "before_after", "progress"))

    def test_a_hundred_classes(self, name):
        data = data_of(300, 100, spread=0.3)
        named = set(seen(draw(name, data)))
        if name in ("pca", "before_after", "progress"):  # which have room for some only
            assert len(named & set(map(str, range(100)))) >= 10
        elif name in NAMED - {"mistakes", "triplets"}:
            several = np.flatnonzero(np.bincount(data.split.labels) > 1)
            assert named >= set(map(str, several)) and len(several) > 80

    def test_what_is_missing_is_left_out_or_drawn_without(self, name):
        data = FigureData(
            experiment="x",
            split_name="test",
            split=Split(np.zeros((1, 4, 4, 1), np.uint8), np.zeros(1, np.int32), ("only",)),
            embeddings=np.ones((1, 2), np.float32),
            params=Params(),
            step=1,
            num_examples=1,
            layouts={"pca": np.zeros((1, 2), np.float32)},
        )
        drawn = draw(name, data)
        assert (drawn is not None) == (name in ("pca", "progress"))

    def test_embeddings_that_are_all_one_point_of_two_classes(self, name):
        data = data_of(num_classes=2)
        ones = np.ones_like(data.embeddings)
        flat = {"pca": pca(ones), "tsne": pca(ones), "umap": pca(ones)}
        collapsed = replace(data, embeddings=ones, layouts=flat)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            said = " ".join(seen(draw(name, collapsed)))
        assert name not in NAMED or ("0" in said and "1" in said)


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - {"tsne", "umap", "curves"}))
def test_numbers_of_any_size(name):
    data = data_of()
    for scale in np.array([1e-30, 1e15, 1e30, 3e37], np.float32):
        layouts = {key: layout * scale for key, layout in data.layouts.items()}
        scaled = replace(data, embeddings=data.embeddings * scale, layouts=layouts)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = draw(name, scaled)
            if scale < 1 or scale > 1e30:
                assert seen(drawn)
        for axes in drawn.figure.axes:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            for points in axes.collections:
                x, y = np.asarray(points.get_offsets(), float).T
                assert ((left < x) & (x < right) & (bottom < y) & (y < top)).all()


def test_live_figures_are_figures():
    assert FIGURES.keys() > LIVE_FIGURES


def test_too_few_images_of_a_class_or_classes_make_no_figure():
    assert draw("triplets", data_of(2, 1)) is None
    assert draw("distances", data_of(5, 1)) is None
    assert draw("distances", data_of(3, 3)) is None
    alone = data_of(30, 30)
    assert draw("mistakes", alone) is None
    assert draw("confusion", alone) is None


def test_before_and_after():
    data = data_of()
    before, after = draw("before_after", data).figure.axes
    labels = data.split.labels
    recalls = [f"{recall_at_1(x, labels):.4f}" for x in (data.untrained, data.embeddings)]
    assert before.get_title() == f"before training: recall@1 {recalls[0]}"
    assert after.get_title() == f"after 101 steps: recall@1 {recalls[1]}"
    assert recalls[0] < recalls[1]
    for axes, embeddings in ((before, data.untrained), (after, data.embeddings)):
        offsets = axes.collections[0].get_offsets()
        np.testing.assert_allclose(
            np.sort(np.asarray(offsets), axis=0), np.sort(pca(embeddings), axis=0), rtol=1e-5
        )
        values, _ = np.linalg.eigh(np.cov(embeddings.T.astype(np.float64)))
        shares = values[::-1] / values.sum()
        first = f"first principal component, {shares[0]:.0%} of the variance"
        assert (axes.get_xlabel(), axes.get_ylabel()) == (first, f"second, {shares[1]:.0%}")


def test_before_and_after_where_each_image_is_alone_in_its_class():
    drawn = draw("before_after", data_of(size=5, num_classes=5))
    assert [axes.get_title() for axes in drawn.figure.axes] == [
        *("before training: recall@1 -", "after 101 steps: recall@1 -")
    ]
    assert "It is undefined here, because no two images share a class." in drawn.caption
    assert "excluded" not in drawn.caption


def test_the_caption_of_a_map_says_what_the_colours_and_names_are():
    few, some, many = (draw("pca", data_of(200, number)).caption for number in (10, 20, 21))
    assert "Each class has its own colour." in few
    assert "A point among points of another colour is one that the network may confuse" in few
    for caption in (some, many):
        assert "form 10 groups, each in one colour" in caption
        assert "An image among images of another class is one" in caption
    assert "named where there is room" not in few + some
    assert "A class is named where there is room." in many
