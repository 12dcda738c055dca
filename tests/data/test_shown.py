"""Which examples stand for a large split."""

import numpy as np
import pytest

from src.data.shown import shown_indices
from src.data.split import stratified_indices


def test_all_of_a_split_that_fits():
    labels = np.array([3, 1, 3], np.int32)
    assert shown_indices(labels, 3, seed=0).tolist() == [0, 1, 2]
    assert shown_indices(labels, 100, seed=0).tolist() == [0, 1, 2]


def test_of_few_classes_a_stratified_sample():
    labels = np.random.default_rng(0).integers(10, size=5000).astype(np.int32)
    found = shown_indices(labels, 500, seed=7)
    np.testing.assert_array_equal(found, stratified_indices(labels, 500, 7))
    assert set(np.bincount(labels[found])) <= {*range(40, 61)}


@pytest.mark.parametrize("size", [2, 4, 8])
def test_of_many_small_classes_some_whole(size):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3000), size))
    found = shown_indices(labels.astype(np.int32), 2000, seed=1)
    assert (np.diff(found) > 0).all()
    numbers = np.bincount(labels[found], minlength=3000)
    assert set(numbers) == {0, size}
    assert len(found) == 2000
    other = shown_indices(labels.astype(np.int32), 2000, seed=2)
    assert not np.array_equal(found, other)
    np.testing.assert_array_equal(found, shown_indices(labels.astype(np.int32), 2000, seed=1))


def test_a_large_class_among_many_small_ones_takes_no_more_than_its_share():
    labels = np.concatenate([np.zeros(20_000), np.repeat(np.arange(1, 5001), 4)]).astype(np.int32)
    found = shown_indices(labels, 4000, seed=0)
    numbers = np.bincount(labels[found], minlength=5001)
    assert numbers[0] in (0, 2000)
    assert set(numbers[1:]) == {0, 4}
    assert 1990 <= len(found) <= 4000


def test_few_images_are_of_two_classes_at_least():
    labels = np.repeat(np.arange(10), 1000).astype(np.int32)
    for limit in range(4, 20):
        chosen = labels[shown_indices(labels, limit, seed=0)]
        assert 4 <= len(chosen) <= limit and len(np.unique(chosen)) >= 2
