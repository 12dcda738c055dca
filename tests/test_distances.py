import numpy as np
import pytest
from reference import DISTANCES, distance, distance_gradient

from model.distances import (
    distance_percentiles,
    pairwise_distances,
    positive_and_negative_masks,
)
from model.estimator import tf
from src.retrieval import PERCENTILES

RNG = np.random.default_rng(0)
# Far from the origin, where |x|^2 - 2 x.y + |y|^2 cancels most; rows 3 and 7 are equal, and rows 4
# and 8 nearly so.
EMBEDDINGS = (RNG.normal(size=(12, 5)) + 10).astype(np.float32)
EMBEDDINGS[7] = EMBEDDINGS[3]
EMBEDDINGS[8] = EMBEDDINGS[4] + np.float32(1e-3)


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_are_those_of_a_loop(run, name):
    expected = [
        [distance(x, y, name) for y in EMBEDDINGS.astype(float)] for x in EMBEDDINGS.astype(float)
    ]
    distances = run(lambda x: pairwise_distances(x, name), EMBEDDINGS)
    # Cosine distances near 0 are limited by the float64 unit vectors: 1e-16 of 1.
    np.testing.assert_allclose(distances, expected, rtol=1e-6, atol=1e-12)
    assert distances.dtype == np.float32


@pytest.mark.parametrize("name", DISTANCES)
def test_equal_embeddings_are_exactly_zero_apart(run, name):
    distances = run(lambda x: pairwise_distances(x, name), EMBEDDINGS)
    assert (np.diag(distances) == 0).all()
    assert distances[3, 7] == distances[7, 3] == 0
    assert distances[4, 8] > 0


@pytest.mark.parametrize("name", DISTANCES)
@pytest.mark.parametrize(
    "embeddings", [np.zeros((4, 3), np.float32), np.full((4, 3), 7.3, np.float32), EMBEDDINGS]
)
def test_gradient_is_finite_where_embeddings_coincide(run, name, embeddings):
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(pairwise_distances(x, name))
        return tape.gradient(total, x)

    assert np.isfinite(run(gradient, embeddings)).all()


@pytest.mark.parametrize("name", DISTANCES)
def test_gradient_is_that_of_a_loop(run, name):
    """Of a sum of distances with unequal weights, so that no mistake cancels."""
    x = EMBEDDINGS[:6].astype(float)
    weights = RNG.normal(size=(6, 6))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(pairwise_distances(x, name) * weights.astype(np.float32))
        return tape.gradient(total, x)

    expected = np.zeros_like(x)
    for i in range(6):
        for j in range(6):
            expected[i] += weights[i, j] * distance_gradient(x[i], x[j], name)
            expected[j] += weights[i, j] * distance_gradient(x[j], x[i], name)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(run(gradient, EMBEDDINGS[:6]), expected, atol=1e-6 * scale)


def test_unknown_distance():
    with pytest.raises(ValueError, match="unknown distance 'manhattan'"):
        pairwise_distances(tf.zeros([2, 2]), "manhattan")


@pytest.mark.parametrize(
    "labels", [[0, 1, 0, 2, 1, 0], [5, 5, 5], [1, 2, 3], [7], [2**31 - 1, 2**31 - 1, 0]]
)
@pytest.mark.parametrize("shape", ["[B]", "[B, 1]"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8])
def test_masks_are_those_of_a_loop(run, labels, shape, dtype):
    labels = np.array(labels).astype(dtype)
    size = len(labels)
    given = labels[:, None] if shape == "[B, 1]" else labels
    positive, negative = run(positive_and_negative_masks, given, np.zeros((size, 2), np.float32))
    for a in range(size):
        for other in range(size):
            assert positive[a, other] == (a != other and labels[a] == labels[other])
            assert negative[a, other] == (labels[a] != labels[other])


def test_wrong_number_of_labels_is_refused(run):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        run(positive_and_negative_masks, np.arange(3), np.zeros((4, 2), np.float32))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        run(positive_and_negative_masks, np.zeros((4, 2), np.int32), np.zeros((4, 2), np.float32))


def test_percentiles_of_a_batch(run):
    points = np.array([[0], [1], [3], [7]], np.float32)
    # The distances between different points: 1 2 3 4 6 7, each twice.
    ordered = np.repeat([1, 2, 3, 4, 6, 7], 2)
    percentiles = run(lambda x: distance_percentiles(pairwise_distances(x, "euclidean")), points)
    for percentile in PERCENTILES:
        expected = ordered[round(11 * percentile / 100)]
        assert percentiles[f"distance_p{percentile}"] == pytest.approx(expected)


def test_percentiles_without_a_pair_are_zero(run):
    percentiles = run(
        lambda x: distance_percentiles(pairwise_distances(x, "euclidean")),
        np.ones((1, 2), np.float32),
    )
    assert {float(value) for value in percentiles.values()} == {0}
