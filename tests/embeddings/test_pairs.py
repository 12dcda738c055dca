"""All pairs in one pass, against loops over them."""

import numpy as np
import pytest
from reference import DISTANCES
from reference import distance as definition

from src.embeddings.pairs import scan_pairs
from src.mining.distances import paired_distances


def examples(size=40, num_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    embeddings = (rng.normal(size=(size, 5)) + [3, 0, 0, 0, 0]).astype(np.float32)
    return embeddings, rng.integers(num_classes, size=size).astype(np.int32)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("block_size", [3, 128])
def test_pairs_against_loops(monkeypatch, distance, block_size):
    monkeypatch.setattr("src.embeddings.pairs.BLOCK_SIZE", block_size)
    embeddings, labels = examples()
    found = scan_pairs(embeddings, labels, distance)
    embeddings = embeddings.astype(np.float64)
    positives, negatives = [], []
    for anchor in range(len(labels)):
        others = [other for other in range(len(labels)) if other != anchor]
        to = {o: definition(embeddings[anchor], embeddings[o], distance) for o in others}
        same = {o: d for o, d in to.items() if labels[o] == labels[anchor]}
        different = {o: d for o, d in to.items() if labels[o] != labels[anchor]}
        assert found.nearest_positive[anchor] == min(same, key=same.get)
        assert found.farthest_positive[anchor] == max(same, key=same.get)
        assert found.nearest_negative[anchor] == min(different, key=different.get)
        assert found.farthest_negative[anchor] == max(different, key=different.get)
        positives += same.values()
        negatives += different.values()
    assert found.edges[-1] > max(positives + negatives)
    np.testing.assert_array_equal(found.positive_counts, np.histogram(positives, found.edges)[0])
    np.testing.assert_array_equal(found.negative_counts, np.histogram(negatives, found.edges)[0])
    assert 50 <= len(found.edges) - 1 <= 100
    np.testing.assert_allclose(np.diff(found.edges), found.edges[1])


def test_distances_counted_by_hand():
    # On a line: 0 and 3 of one class, 4 of another.
    embeddings = np.array([[0], [3], [4]], np.float32)
    found = scan_pairs(embeddings, np.array([1, 1, 0], np.int32), "euclidean")
    width = found.edges[1]
    assert found.positive_counts[int(3 / width)] == 2  # from either end
    assert found.positive_counts.sum() == 2
    assert [found.negative_counts[int(d / width)] for d in (1, 4)] == [2, 2]
    assert found.negative_counts.sum() == 4
    assert found.nearest_positive.tolist() == [1, 0, -1]
    assert found.farthest_positive.tolist() == [1, 0, -1]
    assert found.nearest_negative.tolist() == [2, 2, 1]
    assert found.farthest_negative.tolist() == [2, 2, 0]


def test_nobody_is_its_own_positive_where_all_are_equal():
    found = scan_pairs(np.ones((5, 3), np.float32), np.zeros(5, np.int32), "euclidean")
    for others in (found.nearest_positive, found.farthest_positive):
        assert (others >= 0).all()
        assert (others != np.arange(5)).all()
    assert (found.nearest_negative == -1).all()
    assert found.positive_counts.tolist() == [20]
    assert found.negative_counts.tolist() == [0]


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_for_a_pair(size):
    found = scan_pairs(np.ones((size, 3), np.float32), np.zeros(size, np.int32), "cosine")
    assert found.positive_counts.sum() == found.negative_counts.sum() == 0
    assert found.nearest_positive.tolist() == [-1] * size


def test_near_vectors_far_from_the_origin():
    rng = np.random.default_rng(0)
    embeddings = (1000 + 1e-2 * rng.normal(size=(30, 4))).astype(np.float32)
    labels = np.arange(30, dtype=np.int32) % 2
    found = scan_pairs(embeddings, labels, "euclidean")
    to_nearest = paired_distances(embeddings, embeddings[found.nearest_positive], "euclidean")
    for anchor in range(30):
        same = np.flatnonzero((labels == labels[anchor]) & (np.arange(30) != anchor))
        distances = paired_distances(embeddings[[anchor]], embeddings[same], "euclidean")
        assert to_nearest[anchor] == distances.min()
