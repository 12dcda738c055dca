"""The weights against counting triplet by triplet, in NumPy alone."""

import numpy as np
import pytest

from src import mining
from src.mining import batch_all_weights, batch_semihard_weights

RNG = np.random.default_rng(0)


def random_batch(size, num_classes, *, ties=False):
    """Distances float32 [B, B] and labels; with ties they are small integers."""
    distances = RNG.integers(0, 4, (size, size)) if ties else RNG.random((size, size))
    distances = np.triu(distances, 1).astype(np.float32)
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
                # In float32, as the distances are.
                if distances[a, n] < distances[a, p] + np.float32(margin):
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
    "all distances 0": (np.zeros((12, 12), np.float32), np.arange(12, dtype=np.int32) % 3),
    "labels of 64 bits": (random_batch(12, 1)[0], np.arange(12) % 3 + 2**40),
}


@pytest.mark.parametrize("block_pairs", [1, 100, 1 << 16])
@pytest.mark.parametrize("margin", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    ("mine", "choose"),
    [(batch_all_weights, every_negative), (batch_semihard_weights, semihard_negative)],
)
def test_weights_are_those_of_counting(monkeypatch, mine, choose, batch, margin, block_pairs):
    """In one block, in several, and with a block for each row."""
    monkeypatch.setattr(mining, "_BLOCK_PAIRS", block_pairs)
    distances, labels = BATCHES[batch]
    weights, loss, num_positive, num_valid = counted(distances, labels, margin, choose)
    mined = mine(distances, labels, margin)
    assert mined.num_positive_triplets == num_positive
    assert mined.num_valid_triplets == num_valid
    assert mined.loss_sum == pytest.approx(loss, rel=1e-6, abs=1e-9)
    if mine is batch_semihard_weights and batch == "ties":
        # Of equally far negatives any may be chosen: the sums by distance agree.
        np.testing.assert_allclose(
            (mined.weights * distances).sum(axis=1), (weights * distances).sum(axis=1), atol=1e-4
        )
    elif mine is batch_all_weights or batch != "all distances 0":
        np.testing.assert_array_equal(mined.weights, weights)
    assert mined.weights.dtype == np.float32


def test_inputs_are_left_as_they_are():
    distances, labels = BATCHES["10 classes"]
    before = distances.copy()
    for mine in (batch_all_weights, batch_semihard_weights):
        mine(distances, labels, 0.5)
        np.testing.assert_array_equal(distances, before)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("mine", [batch_all_weights, batch_semihard_weights])
def test_distances_that_are_not_finite(mine, value):
    distances, labels = random_batch(10, 2)
    distances[3, 4] = value
    mined = mine(distances, labels, 0.5)
    assert np.isnan(mined.loss_sum)
    assert np.isnan(mined.weights).all()
    assert mined.num_positive_triplets > 0


def test_a_sum_that_nearly_cancels_keeps_its_digits():
    """Losses of 1e-5 beside distances of 1000: in float32 sums nothing would be left of them."""
    rng = np.random.default_rng(1)
    labels = np.arange(60, dtype=np.int32) % 3
    distances = np.triu(1000 + rng.random((60, 60)) * 1e-3, 1).astype(np.float32)
    distances = distances + distances.T
    _, loss, num_positive, _ = counted(distances, labels, 1e-3, every_negative)
    mined = batch_all_weights(distances, labels, 1e-3)
    assert mined.num_positive_triplets == num_positive
    assert mined.loss_sum == pytest.approx(loss, rel=1e-9)
