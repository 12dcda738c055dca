"""Which examples form a batch, against the definition: each once per epoch, the same for a seed."""

from itertools import islice

import numpy as np
import pytest

from src.sampling import ShuffledBatches, batches_in_order

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
