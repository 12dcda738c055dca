"""The histograms of distances and the margin in them."""

from dataclasses import replace

import numpy as np
import pytest
from figure_data import data_of

from src.embeddings.pairs import scan_pairs
from src.figures import draw
from src.figures.distances import median_distance


def median_of(data):
    return median_distance(data.pairs.edges, data.pairs.positive_counts)


def texts_of(drawn):
    [axes] = drawn.figure.axes
    return [text.get_text() for text in axes.texts]


def test_the_median_is_the_middle_of_its_bin():
    edges = np.array([0.0, 1.0, 2.0, 4.0])
    assert median_distance(edges, np.array([1, 3, 1])) == 1.5
    assert median_distance(edges, np.array([0, 1, 9])) == 3.0


def test_the_margin_has_its_length():
    data = data_of(margin=0.75)
    drawn = draw("distances", data)
    [axes] = drawn.figure.axes
    median = median_of(data)
    lines = sorted({line.get_xdata()[0] for line in axes.lines})
    assert lines == pytest.approx([median, median + 0.75])
    assert "margin 0.75" in texts_of(drawn)


def test_a_margin_longer_than_any_distance_is_in_the_figure():
    data = data_of(margin=30.0)
    [axes] = draw("distances", data).figure.axes
    assert axes.get_xlim()[1] > median_of(data) + 30
    assert data.pairs.edges[-1] < 30


def test_a_soft_margin_is_named_and_has_no_bar():
    drawn = draw("distances", data_of(margin="soft", triplet_strategy="batch_hard"))
    assert texts_of(drawn) == [" median positive distance (the margin is soft)"]
    assert "The margin is soft: " in drawn.caption
    assert "The bar shows" not in drawn.caption


def test_a_loss_without_a_margin_has_no_bar():
    drawn = draw("distances", data_of(distance="cosine", triplet_strategy="multi_similarity"))
    assert texts_of(drawn) == [" median positive distance (the loss has no margin)"]
    assert "The loss has no margin." in drawn.caption


@pytest.mark.parametrize(
    ("distance", "title"),
    [
        ("euclidean", "Euclidean distance"),
        ("squared_euclidean", "squared Euclidean distance"),
        ("mean_squared", "mean squared difference"),
        ("cosine", "cosine distance, 1 - cos"),
    ],
)
def test_the_distance_and_its_numbers_are_stated(distance, title):
    data = data_of(spread=0.5, distance=distance, margin=0.2)
    drawn = draw("distances", data)
    [axes] = drawn.figure.axes
    assert axes.get_xlabel() == f"{title} between two embeddings"
    assert texts_of(drawn) == ["", "margin 0.2"]
    of_class = np.bincount(data.split.labels)
    num_positive = int((of_class * (of_class - 1) // 2).sum())
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()] == [
        f"positive pairs (same class): {num_positive}",
        f"negative pairs (different classes): {1770 - num_positive:,}".replace(",", " "),
    ]
    assert (
        f"All 1 770 pairs of the images shown, by the distance used in training ({distance})."
        in (drawn.caption)
    )
    assert f"The median distance of positive pairs is {median_of(data):.3g}, of" in drawn.alt


def test_the_median_and_the_shares():
    data = data_of(80, distance="squared_euclidean")
    labels, x = data.split.labels, data.embeddings.astype(np.float64)
    same = [
        ((x[i] - x[j]) ** 2).sum()
        for i in range(80)
        for j in range(80)
        if i != j and labels[i] == labels[j]
    ]
    width = data.pairs.edges[1]
    assert median_of(data) == pytest.approx(np.median(same), abs=1.5 * width)
    [axes] = draw("distances", data).figure.axes
    heights = np.array([bar.get_height() for bar in axes.patches if hasattr(bar, "get_height")])
    assert heights.sum() == pytest.approx(2)  # each of the two histograms sums to 1


def test_the_distance_that_trained_is_the_one_shown():
    for distance in ("euclidean", "cosine"):
        data = data_of(distance=distance)
        expected = scan_pairs(data.embeddings, data.split.labels, distance)
        np.testing.assert_array_equal(data.pairs.positive_counts, expected.positive_counts)


def test_the_median_of_equal_embeddings_is_0():
    pairs = scan_pairs(np.full((6, 3), 0.25, np.float32), np.array([0, 0, 0, 1, 1, 1]), "euclidean")
    assert median_distance(pairs.edges, pairs.positive_counts) == 0


def test_a_sample_is_called_one():
    data = data_of()
    of = " Among 60 of the 999 images of the split, a sample."
    assert of not in draw("distances", data).caption
    assert of in draw("distances", replace(data, num_examples=999)).caption
