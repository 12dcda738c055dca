"""The worst mistakes, against a loop, and the names of files in the figures."""

from dataclasses import replace

import numpy as np
import pytest
from figure_data import PATHS, data_of, with_paths

from src.data.split import Split
from src.figures import draw
from src.figures.mistakes import all_mistaken, most_mistaken


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
        drawn = draw("mistakes", data)
        [axes] = drawn.figure.axes
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
        assert f"{len(mistaken)} of 60 images" in drawn.caption


def test_the_image_that_was_taken_for_the_nearest_comes_first():
    """Of two that are as near to within rounding, the one with the lower number."""
    data = data_of(6, 2)
    embeddings = np.array([[1.0], [np.nextafter(np.float32(1), 2)], [1.0], [5], [6], [7]])
    embeddings = np.hstack([embeddings, np.ones((6, 1))]).astype(np.float32)
    labels = np.array([0, 1, 0, 1, 0, 1], np.int32)
    split = Split(data.split.images, labels, data.split.class_names)
    data = replace(data, split=split, embeddings=embeddings)
    assert data.nearest[0] == 1
    (mistake, *_) = [one for one in most_mistaken(data, all_mistaken(data), 6, 3) if one.image == 0]
    assert mistake.neighbors[:2].tolist() == [1, 2]


def test_no_mistake_no_drawn():
    assert draw("mistakes", data_of(spread=100)) is None


def test_the_only_image_of_its_class_is_not_mistaken():
    data = data_of(30, 3, spread=0.5)
    labels = np.where(np.arange(30) == 17, 2, np.arange(30) % 2).astype(np.int32)
    alone = replace(data, split=Split(data.split.images, labels, data.split.class_names))
    mistaken = all_mistaken(alone)
    assert 17 not in mistaken
    expected = np.flatnonzero((labels != labels[alone.nearest]) & (np.arange(30) != 17))
    assert mistaken.tolist() == expected.tolist() != []
    drawn = draw("mistakes", alone)
    assert f"{len(mistaken)} of 29 images" in drawn.caption
    assert (
        "among the other 29 images of the split. One image is excluded: it is the only one"
        in drawn.caption
    )


@pytest.mark.parametrize("name", ["mistakes", "triplets"])
def test_names_of_files_are_drawn_short_and_told_in_full(name):
    drawn = draw(name, with_paths(data_of(spread=0.4)))
    texts = [text.get_text() for axes in drawn.figure.axes for text in axes.texts]
    shortened = [text for text in texts if text.startswith("kept/") and text.endswith(".png")]
    assert len(shortened) >= 8
    assert all("…" in text and len(text) <= 30 for text in shortened)
    for text in shortened:
        assert PATHS[int(text[-8:-4])] in drawn.alt
    assert not any(text.startswith("no. ") for text in texts)


def test_the_mistaken_image_is_named_by_its_file():
    data = with_paths(data_of(spread=0.4))
    drawn = draw("mistakes", data)
    first = most_mistaken(data, all_mistaken(data), 10, 7)[0]
    assert f" {PATHS[first.image]}, " in drawn.alt
    assert "Each row has an image with its file," in drawn.caption
    sample = "among the other 59 images shown (a sample of the 999 images of the split)."
    assert sample in drawn.caption


def test_without_files_it_is_named_by_its_number_in_the_whole_split():
    data = replace(with_paths(data_of(spread=0.4)), split=data_of(spread=0.4).split)
    drawn = draw("mistakes", data)
    texts = [text.get_text() for text in drawn.figure.axes[0].texts]
    shown = most_mistaken(data, all_mistaken(data), 10, 7)
    numbers = [f"no. {7 * mistake.image + 1}" for mistake in shown]
    assert [text for text in texts if text.startswith("no. ")] == numbers
    assert numbers[0] in drawn.alt
    assert "Each row has an image with its number in the split," in drawn.caption
