"""Splits: drawing examples by class or whole classes, and choosing and joining examples."""

import numpy as np
import pytest

from src.data.images import MappedImages
from src.data.split import Split, class_indices, share_with_positive, stratified_indices

# Twelve of class 0, six of class 1, two of class 2.
UNEVEN = np.repeat([0, 1, 2], [12, 6, 2]).astype(np.int32)


def shuffled_labels(num_examples, num_classes, seed=0):
    return np.random.default_rng(seed).integers(num_classes, size=num_examples, dtype=np.int32)


@pytest.mark.parametrize("fraction", [0, 0.1, 1 / 6, 0.25, 1 / 3, 0.5, 0.999, 1])
@pytest.mark.parametrize("num_examples", [1, 2, 7, 100, 1001])
def test_the_number_drawn_is_exact(fraction, num_examples):
    count = round(fraction * num_examples)
    drawn = stratified_indices(shuffled_labels(num_examples, 10), count, seed=0)
    assert len(drawn) == count and (np.diff(drawn) > 0).all()
    assert set(drawn.tolist()) <= set(range(num_examples))


@pytest.mark.parametrize("count", [100, 167, 500, 997])
def test_every_class_has_its_share(count):
    labels = shuffled_labels(1000, 10)
    drawn = stratified_indices(labels, count, seed=0)
    exact = count / 1000 * np.bincount(labels, minlength=10)
    assert (np.abs(np.bincount(labels[drawn], minlength=10) - exact) < 1).all()


def test_largest_remainders_give_one_more():
    # A quarter of 12, 6, 2 is 3, 1.5, 0.5: five in all, so one of the two halves is rounded up.
    seen = set()
    for seed in range(20):
        drawn = stratified_indices(UNEVEN, 5, seed)
        seen.add(tuple(np.bincount(UNEVEN[drawn], minlength=3).tolist()))
    assert seen == {(3, 2, 0), (3, 1, 1)}  # which of equal remainders, the seed says


def test_ties_do_not_fall_by_the_alphabet():
    # 30 classes of 3, and 18 are drawn: in the order of labels, they would be the first 18.
    labels = np.repeat(np.arange(30), 3).astype(np.int32)
    drawn = [set(labels[stratified_indices(labels, 18, seed)].tolist()) for seed in range(50)]
    assert all(len(classes) == 18 for classes in drawn)
    assert len({frozenset(classes) for classes in drawn}) > 40
    often = np.sum([[label in classes for label in range(30)] for classes in drawn], axis=0)
    assert often.min() >= 15 and often.max() <= 45  # of 50, where 30 are expected


def test_same_seed_same_examples():
    labels = shuffled_labels(500, 10)
    first, again = (stratified_indices(labels, 100, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, stratified_indices(labels, 100, seed=4))


def test_examples_are_drawn_from_the_whole_class():
    drawn = stratified_indices(np.zeros(1000, np.int32), 100, seed=0)
    assert drawn.min() < 100 and drawn.max() >= 900


def test_classes_of_one_example():
    # Ten classes of one: a tenth is one example, of whichever class.
    assert len(stratified_indices(np.arange(10, dtype=np.int32), 1, seed=0)) == 1


def test_labels_need_not_start_at_zero_nor_be_contiguous():
    labels = np.repeat([3, 7], 10).astype(np.int32)
    assert np.bincount(labels[stratified_indices(labels, 4, seed=0)])[[3, 7]].tolist() == [2, 2]


def test_nothing_of_nothing():
    for draw in (stratified_indices, class_indices):
        drawn = draw(np.empty(0, np.int32), 0, seed=0)
        assert len(drawn) == 0 and drawn.dtype == np.intp
    assert len(stratified_indices(UNEVEN, 0, seed=0)) == 0
    assert share_with_positive(np.empty(0, np.int32)) is None


def test_stratified_indices_of_classes_of_all_sizes():
    labels = np.repeat(np.arange(4), [1000, 500, 333, 3]).astype(np.int32)
    labels = np.random.default_rng(0).permutation(labels).astype(np.int32)
    for size in [0, 1, 7, 100, 1835, 1836]:
        sample = stratified_indices(labels, size, seed=3)
        assert len(np.unique(sample)) == len(sample) == size
        exact = size / len(labels) * np.bincount(labels)
        assert (np.abs(np.bincount(labels[sample], minlength=4) - exact) < 1 + 1e-9).all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([5] * 40, 33),
        ([2] * 4, 1),
        ([2] * 4, 8),
        ([1, 1, 1, 2, 2, 2], 2),
        ([2, 2, 2, 1], 3),
        (list(range(1, 60)), 300),
        ([1000, 3, 3, 3, 3], 100),
    ],
)
def test_whole_classes(sizes, count, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    labels = np.random.default_rng(seed).permutation(labels)
    drawn = class_indices(labels, count, seed)
    classes = np.unique(labels[drawn])
    assert (np.diff(drawn) > 0).all()
    assert len(drawn) == np.isin(labels, classes).sum()  # all of each
    assert len(classes) >= 2 and (np.array(sizes)[classes] >= 2).all()
    left = np.delete(np.array(sizes), classes)
    assert len(left) >= 2 and left.max() >= 2
    np.testing.assert_array_equal(drawn, class_indices(labels, count, seed))


def test_whole_classes_come_near_to_the_number_wanted():
    labels = np.repeat(np.arange(100), 7).astype(np.int32)
    for count in (30, 70, 118, 500):
        assert abs(len(class_indices(labels, count, seed=1)) - count) <= 3.5
    # A class of most examples does not make a validation split of them.
    uneven = np.repeat(np.arange(21), [1000, *[5] * 20]).astype(np.int32)
    assert {len(class_indices(uneven, 30, seed)) for seed in range(30)} == {30}


def test_which_classes_is_for_the_seed_to_say():
    labels = np.repeat(np.arange(30), 5).astype(np.int32)
    drawn = [np.unique(labels[class_indices(labels, 25, seed)]) for seed in range(60)]
    assert all(len(classes) == 5 for classes in drawn)
    often = np.bincount(np.concatenate(drawn), minlength=30)
    assert often.min() >= 1 and often.max() <= 25  # where 10 are expected


@pytest.mark.parametrize("sizes", [[9], [9, 9], [9, 9, 9], [9, 9, 1, 1], [1] * 50, [9, 1, 1, 1]])
def test_too_few_classes_to_hold_some_out(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
    assert len(class_indices(labels, 3, seed=0)) == 0


@pytest.mark.parametrize(
    ("labels", "share"), [([1], 0), ([1, 2, 3], 0), ([1, 1], 1), ([1, 1, 2, 3], 0.5), ([0] * 7, 1)]
)
def test_share_with_positive(labels, share):
    assert share_with_positive(np.int32(labels)) == share


def facts_of(split):
    return (
        np.asarray(split.images)[:, 0, 0, 0].tolist(),
        split.labels.tolist(),
        None if split.paths is None else split.paths.tolist(),
        None if split.digests is None else split.digests.tolist(),
        None if split.file_digests is None else split.file_digests.tolist(),
    )


@pytest.mark.parametrize("is_mapped", [False, True])
def test_examples_taken_and_joined_keep_what_is_known_of_them(is_mapped):
    array = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    images = MappedImages(array, np.arange(6)) if is_mapped else array
    split = Split(
        images,
        np.int32([0, 0, 1, 1, 2, 2]),
        ("a", "b", "c"),
        np.array(list("uvwxyz"), object),
        np.arange(10, 16, dtype=np.uint64),
        np.arange(20, 26, dtype=np.uint64),
    )
    taken = split.take(np.array([5, 0]))
    assert len(taken) == 2 and taken.class_names == ("a", "b", "c")
    assert facts_of(taken) == ([5, 0], [2, 0], ["z", "u"], [15, 10], [25, 20])
    joined = taken.joined(split.take(np.array([3])))
    assert facts_of(joined) == (
        [5, 0, 3],
        [2, 0, 1],
        ["z", "u", "x"],
        [15, 10, 13],
        [25, 20, 23],
    )
    assert joined.digests.dtype == np.uint64 and joined.labels.dtype == np.int32
    assert isinstance(joined.images, MappedImages) == is_mapped


def test_what_is_not_known_stays_unknown():
    plain = Split(np.zeros((3, 1, 1, 1), np.uint8), np.int32([0, 1, 0]), ("a", "b"))
    joined = plain.take(np.array([2])).joined(plain)
    assert facts_of(joined) == ([0] * 4, [0, 0, 1, 0], None, None, None)
