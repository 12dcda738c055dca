"""Which examples form a batch, against the definition: each once per epoch, the same for a seed.

Batches of P classes x K examples: equal turns of the classes, equal uses of a class's examples.
"""

from itertools import combinations, islice

import numpy as np
import pytest

from src.data.sampling import BalancedBatches, ShuffledBatches, batches_in_order

SIZES = [(1, 1), (1, 4), (7, 1), (10, 3), (12, 4), (64, 64), (5, 100)]  # N, B


def taken(batches, step, count):
    return [batch.tolist() for batch in islice(batches.from_step(step), count)]


@pytest.mark.parametrize(("num_examples", "batch_size"), SIZES)
def test_each_index_once_per_epoch(num_examples, batch_size):
    batches = ShuffledBatches(num_examples, batch_size, seed=0)
    stream = batches.from_step(0)
    for _ in range(3):
        epoch = [next(stream) for _ in range(batches.steps_per_epoch)]
        assert np.sort(np.concatenate(epoch)).tolist() == list(range(num_examples))


@pytest.mark.parametrize(
    ("num_examples", "batch_size", "sizes"),
    [(10, 3, [3, 3, 3, 1]), (12, 4, [4, 4, 4]), (5, 100, [5]), (3, 1, [1, 1, 1]), (9, 8, [8, 1])],
)
def test_the_last_batch_of_an_epoch_is_smaller(num_examples, batch_size, sizes):
    batches = ShuffledBatches(num_examples, batch_size, seed=0)
    assert batches.steps_per_epoch == len(sizes)
    lengths = [len(batch) for batch in taken(batches, 0, 3 * len(sizes))]
    assert lengths == 3 * sizes


def test_the_order_differs_between_epochs_and_from_that_of_the_split():
    batches = ShuffledBatches(50, 50, seed=0)
    orders = [tuple(batch) for batch in taken(batches, 0, 10)]
    assert len({*orders, tuple(range(50))}) == 11


def test_batches_hold_other_examples_in_other_epochs():
    batches = ShuffledBatches(100, 10, seed=0)
    first, second = taken(batches, 0, 10), taken(batches, 10, 10)
    assert {frozenset(batch) for batch in first}.isdisjoint(frozenset(b) for b in second)


def test_the_order_differs_between_seeds():
    # Neither may the second epoch of one seed be the first of another.
    orders = {
        (seed, epoch): tuple(taken(ShuffledBatches(50, 50, seed), epoch, 1)[0])
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(set(orders.values())) == 16


def test_the_same_seed_gives_the_same_batches():
    one, other = (ShuffledBatches(23, 4, seed=5) for _ in range(2))
    assert taken(one, 0, 20) == taken(other, 0, 20)


def test_the_batches_do_not_hang_on_the_global_generator():
    before = taken(ShuffledBatches(23, 4, seed=5), 0, 20)
    state = np.random.get_state()
    np.random.seed(1)
    assert taken(ShuffledBatches(23, 4, seed=5), 0, 20) == before
    np.random.set_state(state)


@pytest.mark.parametrize(("num_examples", "batch_size"), SIZES)
def test_going_on_from_a_step_gives_the_batches_that_would_have_come(num_examples, batch_size):
    batches = ShuffledBatches(num_examples, batch_size, seed=3)
    whole = taken(batches, 0, 4 * batches.steps_per_epoch + 1)
    for step in range(len(whole)):
        assert taken(batches, step, len(whole) - step) == whole[step:]


def test_going_on_from_a_late_step():
    batches = ShuffledBatches(10, 3, seed=3)
    whole = taken(batches, 0, 4010)
    assert taken(batches, 4001, 9) == whole[4001:]


@pytest.mark.parametrize(("num_examples", "batch_size"), SIZES)
def test_examples_before_is_the_sum_of_the_batches(num_examples, batch_size):
    batches = ShuffledBatches(num_examples, batch_size, seed=0)
    lengths = [len(batch) for batch in taken(batches, 0, 3 * batches.steps_per_epoch + 1)]
    for step in range(len(lengths) + 1):
        assert batches.examples_before(step) == sum(lengths[:step])


@pytest.mark.parametrize(("num_examples", "batch_size"), SIZES)
def test_one_epoch_is_the_first_and_ends(num_examples, batch_size):
    batches = ShuffledBatches(num_examples, batch_size, seed=0)
    for _ in range(2):
        one_epoch = [batch.tolist() for batch in batches.one_epoch()]
        assert one_epoch == taken(batches, 0, batches.steps_per_epoch)


@pytest.mark.parametrize(
    "first", [ShuffledBatches(10, 3, seed=0).from_step(0), batches_in_order(10, 3)]
)
def test_batches_are_arrays_of_integers(first):
    batch = next(first)
    assert batch.dtype.kind == "i" and batch.shape == (3,)


def test_in_order():
    batches = [batch.tolist() for batch in batches_in_order(10, 4)]
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_in_order_with_batches_of_all_and_of_none():
    assert [batch.tolist() for batch in batches_in_order(3, 100)] == [[0, 1, 2]]
    assert [batch.tolist() for batch in batches_in_order(4, 2)] == [[0, 1], [2, 3]]
    assert list(batches_in_order(0, 4)) == []


BALANCED = [  # the classes' sizes, P, K
    ([6, 6, 6, 6], 2, 3),
    ([6, 6, 6, 6], 4, 4),
    ([6] * 7, 3, 2),  # P does not divide C
    ([5] * 7, 5, 4),  # nor K the classes, and one hand of each round is whole at most
    ([6, 6, 6], 10, 2),  # P > C
    ([1, 3, 4, 9, 20], 3, 4),  # classes smaller than K, and of one example
    ([1, 2, 1], 2, 5),  # all smaller than K
    ([5], 2, 2),
    ([1], 1, 1),
]


def labels_of(sizes):
    # Neither contiguous, nor from 0, nor sorted.
    labels = np.repeat([10 * c * c - 7 for c in range(len(sizes))], sizes)
    return np.random.default_rng(0).permutation(labels).astype(np.int32)


@pytest.mark.parametrize(("sizes", "p", "k"), BALANCED)
def test_a_balanced_batch_has_p_classes_and_k_examples_of_each(sizes, p, k):
    labels = labels_of(sizes)
    size_of = dict(zip(*np.unique(labels, return_counts=True), strict=True))
    batches = BalancedBatches(labels, p, k, seed=0)
    assert batches.classes_per_batch == min(p, len(sizes))
    for batch in taken(batches, 0, 100):
        assert len(set(batch)) == len(batch)
        classes, counts = np.unique(labels[batch], return_counts=True)
        assert len(classes) == min(p, len(sizes))
        assert counts.tolist() == [min(k, size_of[label]) for label in classes]


@pytest.mark.parametrize(("sizes", "p", "k"), BALANCED)
def test_balanced_batches_use_all_examples(sizes, p, k):
    # A class of n has given all after ceil(n / K) turns; so many rounds are rounds * C / P batches.
    rounds = max(-(-n // k) for n in sizes)
    steps = -(-rounds * len(sizes) // min(p, len(sizes)))
    batches = BalancedBatches(labels_of(sizes), p, k, seed=0)
    assert {i for batch in taken(batches, 0, steps) for i in batch} == set(range(sum(sizes)))


@pytest.mark.parametrize(("sizes", "p", "k"), BALANCED)
def test_classes_and_the_examples_of_a_class_come_equally_often(sizes, p, k):
    # Whatever is given once a round has been given once in each round that ended, and 0 or 1 times
    # in the one that has not: two counts differ by at most 1, at every step.
    labels = labels_of(sizes)
    turns = {label: 0 for label in labels.tolist()}
    uses = np.zeros(len(labels), int)
    for batch in taken(BalancedBatches(labels, p, k, seed=0), 0, 200):
        for label in set(labels[batch].tolist()):
            turns[label] += 1
        uses[batch] += 1
        assert max(turns.values()) - min(turns.values()) <= 1
        assert all(np.ptp(uses[labels == label]) <= 1 for label in turns)


def test_classes_come_exactly_equally_often_where_a_batch_ends_a_round():
    # 5 classes in batches of 2: the 5 batches of 2 rounds give each class twice.
    labels = labels_of([8] * 5)
    for start in range(0, 50, 5):
        batches = taken(BalancedBatches(labels, 2, 4, seed=0), start, 5)
        assert sorted(labels[np.concatenate(batches)]) == sorted(labels)  # 2 turns x 4 = all 8


def test_classes_meet_others_in_every_round():
    # 31 classes in batches of 10: one order is kept for 10 rounds, 31 batches. Without the shuffle
    # in between, each class would meet the 9 before it and the 9 after it, and no others.
    labels = labels_of([4] * 31)
    met = {
        pair
        for batch in taken(BalancedBatches(labels, 10, 2, seed=0), 0, 31)
        for pair in combinations(sorted(set(labels[batch])), 2)
    }
    neighbours, all_pairs = 31 * (9 + 9) / 2, 31 * 30 / 2
    assert len(met) > (neighbours + all_pairs) / 2


@pytest.mark.parametrize("p", [4, 5, 7])
def test_every_two_classes_meet(p):
    labels = labels_of([4] * 12)
    met = {
        pair
        for batch in taken(BalancedBatches(labels, p, 2, seed=0), 0, 100)
        for pair in combinations(sorted(set(labels[batch])), 2)
    }
    assert len(met) == 12 * 11 / 2


@pytest.mark.parametrize("k", [4, 5, 7])
def test_every_two_examples_of_a_class_meet(k):
    batches = BalancedBatches(labels_of([12, 12]), 1, k, seed=0)
    met = {pair for batch in taken(batches, 0, 200) for pair in combinations(sorted(batch), 2)}
    assert len(met) == 2 * 12 * 11 / 2


@pytest.mark.parametrize(("sizes", "p", "k"), BALANCED)
def test_going_on_from_a_step_gives_the_balanced_batches_that_would_have_come(sizes, p, k):
    def batches():
        return BalancedBatches(labels_of(sizes), p, k, seed=3)

    whole = taken(batches(), 0, 40)
    for step in range(40):
        assert taken(batches(), step, 40 - step) == whole[step:]


@pytest.mark.parametrize(("sizes", "p", "k"), BALANCED)
def test_going_on_from_a_late_step_takes_no_longer(sizes, p, k):
    batches = BalancedBatches(labels_of(sizes), p, k, seed=3)
    assert taken(batches, 10**15 + 7, 9) == taken(batches, 10**15, 16)[7:]


def test_the_streams_of_one_sampler_do_not_disturb_each_other():
    batches = BalancedBatches(labels_of([5] * 7), 3, 2, seed=3)
    whole = taken(batches, 0, 30)
    one, other = batches.from_step(0), batches.from_step(10)
    for step in range(20):
        assert next(one).tolist() == whole[step]
        batches.examples_before(25)
        later = next(other)
        assert later.tolist() == whole[10 + step]
        later[:] = 0  # a batch belongs to whoever asked for it


def test_balanced_batches_are_a_function_of_the_seed():
    def batches(seed):
        return taken(BalancedBatches(labels_of([20] * 7), 3, 4, seed), 0, 20)

    assert batches(5) == batches(5)
    firsts = {tuple(batch) for seed in range(4) for batch in batches(seed)}
    assert len(firsts) == 4 * 20


def test_only_which_labels_are_equal_matters():
    labels = labels_of([5] * 7)
    contiguous = np.unique(labels, return_inverse=True)[1]
    one, other = (BalancedBatches(values, 3, 2, seed=0) for values in (labels, contiguous))
    assert taken(one, 0, 20) == taken(other, 0, 20)


@pytest.mark.parametrize(("sizes", "p", "k"), BALANCED)
def test_examples_before_is_the_sum_of_the_balanced_batches(sizes, p, k):
    batches = BalancedBatches(labels_of(sizes), p, k, seed=0)
    lengths = [len(batch) for batch in taken(batches, 0, 60)]
    for step in range(61):
        assert batches.examples_before(step) == sum(lengths[:step])


@pytest.mark.parametrize(
    ("sizes", "p", "k", "steps"),
    [
        ([6, 6, 6, 6], 2, 3, 4),  # 24 / (2 * 3)
        ([6, 6, 6, 6], 2, 5, 3),  # 24 / 10 = 2.4
        ([6, 6, 6], 10, 2, 3),  # 18 / (3 * 2)
        ([1, 7], 2, 4, 2),  # 8 / (1 + 4) = 1.6
        ([1, 1, 1, 9], 2, 4, 4),  # half a round: (1 + 1 + 1 + 4) / 2 = 3.5; 12 / 3.5 = 3.4
    ],
)
def test_an_epoch_holds_about_as_many_examples_as_there_are(sizes, p, k, steps):
    assert BalancedBatches(labels_of(sizes), p, k, seed=0).steps_per_epoch == steps


def test_balanced_batches_are_arrays_of_integers():
    batch = next(BalancedBatches(labels_of([6] * 4), 2, 3, seed=0).from_step(0))
    assert batch.dtype == np.intp and batch.shape == (6,)
