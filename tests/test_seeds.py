"""The streams of random numbers stay what they are: what was trained comes out the same again."""

import hashlib
from itertools import islice

import numpy as np
import pytest

from src.data.sampling import BalancedBatches, ShuffledBatches
from src.data.shown import shown_indices
from src.data.split import class_indices, stratified_indices
from src.mining.triplets import TripletBatches, mine_triplets
from src.seeds import STREAMS, TEST_SPLIT_SEED, augmentation_draw, dropout_draw, seed_of, stream

LABELS = np.repeat(np.arange(7, dtype=np.int32), [3, 9, 4, 11, 5, 8, 6])
EMBEDDINGS = np.random.default_rng(0).normal(size=(46, 4)).astype(np.float32)

# The seeds as they were before the streams had names, and of streams that came later.
SEEDS = {
    ("sample",): [3],
    ("ties between classes", 10): [3, 10],
    ("order of classes held out", 10): [3, 10],
    ("order of examples", 5): [3, 5],
    ("random triplets", 5): [3, 5, 1],
    ("mined triplets", 28): [3, 28, 2],
    ("order of the classes", 6): [3, 0, 6],
    ("order of a class", 0, 6): [3, 1, 6],
    ("order of a class", 4, 6): [3, 5, 6],
    ("ties between groups", 9): [3, 1, 0, 9],
    ("classes held out", 9): [3, 2, 0, 9],
    ("projection of the embedding layer",): [3, 3, 0, 0],
    ("halves of the unseen classes", 9): [3, 0, 0, 9],
    ("pictures of a class", 9): [3, 0, 1, 9],
}

DRAWN = {
    "050c02f8e222670b": lambda: islice(ShuffledBatches(46, 5, 3).from_step(4), 30),
    "72140c7d18ba3b1e": lambda: islice(BalancedBatches(LABELS, 3, 4, 3).from_step(4), 30),
    "e3b15fb7b739e11a": lambda: islice(TripletBatches(LABELS, 5, 3).from_step(4), 30),
    "9bff32ef66276c92": lambda: [
        mine_triplets(
            "hard",
            LABELS,
            EMBEDDINGS,
            distance="euclidean",
            seed=seed_of("mined triplets", 3, 12),
        )
    ],
    "7085c43891d0734a": lambda: [stratified_indices(LABELS, 17, 3)],
    "f6b8573df7ab84ed": lambda: [class_indices(LABELS, 17, 3)],
    "bd84aa072d6a0886": lambda: [shown_indices(LABELS, 9, 3)],
}


@pytest.mark.parametrize(("name", "expected"), SEEDS.items(), ids=map(str, SEEDS))
def test_seeds_are_those_of_before(name, expected):
    name, *numbers = name
    assert seed_of(name, 3, *numbers) == expected
    found = stream(name, 3, *numbers).integers(2**62, size=9)
    np.testing.assert_array_equal(found, np.random.default_rng(expected).integers(2**62, size=9))


def test_every_stream_is_tested():
    assert {name for name, *_ in SEEDS} == set(STREAMS)


def test_a_list_of_one_is_the_number_itself():
    found = [np.random.default_rng(seed).permutation(99) for seed in (2**31 - 1, [2**31 - 1])]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(("expected", "drawn"), DRAWN.items(), ids=DRAWN)
def test_the_first_draws_are_those_of_before(expected, drawn):
    found = hashlib.sha256()
    for indices in drawn():
        found.update(np.ascontiguousarray(indices, np.int64).tobytes())
    assert found.hexdigest()[:16] == expected


def test_the_draws_of_a_step_are_those_of_before():
    names = (
        *("crop side", "crop center", "mirrored", "angle", "shift"),
        *("erased share", "erased aspect", "erased top", "erased left", "is erased"),
        "displacements",
    )
    assert [augmentation_draw(name) for name in names] == list(range(11))
    assert [dropout_draw(layer) for layer in range(3)] == [-1, -2, -3]
    assert TEST_SPLIT_SEED == 0


def test_a_name_that_is_none():
    with pytest.raises(KeyError):
        stream("order", 0)
    with pytest.raises(TypeError):
        stream("order of examples", 0)
