"""The weights against counting triplet by triplet, in NumPy alone."""

import numpy as np
import pytest

from model.triplet_strategies import batch_all, batch_hard, batch_semihard
from src import mining
from src.mining import Rows, mine

RNG = np.random.default_rng(0)


def random_batch(size, num_classes, *, ties=False):
    """Distances float64 [B, B] and labels; with ties they are small integers."""
    distances = RNG.integers(0, 4, (size, size)) if ties else RNG.random((size, size))
    distances = np.triu(distances, 1).astype(np.float64)
    return distances + distances.T, RNG.integers(0, num_classes, size).astype(np.int32)


def counted(distances, labels, margin, choose_negatives):
    """Weights, loss, and counts, over the negatives that `choose_negatives(a, p)` gives."""
    size = len(labels)
    weights, loss, num_positive, num_valid = np.zeros((size, size)), 0.0, 0, 0
    for a in range(size):
        for p in range(size):
            if a == p or labels[a] != labels[p]:
                continue
            for n in choose_negatives(distances, labels, a, p):
                num_valid += 1
                # In float32, as rows are sorted.
                if np.float32(distances[a, n]) < np.float32(distances[a, p] + margin):
                    weights[a, p] += 1
                    weights[a, n] -= 1
                    loss += float(distances[a, p]) - float(distances[a, n]) + margin
                    num_positive += 1
    return weights, loss, num_positive, num_valid


def every_negative(distances, labels, a, p):
    return np.flatnonzero(labels != labels[a])


def semihard_negative(distances, labels, a, p):
    negatives = np.flatnonzero(labels != labels[a])
    farther = negatives[distances[a, negatives] > distances[a, p]]
    if len(farther):
        return farther[[np.argmin(distances[a, farther])]]
    return negatives[[np.argmax(distances[a, negatives])]] if len(negatives) else negatives


BATCHES = {
    "10 classes": random_batch(40, 10),
    "2 classes": random_batch(31, 2),
    "ties": random_batch(40, 6, ties=True),
    "P x K": (random_batch(24, 1)[0], np.repeat(np.arange(6), 4).astype(np.int32)),
    "one class": random_batch(9, 1),
    "all labels distinct": (random_batch(9, 1)[0], np.arange(9, dtype=np.int32)),
    "one example": random_batch(1, 1),
    "two examples": random_batch(2, 1),
    "all distances 0": (np.zeros((12, 12)), np.arange(12, dtype=np.int32) % 3),
    "labels of 64 bits": (random_batch(12, 1)[0], np.arange(12) % 3 + 2**40),
}


def hardest_negative_of_farthest_positive(distances, labels, a, p):
    """Batch-hard as a choice of negatives: none, unless p is the farthest positive."""
    positives = [i for i in np.flatnonzero(labels == labels[a]) if i != a]
    negatives = np.flatnonzero(labels != labels[a])
    if p != max(positives, key=lambda i: distances[a, i]) or len(negatives) == 0:
        return []
    return [min(negatives, key=lambda i: distances[a, i])]


STRATEGIES = [
    (batch_all.weigh, every_negative),
    (batch_semihard.weigh, semihard_negative),
    (batch_hard.weigh, hardest_negative_of_farthest_positive),
]


def weigh_rows(weigh, distances, labels, margin, start, stop):
    rows = slice(start, stop)
    same = labels[rows, None] == labels
    return weigh(Rows(distances[rows], same, np.arange(len(labels))[rows]), margin=margin)


@pytest.mark.parametrize("margin", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("weigh", "choose"), STRATEGIES)
def test_weights_are_those_of_counting(weigh, choose, batch, margin):
    distances, labels = BATCHES[batch]
    before = distances.copy()
    weights, loss, num_positive, num_valid = counted(distances, labels, margin, choose)
    found = weigh_rows(weigh, distances, labels, margin, 0, len(labels))
    assert found.num_positive_triplets == num_positive
    assert found.num_valid_triplets == num_valid
    assert found.loss_sum == pytest.approx(loss, rel=1e-6, abs=1e-9)
    if weigh is not batch_all.weigh and batch in ("ties", "all distances 0"):
        # Of equally far examples any may be chosen: the sums by distance agree.
        np.testing.assert_allclose(
            (found.weights * distances).sum(axis=1), (weights * distances).sum(axis=1), atol=1e-4
        )
    else:
        np.testing.assert_array_equal(found.weights, weights)
    np.testing.assert_array_equal(distances, before)  # left as they were


@pytest.mark.parametrize(("weigh", "choose"), STRATEGIES)
def test_a_block_of_rows_is_those_rows_of_the_whole(weigh, choose):
    distances, labels = BATCHES["10 classes"]
    whole = weigh_rows(weigh, distances, labels, 0.5, 0, 40)
    parts = [weigh_rows(weigh, distances, labels, 0.5, i, i + 8) for i in range(0, 40, 8)]
    np.testing.assert_array_equal(np.concatenate([p.weights for p in parts]), whole.weights)
    assert sum(p.num_positive_triplets for p in parts) == whole.num_positive_triplets
    assert sum(p.num_valid_triplets for p in parts) == whole.num_valid_triplets


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "mean_squared", "cosine"])
@pytest.mark.parametrize(("weigh", "choose"), STRATEGIES)
def test_the_loss_does_not_depend_on_the_blocks(monkeypatch, weigh, choose, distance):
    labels = RNG.integers(0, 5, 50)
    embeddings = RNG.normal(size=(50, 7)).astype(np.float32)
    results = []
    for block_pairs in (1, 170, 1000, 1 << 15):
        monkeypatch.setattr(mining, "_BLOCK_PAIRS", block_pairs)
        results.append(mine(lambda rows: weigh(rows, margin=0.5), labels, embeddings, distance))
    for result in results[1:]:
        assert result.loss == pytest.approx(results[0].loss, rel=1e-12)
        assert result[2:] == results[0][2:]
        np.testing.assert_allclose(result.gradient, results[0].gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, 1e30])
@pytest.mark.parametrize(("weigh", "choose"), STRATEGIES)
def test_embeddings_that_are_not_finite(monkeypatch, weigh, choose, value):
    monkeypatch.setattr(mining, "_BLOCK_PAIRS", 30)  # so that some blocks are finite
    embeddings = RNG.normal(size=(10, 3)).astype(np.float32)
    embeddings[3] = value
    labels = np.arange(10) % 2
    mined = mine(lambda rows: weigh(rows, margin=0.5), labels, embeddings, "squared_euclidean")
    assert np.isnan(mined.loss)
    assert np.isnan(mined.gradient).all()


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "mean_squared", "cosine"])
def test_equal_embeddings_far_from_the_origin_are_exactly_0_apart(distance):
    embeddings = np.tile(RNG.normal(size=(1, 9)) + 1000, (8, 1)).astype(np.float32)
    seen = []

    def look(rows):
        seen.append(rows.distances.copy())
        return batch_all.weigh(rows, margin=0.5)

    mined = mine(look, np.arange(8) % 2, embeddings, distance)
    assert (seen[0] == 0).all()
    assert mined.loss == pytest.approx(0.5)
    assert np.abs(mined.gradient).max() < 1e-6


def test_a_sum_that_nearly_cancels_keeps_its_digits():
    """Losses of 1e-3 beside distances of 1000: in float32 sums little would be left of them."""
    labels = np.arange(60, dtype=np.int32) % 3
    distances = np.triu(1000 + RNG.random((60, 60)) * 1e-3, 1).astype(np.float32).astype(np.float64)
    distances = distances + distances.T
    _, loss, num_positive, _ = counted(distances, labels, 1e-3, every_negative)
    found = weigh_rows(batch_all.weigh, distances, labels, 1e-3, 0, 60)
    assert found.num_positive_triplets == num_positive
    assert found.loss_sum == pytest.approx(loss, rel=1e-9)
