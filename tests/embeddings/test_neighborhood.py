"""What neighbours say, against loops over all pairs."""

import numpy as np
import pytest

from src.embeddings.neighborhood import NUM_NEARBY, errors_nearby, neighbors
from src.embeddings.search import NUM_VOTES, visit_distances


def make_points(size, num_classes, seed, dimensions=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, size).astype(np.int32)
    points = rng.standard_normal((size, dimensions)) + 0.7 * labels[:, None]
    return points.astype(np.float32), labels


def definition(queries, query_labels, gallery, gallery_labels, own=None):
    """For each query: predicted label, distance to the own class, to another."""
    predicted, own_distance, other_distance = [], [], []
    for i, (query, label) in enumerate(zip(queries.astype(float), query_labels, strict=True)):
        distances = np.sqrt(((gallery - query) ** 2).sum(axis=1))
        others = [j for j in range(len(gallery)) if own is None or j != own[i]]
        ranked = sorted(others, key=lambda j: distances[j])
        votes = gallery_labels[ranked[:NUM_VOTES]].tolist()
        same = [distances[j] for j in others if gallery_labels[j] == label]
        predicted.append(max(votes, key=votes.count) if same else -1)  # of several the first
        own_distance.append(min(same, default=np.nan))
        other_distance.append(
            min((distances[j] for j in others if gallery_labels[j] != label), default=np.nan)
        )
    return np.array(predicted), np.array(own_distance), np.array(other_distance)


def definition_of_errors_nearby(points, is_judged, is_wrong):
    nearby = []
    for i, point in enumerate(points.astype(float)):
        distances = ((points - point) ** 2).sum(axis=1)
        distances[i] = np.inf
        order = np.argsort(distances)[: min(NUM_NEARBY, len(points) - 1)]
        weights = is_judged[order] / np.arange(1, len(order) + 1)
        nearby.append((weights * is_wrong[order]).sum() / weights.sum())
    return np.array(nearby)


def assert_same(found, expected):
    for values, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 4, 60])
def test_against_the_definition_with_a_gallery(num_classes):
    queries, query_labels = make_points(80, num_classes, seed=1)
    gallery, gallery_labels = make_points(150, num_classes, seed=2)
    found = neighbors(queries, query_labels, gallery, gallery_labels)
    assert_same(found, definition(queries, query_labels, gallery, gallery_labels))
    assert 0 < (found.predicted != query_labels).sum() < 80


@pytest.mark.parametrize("num_classes", [3, 40, 90])
def test_against_the_definition_within_a_split_each_left_out(num_classes):
    points, labels = make_points(90, num_classes, seed=3)
    found = neighbors(points, labels, points, labels, np.arange(90))
    assert_same(found, definition(points, labels, points, labels, np.arange(90)))
    if num_classes > 3:
        assert 0 < (found.predicted == -1).sum() < 90


def test_against_the_definition_some_of_a_split_each_left_out_of_all():
    points, labels = make_points(300, 70, seed=4)
    some = np.array([299, 3, 150, 4, 5])
    found = neighbors(points[some], labels[some], points, labels, some)
    assert_same(found, definition(points[some], labels[some], points, labels, some))


@pytest.mark.parametrize("num_judged", [1, 60, 90])
def test_errors_nearby_against_the_definition(num_judged):
    points, _ = make_points(90, 3, seed=5)
    rng = np.random.default_rng(0)
    is_judged = rng.permutation(90) < num_judged
    is_wrong = is_judged & (rng.random(90) < 0.4)
    found = errors_nearby(points, is_judged, is_wrong)
    with np.errstate(invalid="ignore"):  # of nobody judged the share is no number
        expected = definition_of_errors_nearby(points, is_judged, is_wrong)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isnan(found).any() == (num_judged == 1)


def test_worked_by_hand():
    # on a line: a at 0, 1, 2; b at 4 and 9; c at 30
    points = np.array([[0], [1], [2], [4], [9], [30]], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
    found = neighbors(points, labels, points, labels, np.arange(6))
    # each has five others: an a sees a, a, b, b, c, of which a is the smallest; a b sees three a
    assert found.predicted.tolist() == [0, 0, 0, 0, 0, -1]
    np.testing.assert_array_equal(found.own_distance, [1, 1, 1, 5, 5, np.nan])
    assert found.other_distance.tolist() == [4, 3, 2, 2, 7, 21]
    is_judged = found.predicted >= 0
    nearby = errors_nearby(points, is_judged, found.predicted != labels)
    # 0's neighbours are 1, 2, 4, 9, 30, the last not judged: (1/3 + 1/4) / (1 + 1/2 + 1/3 + 1/4)
    assert nearby[0] == pytest.approx(0.28)


def test_a_class_that_the_gallery_lacks_has_no_prediction():
    gallery = np.array([[0], [1], [2]], np.float32)
    found = neighbors(
        gallery, np.array([5, 0, 9], np.int32), gallery, np.array([0, 0, 1], np.int32)
    )
    assert found.predicted.tolist() == [-1, 0, -1]
    np.testing.assert_array_equal(found.own_distance, [np.nan, 0, np.nan])
    assert found.other_distance.tolist() == [0, 1, 0]


def test_only_one_class():
    points = np.array([[0], [1], [2]], np.float32)
    found = neighbors(points, np.zeros(3, np.int32), points, np.zeros(3, np.int32), np.arange(3))
    assert np.isnan(found.other_distance).all()
    assert found.predicted.tolist() == [0, 0, 0]


def test_alone_and_without_a_gallery():
    point, label = np.zeros((1, 3), np.float32), np.array([4], np.int32)
    for gallery, labels, own in ((point, label, np.arange(1)), (point[:0], label[:0], None)):
        found = neighbors(point, label, gallery, labels, own)
        assert found.predicted.tolist() == [-1]
        assert np.isnan([found.own_distance, found.other_distance]).all()
    assert np.isnan(errors_nearby(point, np.ones(1, bool), np.zeros(1, bool))).all()


@pytest.mark.parametrize("value", [0.0, 1e-30, 3e38, -1e6])
def test_equal_points_do_not_count_themselves(value):
    points = np.full((4, 3), value, np.float32)
    labels = np.array([0, 0, 0, 1], np.int32)
    found = neighbors(points, labels, points, labels, np.arange(4))
    assert found.predicted.tolist() == [0, 0, 0, -1]
    np.testing.assert_array_equal(found.own_distance, [0, 0, 0, np.nan])
    assert found.other_distance.tolist() == [0, 0, 0, 0]


def test_many_classes_take_one_pass(monkeypatch):
    passes = []

    def counted(queries, gallery, visit, **more):
        passes.append((len(queries), len(gallery)))
        return visit_distances(queries, gallery, visit, **more)

    monkeypatch.setattr("src.embeddings.neighborhood.visit_distances", counted)
    labels = np.repeat(np.arange(1000), 2).astype(np.int32)
    points = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    neighbors(points, labels, points, labels, np.arange(2000))
    assert passes == [(2000, 2000)]
