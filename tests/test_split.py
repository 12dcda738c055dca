"""Which training examples are held out for validation."""

import numpy as np
import pytest

from src.split import Split, stratified_indices, validation_indices

# Twelve of class 0, six of class 1, two of class 2.
UNEVEN = np.repeat([0, 1, 2], [12, 6, 2]).astype(np.int32)


def shuffled_labels(num_examples, num_classes, seed=0):
    return np.random.default_rng(seed).integers(num_classes, size=num_examples, dtype=np.int32)


@pytest.mark.parametrize("fraction", [0, 0.1, 1 / 6, 0.25, 1 / 3, 0.5, 0.999])
@pytest.mark.parametrize("num_examples", [1, 2, 7, 100, 1001])
def test_every_example_is_in_one_of_them_and_the_total_is_exact(fraction, num_examples):
    train, validation = validation_indices(shuffled_labels(num_examples, 10), fraction, seed=0)
    assert len(validation) == round(fraction * num_examples)
    np.testing.assert_array_equal(np.sort(np.r_[train, validation]), np.arange(num_examples))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()


@pytest.mark.parametrize("fraction", [0.1, 1 / 6, 0.5])
def test_stratified(fraction):
    labels = shuffled_labels(1000, 10)
    _, validation = validation_indices(labels, fraction, seed=0)
    exact = fraction * np.bincount(labels, minlength=10)
    assert (np.abs(np.bincount(labels[validation], minlength=10) - exact) < 1).all()


def test_largest_remainders_give_one_more():
    # A quarter of 12, 6, 2 is 3, 1.5, 0.5: five in all, so one of the two halves is rounded up.
    _, validation = validation_indices(UNEVEN, 0.25, seed=0)
    num_by_class = np.bincount(UNEVEN[validation], minlength=3).tolist()
    assert num_by_class in ([3, 2, 0], [3, 1, 1])


def test_same_seed_same_split():
    labels = shuffled_labels(500, 10)
    first, again = (validation_indices(labels, 0.2, seed=3)[1] for _ in range(2))
    other = validation_indices(labels, 0.2, seed=4)[1]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_held_out_examples_are_drawn_from_the_whole_class():
    labels = np.zeros(1000, np.int32)
    _, validation = validation_indices(labels, 0.1, seed=0)
    assert validation.min() < 100 and validation.max() >= 900


def test_classes_of_one_example():
    # Ten classes of one: a tenth is one example, of whichever class.
    train, validation = validation_indices(np.arange(10, dtype=np.int32), 0.1, seed=0)
    assert (len(train), len(validation)) == (9, 1)


def test_labels_need_not_start_at_zero_nor_be_contiguous():
    labels = np.repeat([3, 7], 10).astype(np.int32)
    _, validation = validation_indices(labels, 0.2, seed=0)
    assert np.bincount(labels[validation])[[3, 7]].tolist() == [2, 2]


def test_fraction_zero_holds_nothing_out():
    train, validation = validation_indices(UNEVEN, 0, seed=0)
    np.testing.assert_array_equal(train, np.arange(20))
    assert len(validation) == 0


def test_indices_select_from_a_split():
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    split = Split(images, UNEVEN, ("a", "b", "c"))
    taken = split.take(np.array([19, 0]))
    assert len(taken) == 2
    assert taken.images[:, 0, 0, 0].tolist() == [19, 0]
    assert taken.labels.tolist() == [2, 0]
    assert taken.class_names == ("a", "b", "c")


def test_stratified_indices_is_exact_proportional_ascending_and_seeded():
    labels = np.repeat(np.arange(4), [1000, 500, 333, 3]).astype(np.int32)
    labels = np.random.default_rng(0).permutation(labels).astype(np.int32)
    for size in [0, 1, 7, 100, 1835, 1836]:
        sample = stratified_indices(labels, size, seed=3)
        assert len(np.unique(sample)) == len(sample) == size
        assert (np.diff(sample) > 0).all()
        counts = np.bincount(labels[sample], minlength=4)
        exact = size / len(labels) * np.bincount(labels)
        assert (np.abs(counts - exact) < 1 + 1e-9).all()
        np.testing.assert_array_equal(sample, stratified_indices(labels, size, seed=3))
    assert (
        stratified_indices(labels, 100, seed=3) != stratified_indices(labels, 100, seed=4)
    ).any()
