"""The neighbour search against float64 loops over all pairs."""

import numpy as np
import pytest

from src.embeddings import search
from src.embeddings.search import (
    k_nearest_neighbors,
    majority,
    nearest_columns,
    nearest_neighbors,
    visit_distances,
)


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
    monkeypatch.setattr(search, "BLOCK_SIZE", block_size)
    assert nearest_neighbors(points).tolist() == reference_neighbors(points)
    assert nearest_neighbors(points, gallery).tolist() == reference_neighbors(points, gallery)


@pytest.mark.parametrize("block_size", [3, 1024])
def test_of_equally_near_ones_the_first(monkeypatch, block_size):
    # Whole numbers, so that equal distances are equal in float32 too.
    monkeypatch.setattr(search, "BLOCK_SIZE", block_size)
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


@pytest.mark.parametrize("count", [1, 4, 24, 1000])
@pytest.mark.parametrize("with_gallery", [False, True])
def test_k_nearest_neighbors(count, with_gallery):
    queries, gallery = gaussian(60, 4), gaussian(25, 4, seed=1) if with_gallery else None
    nearest, distances = k_nearest_neighbors(queries, gallery, count=count)
    points = queries if gallery is None else gallery
    every = np.linalg.norm(queries[:, None].astype(float) - points, axis=2)
    if gallery is None:
        np.fill_diagonal(every, np.inf)
    num_others = 59 if gallery is None else 25
    expected = np.argsort(every, axis=1)[:, : min(count, num_others)]
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_allclose(distances, np.take_along_axis(every, expected, axis=1), rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30])
def test_k_nearest_neighbors_of_equal_points_and_numbers_of_any_size(scale):
    points = (np.array([[3], [1], [3], [3], [1]]) * scale).astype(np.float32)
    nearest, distances = k_nearest_neighbors(points, count=4)
    assert nearest.tolist() == [
        [2, 3, 1, 4],
        [4, 0, 2, 3],
        [0, 3, 1, 4],
        [0, 2, 1, 4],
        [1, 0, 2, 3],
    ]
    gap = float(points[0, 0]) - float(points[1, 0])
    np.testing.assert_allclose(distances[0], [0, 0, gap, gap], rtol=1e-12)


def test_nothing_to_find():
    one, none = gaussian(1, 3), gaussian(0, 3)
    assert nearest_neighbors(one).tolist() == [0]
    for queries, gallery in ((one, None), (none, None), (one, none), (none, one)):
        nearest, distances = k_nearest_neighbors(queries, gallery, count=3)
        assert len(nearest) == len(distances) == len(queries)
        assert nearest.size == distances.size == 0


def test_every_query_is_visited_once_in_any_order():
    points, own = gaussian(200, 3), np.random.default_rng(1).permutation(200)
    visited, rows_alike = [], []

    def visit(rows, distances):
        visited.extend(rows)
        rows_alike.append(np.isinf(distances[np.arange(len(rows)), own[rows]]).all())
        rows_alike.append(np.isinf(distances).sum() == len(rows))

    order = np.random.default_rng(0).permutation(200)
    visit_distances(points, points, visit, own=own, order=order)
    assert sorted(visited) == list(range(200))
    assert all(rows_alike)


def test_of_equal_distances_the_first_columns():
    distances = np.array([[2, 0, 1, 0, 5], [3, 3, 3, 3, 3]], np.float32)
    assert nearest_columns(distances, 3).tolist() == [[1, 3, 2], [0, 1, 2]]
    assert nearest_columns(distances, 9).tolist() == [[1, 3, 2, 0, 4], [0, 1, 2, 3, 4]]


def test_infinite_distances_are_left_out():
    distances = np.array([[2, 0, np.inf], [np.inf, 7, 1]], np.float32)
    assert nearest_columns(distances, 3).tolist() == [[1, 0], [2, 1]]


def test_majority_of_several_the_first():
    labels = np.array([[3, 1, 1, 2, 2], [5, 4, 5, 4, 9], [1, 2, 3, 4, 0]], np.int32)
    assert majority(labels).tolist() == [1, 5, 1]
