"""The distances within a batch: how exact they are, and which way of weighing them is taken."""

import numpy as np
import pytest
import reference

from model.estimator import tf
from model.mining.distances import BatchDistances

RNG = np.random.default_rng(0)


def distances_of(embeddings, distance="euclidean"):
    labels = np.zeros(len(embeddings), np.int32)
    return BatchDistances(tf.constant(labels), tf.constant(embeddings), distance).distances.numpy()


@pytest.mark.parametrize("num_dimensions", [1, 2, 64, 500, 2048])
@pytest.mark.parametrize("offset", [0, 1, 1000])
@pytest.mark.parametrize("distance", reference.DISTANCES)
def test_equal_embeddings_are_exactly_0_apart(distance, offset, num_dimensions):
    some = (RNG.normal(size=(20, num_dimensions)) + offset).astype(np.float32)
    found = distances_of(np.concatenate([some, some, some]), distance)
    for first in range(3):
        for second in range(3):
            block = found[20 * first : 20 * first + 20, 20 * second : 20 * second + 20]
            assert (np.diag(block) == 0).all()
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-5])
@pytest.mark.parametrize("offset", [0, 30])
def test_near_embeddings_keep_their_digits(offset, apart):
    """Clusters whose examples lie 1e-5 apart: float32 products would leave nothing of that."""
    centres = RNG.normal(size=(8, 1, 64)) + offset
    embeddings = (centres + apart * RNG.normal(size=(8, 5, 64))).reshape(40, 64).astype(np.float32)
    x = embeddings.astype(np.float64)
    expected = np.linalg.norm(x[:, None] - x, axis=2)
    np.testing.assert_allclose(
        distances_of(embeddings), expected, rtol=2e-6 if apart > 1e-5 else 2e-3
    )


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.arange(64) % 10, True),
        (np.arange(256) % 10, False),
        (np.arange(256) // 4, True),
        (np.arange(1024) // 4, True),
        (np.arange(6000) // 4, False),  # 108 million numbers
        (np.zeros(10), True),
        (np.zeros(20), False),
        (np.arange(20), True),
    ],
)
def test_pairs_are_enumerated_where_they_are_few(labels, expected):
    embeddings = np.zeros((len(labels), 1), np.float32)
    batch = BatchDistances(tf.constant(labels, tf.int32), tf.constant(embeddings), "euclidean")
    assert bool(batch.has_few_pairs) is expected


def test_pairs_and_triplets_are_counted_by_class_sizes():
    labels = [5, 5, 5, 7, 7, 2**40, 9]
    batch = BatchDistances(tf.constant(labels, tf.int64), tf.zeros([7, 2]), "euclidean")
    assert int(batch.num_pairs) == 3 * 2 + 2 * 1
    assert int(batch.num_triplets) == 6 * 4 + 2 * 5
    assert batch.positive_pairs().numpy().tolist() == [
        *([0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]),
        *([3, 4], [4, 3]),
    ]


def test_weights_of_triplets():
    batch = BatchDistances(tf.constant([0, 0, 1]), tf.zeros([3, 2]), "euclidean")
    anchors, positives, negatives = (
        tf.constant(x, tf.int64) for x in ([0, 0, 1], [1, 1, 0], [2, 2, 2])
    )
    weights = batch.weights_of(anchors, positives, negatives, tf.constant([1.0, 0.5, 2.0]))
    assert weights.numpy().tolist() == [[0, 1.5, -1.5], [2, 0, -2], [0, 0, 0]]
