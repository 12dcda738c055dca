"""The figures of an experiment: their numbers, against loops, and that they can be seen."""

import tracemalloc
import warnings
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from figure_data import OPEN_SET, data_of
from hostile_names import HOSTILE
from PIL import Image

from src.data.split import Split
from src.drawing.animation import write_gif
from src.drawing.style import figure_image, style
from src.embeddings.layouts import pca
from src.embeddings.pairs import scan_pairs
from src.embeddings.retrieval import recall_at_1
from src.figures import MAX_SHOWN, FigureData, draw, write_figures
from src.figures.confusion import confusions, frequent_confusions, most_confused, row_shares
from src.figures.curves import running_mean
from src.figures.distances import median_distance
from src.figures.mistakes import all_mistaken, most_mistaken
from src.figures.triplets import extreme_triplets, triplet_distances, triplet_losses
from src.params.schema import Params
from src.registry import FIGURES, LIVE_FIGURES


def ink(picture):
    """Which share of the picture is not white."""
    with style():
        pixels = np.asarray(figure_image(picture.figure))
    return (pixels < 250).any(axis=2).mean()


@pytest.mark.parametrize("name", FIGURES)
class TestEveryFigure:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_drawn_with_words(self, name, channels):
        picture = draw(name, data_of(channels=channels))
        assert ink(picture) > 0.01
        for text in (picture.title, picture.caption, picture.alt):
            assert text.strip() == text != ""
        assert len(picture.caption) > len(picture.alt) / 2

    def test_hostile_names(self, name):
        data = data_of(200, len(HOSTILE), names=HOSTILE, spread=0.3)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ink(draw(name, data)) > 0.01

    def test_numbers_of_any_size(self, name):
        data = data_of()
        for scale in (1e-30, 1e15, 1e30, 3e37):
            huge = data.embeddings * np.float32(scale)
            layouts = {key: layout * np.float32(scale) for key, layout in data.layouts.items()}
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                picture = draw(name, replace(data, embeddings=huge, layouts=layouts))
                assert ink(picture) > 0.001

    def test_the_largest_numbers_do_no_harm(self, name):
        data = data_of()
        largest = np.float32(3e38) * np.sign(data.embeddings)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = draw(name, replace(data, embeddings=largest, untrained=largest, layouts={}))
            assert picture is None or ink(picture) > 0.001

    @pytest.mark.parametrize("num_classes", [2, 100])
    def test_few_and_many_classes(self, name, num_classes):
        assert ink(draw(name, data_of(300, num_classes, spread=0.3))) > 0.01

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
        picture = draw(name, data)
        assert (picture is not None) == (name in ("pca", "progress"))

    def test_embeddings_that_are_all_one_point(self, name):
        data = data_of()
        ones = np.ones_like(data.embeddings)
        flat = {"pca": pca(ones), "tsne": pca(ones), "umap": pca(ones)}
        collapsed = replace(data, embeddings=ones, layouts=flat)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ink(draw(name, collapsed)) > 0.001


@pytest.mark.parametrize("name", ["distances", "triplets", "mistakes"])
@pytest.mark.parametrize(
    "params",
    [
        {"margin": 30.0},
        {"margin": "soft", "triplet_strategy": "batch_hard"},
        {"distance": "cosine", "margin": 0.2},
        {"distance": "mean_squared"},
    ],
)
def test_margins_and_distances(name, params):
    assert ink(draw(name, data_of(spread=0.5, **params))) > 0.005


def test_live_figures_are_figures():
    assert FIGURES.keys() > LIVE_FIGURES


class TestConfusion:
    def test_against_a_loop(self):
        data = data_of(spread=0.4)
        labels = data.split.labels
        expected = np.zeros((4, 4), int)
        for image, embedding in enumerate(data.embeddings):
            distances = np.linalg.norm(data.embeddings - embedding, axis=1)
            distances[image] = np.inf
            expected[labels[image], labels[distances.argmin()]] += 1
        pairs, counts = confusions(labels, labels[data.nearest])
        found = np.zeros((4, 4), int)
        found[tuple(pairs.T)] = counts
        np.testing.assert_array_equal(found, expected)
        # and so the diagonal is the recall that metrics.json has
        assert np.trace(found) / 60 == recall_at_1(data.embeddings, labels)
        assert np.trace(found) < 60
        chosen = most_confused(pairs, counts)
        assert chosen.tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(
            row_shares(pairs, counts, chosen), expected / expected.sum(axis=1, keepdims=True)
        )
        some = np.array([1, 3])
        np.testing.assert_allclose(
            row_shares(pairs, counts, some),
            (expected / expected.sum(axis=1, keepdims=True))[np.ix_(some, some)],
        )

    def test_the_numbers_drawn(self):
        labels = np.array([0, 0, 0, 1, 1, 2, 2, 3], np.int32)
        places = [0, 0.1, 5.1, 5, 5.3, 0.2, 9, 5.4]
        data = data_of(8, 4)
        data = replace(
            data,
            split=Split(data.split.images, labels, ("a", "b", "c", "d")),
            embeddings=np.array(places, np.float32)[:, None],
        )
        picture = draw("confusion", data)
        of_matrix, of_bars = picture.figure.axes
        drawn = {text.get_position(): text.get_text() for text in of_matrix.texts}
        # at (column, row): two of three a's are nearest to an a, the third to a b, ... The only d
        # is nobody's mistake, but it can be what another is taken for.
        assert drawn == {
            **{(0, 0): "66.7", (1, 0): "33.3", (0, 1): "50.0", (3, 1): "50.0"},
            **{(0, 2): "50.0", (3, 2): "50.0"},
        }
        assert [tick.get_text() for tick in of_bars.get_yticklabels()] == [
            *("a → b", "b → a", "b → d", "c → a", "c → d")
        ]
        assert [bar.get_width() for bar in of_bars.patches] == [1] * 5
        assert "5 of 7 images, 71.43%" in picture.caption
        assert "1 more is the only one of its class" in picture.caption
        assert "a for b 1 times" in picture.alt

    def test_most_frequent_first_and_none_of_what_is_right(self):
        pairs = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1], [2, 2]])
        counts = np.array([9, 2, 5, 9, 1, 9])
        assert frequent_confusions(pairs, counts, 10) == [(1, 0, 5), (0, 1, 2), (2, 1, 1)]
        assert frequent_confusions(pairs, counts, 2) == [(1, 0, 5), (0, 1, 2)]
        assert frequent_confusions(pairs[[0, 3]], counts[[0, 3]], 10) == []

    def test_numbers_only_where_they_are_legible(self):
        many = draw("confusion", data_of(1000, 100)).figure.axes[0]
        assert len(many.texts) == 0
        assert len(many.get_yticklabels()) == 100

    def test_of_very_many_classes_the_most_confused_and_it_says_so(self):
        labels = np.repeat(np.arange(500), 2).astype(np.int32)
        places = 10.0 * labels + np.tile([0, 1], 500)
        for one, other in ((20, 400), (77, 78), (300, 5)):  # an image of each lies by the other
            places[2 * one] = places[2 * other] + 0.5
        data = data_of(1000, 500)
        data = replace(
            data,
            split=Split(data.split.images, labels, data.split.class_names),
            embeddings=places.astype(np.float32)[:, None],
        )
        picture = draw("confusion", data)
        shown = [tick.get_text() for tick in picture.figure.axes[0].get_yticklabels()]
        assert len(shown) == 40
        assert {"20", "400", "77", "78", "300", "5"} <= set(shown)
        assert shown == sorted(shown, key=int)
        assert "Of 500 classes these are the 40 of the most frequent confusions" in picture.caption

    def test_of_ten_thousand_classes_it_is_small(self):
        labels = np.repeat(np.arange(10_000), 2).astype(np.int32)
        tracemalloc.start()
        pairs, counts = confusions(labels, labels[::-1])
        chosen = most_confused(pairs, counts)
        shares = row_shares(pairs, counts, chosen)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # and not 800 MB
        tracemalloc.stop()
        assert shares.shape == (40, 40)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"distance": "cosine", "margin": 0.2},
        {"margin": "soft", "triplet_strategy": "batch_hard", "squared": True},
    ],
)
class TestTriplets:
    def test_against_all_triplets(self, params):
        data = data_of(40, 3, **params)
        labels = data.split.labels
        every = np.array(
            [
                (a, p, n)
                for a in range(40)
                for p in range(40)
                for n in range(40)
                if a != p and labels[a] == labels[p] != labels[n]
            ]
        )
        to_positive, to_negative = triplet_distances(data, every)
        for hardest, sign in ((True, -1), (False, 1)):
            by_gap = every[np.argsort(sign * (to_positive - to_negative))].tolist()
            expected, asked, shown = [], set(), set()
            for triplet in by_gap:  # each anchor's first, where no image of it is shown already
                if triplet[0] not in asked and shown.isdisjoint(triplet):
                    expected.append(triplet)
                    shown.update(triplet)
                asked.add(triplet[0])
            found = extreme_triplets(data, 3, hardest=hardest)
            assert found.tolist() == expected[:3]
            assert found[0].tolist() == by_gap[0]  # the most extreme of all
            assert len(found) > 1

    def test_the_strips(self, params):
        data = data_of(60, **params)
        picture = draw("triplets", data)
        losses = []
        for axes, hardest in zip(picture.figure.axes, (True, False), strict=True):
            assert len(axes.images) == 3 * 6
            found = extreme_triplets(data, 6, hardest=hardest)
            texts = [text.get_text() for text in axes.texts]
            d_ap, d_an = triplet_distances(data, found)
            losses.append(triplet_losses(d_ap, d_an, data.params.margin))
            for row in range(6):
                assert f"{d_ap[row]:.3g}" in texts
                assert f"{d_an[row]:.3g}" in texts
                assert f"loss {losses[-1][row]:.3g}" in texts
        assert len(picture.figure.axes) == 2
        assert losses[0].min() > losses[1].max()


def test_triplet_losses_by_hand():
    d_ap, d_an = np.array([1.0, 0.25, 0.5]), np.array([0.5, 2.0, 0.5])
    assert triplet_losses(d_ap, d_an, 0.5).tolist() == [1.0, 0.0, 0.5]
    np.testing.assert_allclose(
        triplet_losses(d_ap, d_an, "soft"), np.log(1 + np.exp([0.5, -1.75, 0]))
    )


def test_two_images_of_a_class_and_no_other_make_no_triplet():
    assert draw("triplets", data_of(2, 1)) is None
    assert draw("distances", data_of(5, 1)) is None
    assert draw("distances", data_of(3, 3)) is None


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
class TestMistakes:
    def test_against_a_loop(self, distance):
        data = data_of(spread=0.4, distance=distance)
        labels = data.split.labels
        expected = []
        for image, embedding in enumerate(data.embeddings.astype(np.float64)):
            to = {
                other: float(np.linalg.norm(data.embeddings[other] - embedding))
                for other in range(60)
                if other != image
            }
            ranked = sorted(to, key=to.get)
            if labels[ranked[0]] != labels[image]:
                own = min(to[other] for other in to if labels[other] == labels[image])
                expected.append((own - to[ranked[0]], image, ranked[:3]))
        expected.sort(reverse=True)
        mistaken = all_mistaken(data)
        found = most_mistaken(data, mistaken, 5, 3)
        assert len(found) == 5 <= len(expected) == len(mistaken)
        for mistake, (excess, image, ranked) in zip(found, expected, strict=False):
            assert mistake.image == image
            assert mistake.excess == pytest.approx(excess)
            assert mistake.neighbors.tolist() == ranked

    def test_right_and_wrong_are_marked_by_more_than_colour(self, distance):
        data = data_of(spread=0.4, distance=distance)
        labels = data.split.labels
        picture = draw("mistakes", data)
        [axes] = picture.figure.axes
        mistaken = np.flatnonzero(labels != labels[data.nearest])
        shown = most_mistaken(data, mistaken, 10, 7)
        assert len(axes.images) == len(shown) * (1 + 7)
        marks = [text.get_text()[0] for text in axes.texts if text.get_text()[0] in "✓✗"]
        expected = [
            "✓" if labels[neighbor] == labels[mistake.image] else "✗"
            for mistake in shown
            for neighbor in mistake.neighbors
        ]
        assert marks == expected
        assert set(marks) == {"✓", "✗"}
        assert f"{len(mistaken)} of 60 images" in picture.caption


def test_no_mistake_no_picture():
    assert draw("mistakes", data_of(spread=100)) is None


def test_the_only_image_of_its_class_is_not_mistaken():
    data = data_of(30, 3, spread=0.5)
    labels = np.where(np.arange(30) == 17, 2, np.arange(30) % 2).astype(np.int32)
    alone = replace(data, split=Split(data.split.images, labels, data.split.class_names))
    mistaken = all_mistaken(alone)
    assert 17 not in mistaken
    expected = np.flatnonzero((labels != labels[alone.nearest]) & (np.arange(30) != 17))
    assert mistaken.tolist() == expected.tolist() != []
    picture = draw("mistakes", alone)
    assert f"{len(mistaken)} of 29 images" in picture.caption
    assert "among the other 29 images of the split. 1 more is the only one" in picture.caption


def test_nobody_can_be_right_and_nobody_is_mistaken(tmp_path):
    data = data_of(30, 30)
    assert all_mistaken(data).tolist() == []
    assert draw("mistakes", data) is None
    assert draw("confusion", data) is None
    before, after = draw("before_after", data).figure.axes
    assert before.get_title() == "before training: recall@1 -"
    assert after.get_title() == "after 101 steps: recall@1 -"
    for shown, is_said in ((data, True), (data_of(), False)):
        page, *_ = write_figures(tmp_path, shown, [])
        assert ("No two of the images are of one class" in page.read_text()) == is_said


class TestNamesOfFiles:
    PATHS = tuple(
        [f"kept/{'deep/' * 12}{number:04}.png" for number in range(58)]
        + ["a\x1b[31m\u202egnp.exe", '"><script>alert(1)</script>.png']
    )

    def with_paths(self, **params):
        data = data_of(spread=0.4, **params)
        split = replace(data.split, paths=np.array(self.PATHS, dtype=object))
        return replace(data, split=split, indices=np.arange(60) * 7 + 1, num_examples=999)

    @pytest.mark.parametrize("name", ["mistakes", "triplets"])
    def test_are_drawn_short_and_told_in_full(self, name):
        data = self.with_paths()
        picture = draw(name, data)
        drawn = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
        shortened = [text for text in drawn if text.startswith("kept/") and text.endswith(".png")]
        assert len(shortened) >= 8
        assert all("…" in text and len(text) <= 30 for text in shortened)
        for text in shortened:
            number = int(text[-8:-4])
            assert self.PATHS[number] in picture.alt
        assert not any(text.startswith("no. ") for text in drawn)

    def test_of_the_mistaken_image_itself(self):
        data = self.with_paths()
        picture = draw("mistakes", data)
        first = most_mistaken(data, all_mistaken(data), 10, 7)[0]
        assert f" {self.PATHS[first.image]}, " in picture.alt
        assert "each with its file" in picture.caption
        assert "among the other 59 images shown, of 999 of the split" in picture.caption

    def test_without_files_it_is_the_number_in_the_whole_split(self):
        data = replace(self.with_paths(), split=data_of(spread=0.4).split)
        picture = draw("mistakes", data)
        drawn = [text.get_text() for text in picture.figure.axes[0].texts]
        shown = most_mistaken(data, all_mistaken(data), 10, 7)
        numbers = [f"no. {7 * mistake.image + 1}" for mistake in shown]
        assert [text for text in drawn if text.startswith("no. ")] == numbers
        assert numbers[0] in picture.alt

    def test_arrive_escaped_on_the_page_and_in_the_pictures(self, tmp_path):
        data = self.with_paths()
        # The images with odd names are the most mistaken: each in the midst of another class.
        embeddings = data.embeddings.copy()
        for image in (58, 59):
            other = np.flatnonzero(data.split.labels != data.split.labels[image])[0]
            embeddings[image] = embeddings[other] + 1e-3
        page, *pictures = write_figures(tmp_path, replace(data, embeddings=embeddings))
        text = page.read_text(encoding="utf-8")
        found = Page(text)
        assert "script" not in found.seen
        assert any("a\\x1b[31m\\u202egnp.exe" in alt for alt in found.alts)
        assert any('"><script>alert(1)</script>.png' in alt for alt in found.alts)
        assert "\x1b" not in text
        assert "\u202e" not in text
        for path in pictures:
            if path.suffix == ".svg":
                assert b"<script" not in path.read_bytes()
                ElementTree.parse(path)


class TestDistances:
    def test_the_margin_has_its_length(self):
        data = data_of(margin=0.75)
        [axes] = draw("distances", data).figure.axes
        median = median_distance(data.pairs)
        lines = sorted({line.get_xdata()[0] for line in axes.lines})
        assert lines == pytest.approx([median, median + 0.75])
        assert "margin 0.75" in [text.get_text() for text in axes.texts]

    def test_a_margin_longer_than_any_distance_is_in_the_picture(self):
        data = data_of(margin=30.0)
        [axes] = draw("distances", data).figure.axes
        assert axes.get_xlim()[1] > median_distance(data.pairs) + 30
        assert data.pairs.edges[-1] < 30

    def test_a_soft_margin_is_named(self):
        data = data_of(margin="soft", triplet_strategy="batch_hard")
        [axes] = draw("distances", data).figure.axes
        assert any("soft" in text.get_text() for text in axes.texts)

    def test_the_median_and_the_shares(self):
        data = data_of(80, distance="squared_euclidean")
        labels, x = data.split.labels, data.embeddings.astype(np.float64)
        same = [
            ((x[i] - x[j]) ** 2).sum()
            for i in range(80)
            for j in range(80)
            if i != j and labels[i] == labels[j]
        ]
        width = data.pairs.edges[1]
        assert median_distance(data.pairs) == pytest.approx(np.median(same), abs=1.5 * width)
        [axes] = draw("distances", data).figure.axes
        heights = np.array([bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")])
        assert heights.sum() == pytest.approx(2)  # each of the two histograms sums to 1


def test_the_distance_that_trained_is_the_one_shown():
    for distance in ("euclidean", "cosine"):
        data = data_of(distance=distance)
        expected = scan_pairs(data.embeddings, data.split.labels, distance)
        np.testing.assert_array_equal(data.pairs.positive_counts, expected.positive_counts)


def test_before_and_after():
    data = data_of()
    picture = draw("before_after", data)
    before, after = picture.figure.axes
    labels = data.split.labels
    assert f"{recall_at_1(data.untrained, labels):.4f}" in before.get_title()
    assert f"{recall_at_1(data.embeddings, labels):.4f}" in after.get_title()
    for axes, embeddings in ((before, data.untrained), (after, data.embeddings)):
        offsets = axes.collections[0].get_offsets()
        np.testing.assert_allclose(
            np.sort(np.asarray(offsets), axis=0), np.sort(pca(embeddings), axis=0), rtol=1e-5
        )
        values, _ = np.linalg.eigh(np.cov(embeddings.T.astype(np.float64)))
        share = values[-1] / values.sum()
        assert f"{share:.0%} of the variance" in axes.get_xlabel()


def test_before_and_after_where_each_image_is_alone_in_its_class():
    picture = draw("before_after", data_of(size=5, num_classes=5))
    assert all("recall@1 -" in axes.get_title() for axes in picture.figure.axes)
    assert "not defined: each image is the only one of its class" in picture.caption
    assert "5 more" not in picture.caption


class TestCurves:
    def test_the_points(self):
        of_loss, of_fraction = draw("curves", data_of()).figure.axes
        assert of_loss.get_title() == "loss"
        assert of_fraction.get_title() == "fraction_positive"
        drawn, smoothed, validation = (line.get_xydata().tolist() for line in of_loss.lines)
        assert drawn == [[1, 1.0], [51, 0.5], [101, 0.3]]
        np.testing.assert_allclose(smoothed, drawn)  # too few points for a mean of several
        assert validation == [[100, 0.6]]
        assert [text.get_text() for text in of_loss.get_legend().get_texts()] == [
            *("training", "validation")
        ]

    def test_running_mean(self):
        values = np.random.default_rng(0).random(100).tolist()
        means = running_mean((list(range(100)), values))
        for position in range(100):
            reach = min(2, position, 99 - position)  # 5 % of 100, half of it on each side
            window = values[position - reach : position + reach + 1]
            assert means[position] == pytest.approx(np.mean(window))


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


class TestPage:
    def test_all_pictures_and_nothing_from_elsewhere(self, tmp_path):
        page, *pictures = write_figures(tmp_path, data_of(spread=0.4))
        names = [name for name in FIGURES if name != "progress"]
        assert [path.name for path in pictures] == [
            f"{name}.{ending}" for name in names for ending in ("png", "svg")
        ]
        assert sorted(tmp_path.iterdir()) == sorted([page, *pictures])
        for path in pictures:
            if path.suffix == ".svg":
                ElementTree.parse(path)
            else:
                with Image.open(path) as image:
                    assert np.asarray(image.convert("L")).std() > 5
        found = Page(page.read_text(encoding="utf-8"))
        assert len(found.references) == len(names)
        assert all(uri.startswith("data:image/svg+xml;base64,") for uri in found.references)
        assert found.links == [f"#{name}" for name in found.ids]
        assert found.ids == [*names, "metrics", "classes", "params"]
        assert all(found.alts)
        assert "script" not in found.seen
        assert "link" not in found.seen
        assert "url(" not in page.read_text(encoding="utf-8").split("</style>")[0]
        assert "0.875" in found.text  # a metric
        assert "batch_all" in found.text  # a param

    def test_hostile_names_arrive_intact_and_harmless(self, tmp_path):
        data = data_of(100, len(HOSTILE), names=HOSTILE, spread=0.3)
        page, *_ = write_figures(tmp_path, data, ["confusion", "mistakes"])
        found = Page(page.read_bytes().decode())
        assert "script" not in found.seen
        for name in ("<script>alert(1)</script>", "猫", "קופסה", "a&b", "$x$", "x" * 80):
            assert name in found.text

    def test_the_same_data_give_the_same_bytes(self, tmp_path):
        for name in ("one", "two"):
            write_figures(tmp_path / name, data_of(), ["pca", "distances", "triplets"])
        one = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
        two = {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
        assert one == two

    def test_animations_beside_it_are_shown(self, tmp_path):
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        write_gif(tmp_path / "live" / "confusion.gif", frames)
        write_gif(tmp_path / "evolution.gif", frames)
        page, *_ = write_figures(tmp_path, data_of(), ["confusion"])
        found = Page(page.read_text(encoding="utf-8"))
        assert found.ids[:3] == ["confusion", "film-evolution", "film-confusion"]
        assert sum(uri.startswith("data:image/gif;base64,") for uri in found.references) == 2

    def test_a_metric_that_is_not_defined_is_a_dash(self, tmp_path):
        metrics = {"test": {"map_at_r": None, "loss": 0.5}, "train": {"loss": 0.25}}
        page, *_ = write_figures(tmp_path, replace(data_of(), metrics=metrics), [])
        text = page.read_text(encoding="utf-8")
        dash, none = '<td class="number">-</td>', "None"
        assert f"<td>map_at_r</td>{dash}{dash}" in text
        assert none not in text.split('id="params"')[0]

    def test_a_picture_of_before_that_shows_nothing_now_is_removed(self, tmp_path):
        names = ["mistakes", "distances"]
        written = write_figures(tmp_path, data_of(spread=0.4), names)
        assert tmp_path / "mistakes.svg" in written
        (tmp_path / "mine.png").write_bytes(b"")
        write_figures(tmp_path, data_of(spread=100), names)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            *("distances.png", "distances.svg", "index.html", "mine.png")
        ]

    def test_files_of_others_beside_it_are_not_shown(self, tmp_path):
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
        write_gif(tmp_path / "live" / '"><b>.gif', frames)
        (tmp_path / "evolution.gif").mkdir()
        page, *_ = write_figures(tmp_path, data_of(), [])
        assert Page(page.read_text(encoding="utf-8")).references == []

    def test_of_a_large_split_some_are_shown(self, tmp_path):
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


class TestOpenSet:
    def test_the_numbers_drawn(self):
        picture = draw("open_set", data_of())
        of_scores, of_rates = picture.figure.axes
        assert [line.get_xdata()[0] for line in of_scores.lines] == [0.5, 0.25]
        shares = [patch.get_data().values for patch in of_scores.patches[1::2]]
        np.testing.assert_allclose(shares[0], [40 / 60, 15 / 60, 5 / 60, 0])
        np.testing.assert_allclose(shares[1], [0, 5 / 40, 15 / 40, 20 / 40])
        curve, *points = of_rates.lines
        np.testing.assert_allclose(curve.get_ydata(), [0.7, 0.9, 0.95])
        # An FPIR of 0 has no place on a logarithmic axis; a missing threshold has no point.
        assert [(p.get_xdata()[0], p.get_ydata()[0]) for p in points] == [(0.125, 0.9)]
        assert "60 test images and 40 strangers" in picture.caption
        assert "0.912" in picture.alt
        assert "flatter" not in picture.caption

    def test_it_says_that_known_classes_flatter(self):
        known = {**OPEN_SET, "calibrated_on": "known classes"}
        assert "numbers flatter" in draw("open_set", replace(data_of(), open_set=known)).caption

    def test_without_strangers_there_is_none(self):
        assert draw("open_set", replace(data_of(), open_set=None)) is None
        undefined = {**OPEN_SET, "auroc": None}
        assert draw("open_set", replace(data_of(), open_set=undefined)) is None

    def test_without_a_threshold(self):
        no_threshold = {"threshold": None, "reported": {"fpir": None, "dir": None}}
        found = {**OPEN_SET, "at": dict.fromkeys(OPEN_SET["at"], no_threshold)}
        picture = draw("open_set", replace(data_of(), open_set=found))
        assert ink(picture) > 0.01
        assert not picture.figure.axes[0].lines
