"""Which sampler params ask for, and how many of its batches there is something to learn from."""

from itertools import islice

import numpy as np
import pytest

from src.data.sampling import BalancedBatches, ShuffledBatches
from src.data.split import Split
from src.mining.batches import steps_without_triplet, training_batches
from src.mining.triplets import TripletBatches
from src.params.schema import Params


def split(labels):
    labels = np.array(labels, np.int32)
    images = np.zeros((len(labels), 1, 1, 1), np.uint8)
    return Split(images, labels, tuple(map(str, range(labels.max() + 1))))


P_X_K = Params(classes_per_batch=2, examples_per_class=2)
OFFLINE = Params(triplet_strategy="offline", batch_size=4)


@pytest.mark.parametrize(
    ("params", "kind"),
    [(Params(), ShuffledBatches), (P_X_K, BalancedBatches), (OFFLINE, TripletBatches)],
)
def test_the_sampler_that_params_ask_for(params, kind):
    assert isinstance(training_batches(split([0, 0, 1, 1]), params), kind)


def has_triplet(labels):
    """By the definition: an anchor, another of its class, and one of another class."""
    indices = range(len(labels))
    return any(
        labels[a] == labels[p] != labels[n] and a != p
        for a in indices
        for p in indices
        for n in indices
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("batch_size", [2, 3, 5, 8])
@pytest.mark.parametrize(
    "labels", [np.arange(40) // 2, np.arange(40), [0] * 40, [0] * 38 + [1] * 2]
)
def test_steps_without_triplet_of_shuffled_batches(labels, batch_size, seed):
    examples = split(labels)
    batches = training_batches(examples, Params(batch_size=batch_size, seed=seed))
    epoch = [examples.labels[b] for b in islice(batches.from_step(0), batches.steps_per_epoch)]
    expected = sum(not has_triplet(batch.tolist()) for batch in epoch)
    assert steps_without_triplet(batches, examples.labels) == expected


@pytest.mark.parametrize(
    ("labels", "all_have"),
    [(np.arange(40) // 2, True), (np.arange(40) // 4, True), (range(8), False)],
)
def test_steps_without_triplet_of_balanced_batches(labels, all_have):
    examples = split(labels)
    batches = training_batches(examples, P_X_K)
    without = steps_without_triplet(batches, examples.labels)
    assert without == (0 if all_have else batches.steps_per_epoch)


def test_steps_without_triplet_of_offline_batches():
    assert (
        steps_without_triplet(
            training_batches(split([0, 0, 1, 1]), OFFLINE), np.int32([0, 0, 1, 1])
        )
        == 0
    )
    # Ten classes of one image and one of two: only two anchors have a positive.
    labels = np.int32([*range(10), 10, 10])
    batches = training_batches(split(labels), Params(triplet_strategy="offline", batch_size=2))
    assert batches.steps_per_epoch == 6
    assert steps_without_triplet(batches, labels) in (4, 5)
