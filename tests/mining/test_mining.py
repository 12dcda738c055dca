"""The slopes against counting triplet by triplet, in NumPy alone."""

from functools import partial

import numpy as np
import pytest

from model.triplet_strategies import batch_all, batch_semihard
from src.mining import rows as mining
from src.mining.rows import Rows, find_in_blocks

RNG = np.random.default_rng(0)


def random_batch(size, num_classes, *, ties=False):
    """Distances float32 [B, B] and labels; with ties they are small integers."""
    distances = RNG.integers(0, 4, (size, size)) if ties else RNG.random((size, size))
    distances = np.triu(distances, 1).astype(np.float32)
    return distances + distances.T, RNG.integers(0, num_classes, size).astype(np.int32)


def counted(distances, labels, margin, choose_negatives):
    """Slopes, loss, and the count, over the negatives that `choose_negatives(a, p)` gives."""
    size = len(labels)
    slopes, loss, num_positive = np.zeros((size, size)), 0.0, 0
    for a in range(size):
        for p in range(size):
            if a == p or labels[a] != labels[p]:
                continue
            for n in choose_negatives(distances, labels, a, p):
                if distances[a, n] < distances[a, p] + np.float32(margin):  # in float32
                    slopes[a, p] += 1
                    slopes[a, n] -= 1
                    loss += float(distances[a, p]) - float(distances[a, n]) + margin
                    num_positive += 1
    return slopes, loss, num_positive


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


STRATEGIES = [
    (batch_all.sort, every_negative),
    (batch_semihard.sort, semihard_negative),
]


def find_some(find, distances, labels, margin, start, stop):
    rows = slice(start, stop)
    same = labels[rows, None] == labels
    return find(Rows(distances[rows], same, np.arange(len(labels))[rows]), margin=margin)


@pytest.mark.parametrize("margin", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(("find", "choose"), STRATEGIES)
def test_slopes_are_those_of_counting(find, choose, batch, margin):
    distances, labels = BATCHES[batch]
    before = distances.copy()
    slopes, loss, num_positive = counted(distances, labels, margin, choose)
    found = find_some(find, distances, labels, margin, 0, len(labels))
    assert found.num_positive_triplets == num_positive
    assert found.loss_sum == pytest.approx(loss, rel=1e-6, abs=1e-9)
    if find is not batch_all.sort and batch in ("ties", "all distances 0"):
        # Of equally far examples any may be chosen: the sums by distance agree.
        np.testing.assert_allclose(
            (found.slopes * distances).sum(axis=1), (slopes * distances).sum(axis=1), atol=1e-4
        )
    else:
        np.testing.assert_array_equal(found.slopes, slopes)
    np.testing.assert_array_equal(distances, before)  # left as they were


@pytest.mark.parametrize(("find", "choose"), STRATEGIES)
def test_a_block_of_rows_is_those_rows_of_the_whole(find, choose):
    distances, labels = BATCHES["10 classes"]
    whole = find_some(find, distances, labels, 0.5, 0, 40)
    parts = [find_some(find, distances, labels, 0.5, i, i + 8) for i in range(0, 40, 8)]
    np.testing.assert_array_equal(np.concatenate([p.slopes for p in parts]), whole.slopes)
    assert sum(p.num_positive_triplets for p in parts) == whole.num_positive_triplets


@pytest.mark.parametrize("block_pairs", [1, 100, 1 << 15])
@pytest.mark.parametrize(("find", "choose"), STRATEGIES)
def test_some_anchors_have_their_rows_of_the_whole(monkeypatch, find, choose, block_pairs):
    distances, labels = random_batch(50, 5)
    anchors = RNG.permutation(50)[:17]
    whole = find_some(find, distances, labels, 0.5, 0, 50)
    monkeypatch.setattr(mining, "BLOCK_PAIRS", block_pairs)
    found = find_in_blocks(partial(find, margin=0.5), distances[anchors], labels, anchors)
    np.testing.assert_array_equal(found.slopes, whole.slopes[anchors])
    one_by_one = [find_some(find, distances, labels, 0.5, a, a + 1) for a in anchors]
    assert found.loss_sum == pytest.approx(sum(one.loss_sum for one in one_by_one), rel=1e-6)
    assert found.num_positive_triplets == sum(one.num_positive_triplets for one in one_by_one)


@pytest.mark.parametrize("block_pairs", [1, 170, 1000, 1 << 15])
@pytest.mark.parametrize(("find", "choose"), STRATEGIES)
def test_what_is_found_does_not_depend_on_the_blocks(monkeypatch, find, choose, block_pairs):
    distances, labels = random_batch(50, 5)
    slopes, loss, num_positive = counted(distances, labels, 0.5, choose)
    monkeypatch.setattr(mining, "BLOCK_PAIRS", block_pairs)
    found = find_in_blocks(partial(find, margin=0.5), distances, labels, np.arange(len(labels)))
    np.testing.assert_array_equal(found.slopes, slopes)
    assert found.loss_sum == pytest.approx(loss, rel=1e-6)
    assert found.num_positive_triplets == num_positive


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize(("find", "choose"), STRATEGIES)
def test_blocks_that_are_not_finite_are_passed_over(monkeypatch, find, choose, value):
    monkeypatch.setattr(mining, "BLOCK_PAIRS", 30)  # so that some blocks are finite
    distances, labels = random_batch(10, 2)
    distances[3, 5] = value
    found = find_in_blocks(partial(find, margin=0.5), distances, labels, np.arange(len(labels)))
    assert (found.slopes[3] == 0).all()
    assert found.slopes[9].any()


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(mining, "BLOCK_PAIRS", 10)

    def fail(rows):
        raise ArithmeticError("of a block")

    with pytest.raises(ArithmeticError, match="of a block"):
        find_in_blocks(fail, *random_batch(10, 2), np.arange(10))


def test_no_example_has_no_slopes():
    found = find_in_blocks(batch_all.sort, *random_batch(0, 1), np.arange(0))
    assert found.slopes.shape == (0, 0)
    assert found[1:] == (0, 0)


def test_a_sum_that_nearly_cancels_keeps_its_digits():
    """Losses of 1e-3 beside distances of 1000: in float32 sums little would be left of them."""
    labels = np.arange(60, dtype=np.int32) % 3
    distances = np.triu(1000 + RNG.random((60, 60)) * 1e-3, 1).astype(np.float32)
    distances = distances + distances.T
    _, loss, num_positive = counted(distances, labels, 1e-3, every_negative)
    found = find_some(batch_all.sort, distances, labels, 1e-3, 0, 60)
    assert found.num_positive_triplets == num_positive
    assert found.loss_sum == pytest.approx(loss, rel=1e-9)
