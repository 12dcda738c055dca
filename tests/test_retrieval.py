"""Nearest neighbours, recall and percentiles of distances against float64 loops."""

import numpy as np
import pytest

from src import retrieval
from src.retrieval import PERCENTILES, nearest_neighbors, percentiles_of_distances, recall_at_1


def gaussian(num_examples, size, seed=0):
    return np.random.default_rng(seed).normal(size=(num_examples, size)).astype(np.float32)


def reference_neighbors(queries, gallery=None):
    """Return each query's nearest by a loop over all pairs; of several, the first."""
    points = queries if gallery is None else gallery
    nearest = []
    for q, query in enumerate(queries.astype(np.float64)):
        best, best_distance = None, np.inf
        for g, point in enumerate(points.astype(np.float64)):
            distance = np.sqrt(np.sum((query - point) ** 2))
            if distance < best_distance and not (gallery is None and q == g):
                best, best_distance = g, distance
        nearest.append(best)
    return nearest


def reference_distances(embeddings):
    """Return the distances of all pairs of different examples."""
    points = embeddings.astype(np.float64)
    return np.array(
        [
            np.sqrt(np.sum((points[i] - points[j]) ** 2))
            for i in range(len(points))
            for j in range(i + 1, len(points))
        ]
    )


def reference_percentile(values, percentile):
    """Return a percentile, between two of the sorted values in proportion."""
    values = sorted(values)
    position = percentile / 100 * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])


@pytest.mark.parametrize(("num_examples", "size"), [(2, 1), (3, 4), (60, 2), (101, 16)])
def test_leave_one_out(num_examples, size):
    points = gaussian(num_examples, size)
    assert nearest_neighbors(points).tolist() == reference_neighbors(points)


@pytest.mark.parametrize(("num_queries", "num_gallery"), [(1, 1), (1, 50), (50, 1), (40, 70)])
def test_gallery(num_queries, num_gallery):
    queries, gallery = gaussian(num_queries, 5), gaussian(num_gallery, 5, seed=1)
    assert nearest_neighbors(queries, gallery).tolist() == reference_neighbors(queries, gallery)


def test_norms_count():
    # The direction of the farther one is the query's own: the inner product would choose it.
    queries = np.array([[1, 0]], np.float32)
    gallery = np.array([[9, 0], [0.5, 0.5]], np.float32)
    assert nearest_neighbors(queries, gallery).tolist() == [1]


def test_nobody_is_left_out_of_a_gallery():
    points = gaussian(20, 3)
    assert nearest_neighbors(points, points).tolist() == list(range(20))


@pytest.mark.parametrize("block_size", [1, 2, 7, 59, 60, 61])
def test_blocks(monkeypatch, block_size):
    points, gallery = gaussian(60, 4), gaussian(25, 4, seed=1)
    monkeypatch.setattr(retrieval, "BLOCK_SIZE", block_size)
    assert nearest_neighbors(points).tolist() == reference_neighbors(points)
    assert nearest_neighbors(points, gallery).tolist() == reference_neighbors(points, gallery)


@pytest.mark.parametrize("block_size", [3, 1024])
def test_of_equally_near_ones_the_first(monkeypatch, block_size):
    # Whole numbers, so that equal distances are equal in float32 too.
    monkeypatch.setattr(retrieval, "BLOCK_SIZE", block_size)
    points = np.random.default_rng(0).integers(-2, 3, size=(80, 2)).astype(np.float32)
    assert nearest_neighbors(points).tolist() == reference_neighbors(points)


def test_all_embeddings_equal():
    points = np.full((4, 3), 0.5, np.float32)
    assert nearest_neighbors(points).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("spread", [1, 1e-2, 1e-4])
def test_embeddings_close_together_far_from_the_origin(spread):
    # On the way to a collapse, all embeddings lie in one place, which need not be the origin.
    points = (3 + spread * gaussian(100, 8).astype(np.float64)).astype(np.float32)
    assert nearest_neighbors(points).tolist() == reference_neighbors(points)


def test_arguments_are_left_as_they_are():
    points, gallery = gaussian(10, 3), gaussian(10, 3, seed=1)
    copies = points.copy(), gallery.copy()
    nearest_neighbors(points, gallery)
    nearest_neighbors(points)
    np.testing.assert_array_equal(points, copies[0])
    np.testing.assert_array_equal(gallery, copies[1])


def test_recall_by_hand():
    # On a line: 0a 1a 2.5b 3b 6a. Nearest: 0->1 (a), 1->0 (a), 2.5->3 (b), 3->2.5 (b), 6->3 (b).
    points = np.array([[0], [1], [2.5], [3], [6]], np.float32)
    labels = np.array([0, 0, 1, 1, 0], np.int32)
    assert recall_at_1(points, labels) == 4 / 5


def test_recall_with_a_gallery_by_hand():
    # The queries' own labels must not be looked at: 0 -> 0.1 (7, right), 5 -> 4 (8, wrong).
    queries, query_labels = np.array([[0], [5]], np.float32), np.array([7, 7], np.int32)
    gallery = np.array([[9.5], [4], [0.1]], np.float32)
    gallery_labels = np.array([7, 8, 7], np.int32)
    assert recall_at_1(queries, query_labels, gallery, gallery_labels) == 1 / 2


def test_recall_of_one_class_and_of_classes_of_one():
    points = gaussian(10, 3)
    assert recall_at_1(points, np.zeros(10, np.int32)) == 1
    assert recall_at_1(points, np.arange(10, dtype=np.int32)) == 0


def test_recall_of_nothing():
    one, label = gaussian(1, 3), np.array([0], np.int32)
    none, no_label = one[:0], label[:0]
    assert recall_at_1(one, label) == 0
    assert recall_at_1(none, no_label) == 0
    assert recall_at_1(none, no_label, one, label) == 0
    assert recall_at_1(one, label, none, no_label) == 0
    assert recall_at_1(one, label, one, label) == 1


@pytest.mark.parametrize("num_examples", [2, 3, 4, 30])
def test_percentiles_of_all_pairs(num_examples):
    embeddings = gaussian(num_examples, 5)
    distances = reference_distances(embeddings)
    for name, values in (("euclidean", distances), ("squared_euclidean", distances**2)):
        expected = [reference_percentile(values, percentile) for percentile in (5, 50, 95)]
        actual = percentiles_of_distances(embeddings, name)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_percentiles_by_hand():
    # 0, 1, 3 on a line: distances 1, 2, 3.
    embeddings = np.array([[0], [1], [3]], np.float32)
    actual = percentiles_of_distances(embeddings, "euclidean")
    np.testing.assert_allclose(actual, [1 + 0.1, 2, 3 - 0.1], rtol=1e-6)
    actual = percentiles_of_distances(embeddings, "squared_euclidean")
    np.testing.assert_allclose(actual, [1 + 0.1 * 3, 4, 9 - 0.1 * 5], rtol=1e-6)


@pytest.mark.parametrize("name", ["euclidean", "squared_euclidean", "mean_squared", "cosine"])
def test_percentiles_of_drawn_pairs_are_close_to_those_of_all(name):
    embeddings = gaussian(200, 3)  # 19 900 pairs
    every_pair = percentiles_of_distances(embeddings, name)
    drawn = percentiles_of_distances(embeddings, name, max_pairs=10_000)
    assert not np.array_equal(drawn, every_pair)
    np.testing.assert_allclose(drawn, every_pair, rtol=0.08)
    again = percentiles_of_distances(embeddings, name, max_pairs=10_000)
    np.testing.assert_array_equal(drawn, again)


def test_the_limit_on_pairs_is_a_limit():
    embeddings = gaussian(20, 3)  # 190 pairs
    every_pair = percentiles_of_distances(embeddings, "euclidean")
    at_limit = percentiles_of_distances(embeddings, "euclidean", max_pairs=190)
    below = percentiles_of_distances(embeddings, "euclidean", max_pairs=189)
    np.testing.assert_array_equal(at_limit, every_pair)
    assert not np.array_equal(below, every_pair)


def test_drawn_pairs_are_of_different_examples():
    # Corners of a simplex: all distances are 1, but an example's to itself.
    embeddings = np.eye(40, dtype=np.float32) * np.float32(np.sqrt(0.5))
    for max_pairs in (779, 780):
        actual = percentiles_of_distances(embeddings, "euclidean", max_pairs=max_pairs)
        np.testing.assert_allclose(actual, [1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("num_examples", [0, 1])
def test_percentiles_without_a_pair(num_examples):
    actual = percentiles_of_distances(gaussian(num_examples, 3), "euclidean")
    assert actual.tolist() == [0, 0, 0]


def test_one_value_for_each_percentile():
    assert PERCENTILES == (5, 50, 95)
    for num_examples in (1, 5):
        actual = percentiles_of_distances(gaussian(num_examples, 3), "squared_euclidean")
        assert actual.shape == (3,) and actual.dtype == np.float32
