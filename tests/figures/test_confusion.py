"""The confusion matrix: its numbers against a loop, and what is drawn of many classes."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from figure_data import data_of

from src.data.split import Split
from src.embeddings.retrieval import recall_at_1
from src.figures import draw
from src.figures.confusion import (
    _percent,
    frequent_confusions,
    label_pairs,
    most_confused,
    row_shares,
)


def test_against_a_loop():
    data = data_of(spread=0.4)
    labels = data.split.labels
    expected = np.zeros((4, 4), int)
    for image, embedding in enumerate(data.embeddings):
        distances = np.linalg.norm(data.embeddings - embedding, axis=1)
        distances[image] = np.inf
        expected[labels[image], labels[distances.argmin()]] += 1
    pairs, counts = label_pairs(labels, labels[data.nearest])
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


def test_the_numbers_drawn():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 3], np.int32)
    places = [0, 0.1, 5.1, 5, 5.3, 0.2, 9, 5.4]
    data = data_of(8, 4)
    data = replace(
        data,
        split=Split(data.split.images, labels, ("a", "b", "c", "d")),
        embeddings=np.array(places, np.float32)[:, None],
    )
    drawn = draw("confusion", data)
    of_matrix, of_bars = drawn.figure.axes
    numbers = {text.get_position(): text.get_text() for text in of_matrix.texts}
    # at (column, row): two of three a's are nearest to an a, the third to a b, ... The only d
    # is nobody's mistake, but it can be what another is taken for.
    assert numbers == {
        **{(0, 0): "66.7", (1, 0): "33.3", (0, 1): "50.0", (3, 1): "50.0"},
        **{(0, 2): "50.0", (3, 2): "50.0"},
    }
    assert [tick.get_text() for tick in of_bars.get_yticklabels()] == [
        *("a → b", "b → a", "b → d", "c → a", "c → d")
    ]
    assert [bar.get_width() for bar in of_bars.patches] == [1] * 5
    assert "5 of 7 images (71.43%)" in drawn.caption
    assert "One image is excluded: it is the only one of its class." in drawn.caption
    assert "Most frequent confusions: a taken for b: 1; b taken for a: 1;" in drawn.alt


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "<0.1"), (2e-4, "<0.1"), (1e-3, "0.1"), (0.5, "50.0"), (0.9998, ">99.9"), (1.0, "100.0")],
)
def test_a_share_neither_hides_a_confusion_nor_denies_one(share, text):
    assert _percent(share) == text


def test_most_frequent_first_and_none_of_what_is_right():
    pairs = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 1], [2, 2]])
    counts = np.array([9, 2, 5, 9, 1, 9])
    assert frequent_confusions(pairs, counts, 10) == [(1, 0, 5), (0, 1, 2), (2, 1, 1)]
    assert frequent_confusions(pairs, counts, 2) == [(1, 0, 5), (0, 1, 2)]
    assert frequent_confusions(pairs[[0, 3]], counts[[0, 3]], 10) == []


def test_numbers_only_where_they_are_legible():
    many = draw("confusion", data_of(1000, 100)).figure.axes[0]
    assert len(many.texts) == 0
    assert len(many.get_yticklabels()) == 100


def test_of_very_many_classes_the_most_confused_and_it_says_so():
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
    drawn = draw("confusion", data)
    shown = [tick.get_text() for tick in drawn.figure.axes[0].get_yticklabels()]
    apart = np.abs(places[:, None] - places)
    np.fill_diagonal(apart, np.inf)
    found = labels[apart.argmin(axis=1)]
    confused = np.unique([labels[found != labels], found[found != labels]])
    assert shown == [str(label) for label in confused] and {"20", "400", "77"} < set(shown)
    few = f"Only the {len(shown)} classes with the most frequent confusions are shown, of 500;"
    assert few in drawn.caption
    none = replace(data, embeddings=10.0 * labels.astype(np.float32)[:, None])
    drawn = draw("confusion", none)
    shown = [tick.get_text() for tick in drawn.figure.axes[0].get_yticklabels()]
    assert shown == [str(label) for label in range(40)]
    assert "Only the 40 classes with the lowest numbers are shown, of 500;" in drawn.caption


def test_of_ten_thousand_classes_it_is_small():
    labels = np.repeat(np.arange(10_000), 2).astype(np.int32)
    tracemalloc.start()
    pairs, counts = label_pairs(labels, labels[::-1])
    chosen = most_confused(pairs, counts)
    shares = row_shares(pairs, counts, chosen)
    assert tracemalloc.get_traced_memory()[1] < 20e6  # and not 800 MB
    tracemalloc.stop()
    assert shares.shape == (40, 40)
