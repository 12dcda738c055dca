"""What neighbours say, against loops over all pairs."""

import numpy as np
import pytest

from src.neighborhood import NUM_NEARBY, NUM_VOTES, nearest, neighborhood


def make_points(size, num_classes, seed, dimensions=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, size).astype(np.int32)
    points = rng.standard_normal((size, dimensions)) + 0.7 * labels[:, None]
    return points.astype(np.float32), labels


def definition(queries, query_labels, gallery, gallery_labels, *, same):
    """For each query: predicted label, distance to the own class, to another, errors nearby."""
    predicted, own, other = [], [], []
    for i, (query, label) in enumerate(zip(queries.astype(float), query_labels, strict=True)):
        distances = np.sqrt(((gallery - query) ** 2).sum(axis=1))
        if same:
            distances[i] = np.inf
        order = np.argsort(distances)[: min(NUM_VOTES, len(gallery) - same)]
        votes = np.bincount(gallery_labels[order])
        predicted.append(votes.argmax())  # of several the smallest
        own.append(min(distances[gallery_labels == label], default=np.inf))
        other.append(min(distances[gallery_labels != label], default=np.inf))
    wrong = np.array(predicted) != query_labels
    nearby = []
    for i, query in enumerate(queries.astype(float)):
        distances = ((queries - query) ** 2).sum(axis=1)
        distances[i] = np.inf
        order = np.argsort(distances)[: min(NUM_NEARBY, len(queries) - 1)]
        weights = 1 / np.arange(1, len(order) + 1)
        nearby.append((weights * wrong[order]).sum() / weights.sum())
    return np.array(predicted), wrong, np.array(own), np.array(other), np.array(nearby)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_against_the_definition_with_a_gallery(num_classes):
    queries, query_labels = make_points(80, num_classes, seed=1)
    gallery, gallery_labels = make_points(150, num_classes, seed=2)
    found = neighborhood(queries, query_labels, gallery, gallery_labels)
    expected = definition(queries, query_labels, gallery, gallery_labels, same=False)
    assert 0 < found.is_wrong.sum() < 80
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)


def test_against_the_definition_within_a_split_each_left_out():
    points, labels = make_points(90, 3, seed=3)
    found = neighborhood(points, labels)
    expected = definition(points, labels, points, labels, same=True)
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)


def test_worked_by_hand():
    # on a line: a at 0, 1, 2; b at 4 and 9
    points = np.array([[0], [1], [2], [4], [9]], np.float32)
    labels = np.array([0, 0, 0, 1, 1], np.int32)
    found = neighborhood(points, labels)
    # each has four others: an a sees a, a, b, b, of which a is the smallest; a b sees a, a, a, b
    assert found.predicted.tolist() == [0, 0, 0, 0, 0]
    assert found.is_wrong.tolist() == [False, False, False, True, True]
    assert found.own_distance.tolist() == [1, 1, 1, 5, 5]
    assert found.other_distance.tolist() == [4, 3, 2, 2, 7]
    # 0's neighbours are 1, 2, 4, 9: (1/3 + 1/4) / (1 + 1/2 + 1/3 + 1/4) = 0.28
    assert found.errors_nearby[0] == pytest.approx(0.28)


def test_one_of_its_class_and_only_one_class():
    points = np.array([[0], [1], [2]], np.float32)
    found = neighborhood(points, np.array([0, 0, 7], np.int32))
    assert found.own_distance[2] == np.inf
    assert found.other_distance.tolist() == [2, 1, 1]
    found = neighborhood(points, np.zeros(3, np.int32))
    assert (found.other_distance == np.inf).all()
    assert not found.is_wrong.any()


def test_alone_it_is_not_wrong():
    found = neighborhood(np.zeros((1, 3), np.float32), np.array([4], np.int32))
    assert found.predicted.tolist() == [4]
    assert found.errors_nearby.tolist() == [0]


def test_equal_points_do_not_count_themselves():
    points = np.zeros((4, 3), np.float32)
    neighbors, distances = nearest(points, points, 2, leave_one_out=True)
    assert all(i not in row for i, row in enumerate(neighbors))
    assert (distances == 0).all()
