"""The triplets that a strategy chooses, listed: against loops and the counts of the strategies."""

import numpy as np
import pytest
import reference
from reference import distance

from model.estimator import tf
from src.mining.chosen import (
    CHOICES,
    MAX_BATCH_SIZE,
    chosen_triplets,
    distance_matrix,
    valid_triplets,
)
from src.registry import TRIPLET_STRATEGIES, look_up

MARGIN = 0.6


def batch(seed=0, size=17):
    """A batch with a class of one example, and two examples at one place."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size).astype(np.int32)
    labels[3] = 9
    embeddings = rng.normal(size=(size, 3)).astype(np.float32)
    embeddings[5] = embeddings[6]
    return labels, embeddings


@pytest.mark.parametrize("name", ["euclidean", "cosine", "mean_squared"])
def test_distances_are_those_of_the_definition(name):
    _, embeddings = batch()
    expected = [[distance(x, y, name) for y in embeddings] for x in embeddings.astype(np.float64)]
    np.testing.assert_allclose(distance_matrix(embeddings, name), expected, atol=1e-7)


def test_valid_triplets_are_those_of_the_definition():
    labels, _ = batch()
    expected = list(reference.valid_triplets(labels))
    assert [tuple(triplet) for triplet in valid_triplets(labels).tolist()] == expected


@pytest.mark.parametrize("strategy", CHOICES)
@pytest.mark.parametrize("seed", range(3))
def test_the_mean_over_the_chosen_is_the_strategys_loss(strategy, seed):
    labels, embeddings = batch(seed)
    distances = distance_matrix(embeddings, "euclidean")
    a, p, n = chosen_triplets(strategy, labels, distances, margin=MARGIN).T
    losses = np.maximum(distances[a, p] - distances[a, n] + MARGIN, 0)
    function = look_up(TRIPLET_STRATEGIES, strategy)
    found = function(labels, tf.constant(embeddings), margin=MARGIN, distance="euclidean")
    assert len(a) == int(found.num_averaged_triplets) > 0
    assert losses.mean() == pytest.approx(float(found.loss), rel=1e-5)
    assert (losses > 0).sum() == int(found.num_positive_triplets)


def test_by_hand():
    """On a line: 0 and 1 of one class; 3 and 5 of another."""
    labels, embeddings = np.array([0, 0, 1, 1]), np.array([[0.0], [1.0], [3.0], [5.0]], np.float32)
    distances = distance_matrix(embeddings, "euclidean")

    def chosen(strategy):
        return chosen_triplets(strategy, labels, distances, margin=3.0).tolist()

    assert chosen("batch_hard") == [[0, 1, 2], [1, 0, 2], [2, 3, 1], [3, 2, 1]]
    # From 3, the positive 5 is 2 away, and so is the negative 1: only 0 is farther.
    assert chosen("batch_semihard") == [[0, 1, 2], [1, 0, 2], [2, 3, 0], [3, 2, 1]]
    assert chosen("batch_all") == [[0, 1, 2], [1, 0, 2], [2, 3, 0], [2, 3, 1], [3, 2, 1]]


@pytest.mark.parametrize("strategy", CHOICES)
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [0], []], ids=str)
def test_without_a_triplet(strategy, labels):
    size = len(labels)
    found = chosen_triplets(strategy, np.array(labels, int), np.ones((size, size)), margin=1.0)
    assert found.shape == (0, 3)


def test_refused():
    with pytest.raises(ValueError, match="^strategy: found 'offline'; accepted: batch_all, batch_"):
        chosen_triplets("offline", np.zeros(2, int), np.zeros((2, 2)), margin=1.0)
    with pytest.raises(ValueError, match="^found a batch of 257; accepted: at most 256"):
        valid_triplets(np.zeros(MAX_BATCH_SIZE + 1, int))
    with pytest.raises(ValueError, match="^found a batch of 257"):
        distance_matrix(np.zeros((MAX_BATCH_SIZE + 1, 2), np.float32), "euclidean")
