"""The distances in NumPy and in TensorFlow against their definition and declaration."""

import numpy as np
import pytest
import reference

from model.estimator import tf
from model.mining import distances as in_tensorflow
from src.distance import DISTANCES
from src.mining.distances import PERCENTILES, paired_distances, percentiles_of_distances


def gaussian(num_examples, size, seed=0):
    return np.random.default_rng(seed).normal(size=(num_examples, size)).astype(np.float32)


def reference_distances(embeddings):
    """Return the distances of all pairs of different examples."""
    points = embeddings.astype(np.float64)
    return np.array(
        [
            np.sqrt(np.sum((points[i] - points[j]) ** 2))
            for i in range(len(points))
            for j in range(i + 1, len(points))
        ]
    )


def reference_percentile(values, percentile):
    """Return a percentile, between two of the sorted values in proportion."""
    values = sorted(values)
    position = percentile / 100 * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])


def test_every_distance_has_a_definition():
    assert tuple(DISTANCES) == reference.DISTANCES


@pytest.mark.parametrize("distance", DISTANCES)
def test_paired_distances(distance):
    x, y = gaussian(40, 5, seed=1) + 1, gaussian(40, 5, seed=2)
    expected = [
        reference.distance(a, b, distance)
        for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(paired_distances(x, y, distance), expected, rtol=1e-10)
    of_one = paired_distances(x[:1], np.stack([y[0], y[0]]), distance)
    np.testing.assert_allclose(of_one, [expected[0], expected[0]], rtol=1e-10)
    in_tf = in_tensorflow.paired_distances(tf.cast(x, "float64"), tf.cast(y, "float64"), distance)
    np.testing.assert_allclose(in_tf, expected, rtol=1e-10)


@pytest.mark.parametrize("distance", DISTANCES)
def test_paired_distances_in_tensorflow_have_a_finite_gradient(distance):
    x = tf.constant([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], tf.float64)
    y = tf.constant([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [6.0, 0.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = in_tensorflow.paired_distances(x, y, distance)
    expected = [
        reference.distance_gradient(a, b, distance)
        for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    np.testing.assert_allclose(tape.gradient(found, x), expected, atol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("distance", DISTANCES)
def test_what_is_not_finite_has_no_distance(distance, value):
    x = tf.constant([[1.0, value]], tf.float64)
    found = in_tensorflow.paired_distances(x, tf.ones_like(x), distance)
    if value == 1e30 and distance in ("euclidean", "cosine"):  # float32 holds it
        assert np.isfinite(found).all()
    else:
        assert np.isnan(found).all()


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_power_and_the_order_are_those_declared(distance):
    x, y = np.array([[3.0, 4.0]], np.float32), np.array([[-2.0, 1.0]], np.float32)
    once, twice = (paired_distances(k * x, k * y, distance)[0] for k in (1, 2))
    declared = DISTANCES[distance]
    scale = 1 if declared.compares_directions else 2**declared.power
    assert twice == pytest.approx(scale * once)


@pytest.mark.parametrize("num_examples", [2, 3, 4, 30])
def test_percentiles_of_all_pairs(num_examples):
    embeddings = gaussian(num_examples, 5)
    distances = reference_distances(embeddings)
    for name, values in (("euclidean", distances), ("squared_euclidean", distances**2)):
        expected = [reference_percentile(values, percentile) for percentile in (5, 50, 95)]
        actual = percentiles_of_distances(embeddings, name)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("length", [1e-30, 1e-23, 1e19])
def test_percentiles_of_directions_do_not_depend_on_lengths(length):
    points = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    found = percentiles_of_distances((points * length).astype(np.float32), "cosine")
    np.testing.assert_allclose(found, percentiles_of_distances(points, "cosine"), rtol=1e-4)


def test_percentiles_by_hand():
    # 0, 1, 3 on a line: distances 1, 2, 3.
    embeddings = np.array([[0], [1], [3]], np.float32)
    actual = percentiles_of_distances(embeddings, "euclidean")
    np.testing.assert_allclose(actual, [1 + 0.1, 2, 3 - 0.1], rtol=1e-6)
    actual = percentiles_of_distances(embeddings, "squared_euclidean")
    np.testing.assert_allclose(actual, [1 + 0.1 * 3, 4, 9 - 0.1 * 5], rtol=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
def test_percentiles_of_drawn_pairs_are_close_to_those_of_all(name):
    embeddings = gaussian(200, 3)  # 19 900 pairs
    every_pair = percentiles_of_distances(embeddings, name)
    drawn = percentiles_of_distances(embeddings, name, max_pairs=10_000)
    assert not np.array_equal(drawn, every_pair)
    np.testing.assert_allclose(drawn, every_pair, rtol=0.08)
    again = percentiles_of_distances(embeddings, name, max_pairs=10_000)
    np.testing.assert_array_equal(drawn, again)


def test_the_limit_on_pairs_is_a_limit():
    embeddings = gaussian(20, 3)  # 190 pairs
    every_pair = percentiles_of_distances(embeddings, "euclidean")
    at_limit = percentiles_of_distances(embeddings, "euclidean", max_pairs=190)
    below = percentiles_of_distances(embeddings, "euclidean", max_pairs=189)
    np.testing.assert_array_equal(at_limit, every_pair)
    assert not np.array_equal(below, every_pair)


def test_drawn_pairs_are_of_different_examples():
    # Corners of a simplex: all distances are 1, but an example's to itself.
    embeddings = np.eye(40, dtype=np.float32) * np.float32(np.sqrt(0.5))
    for max_pairs in (779, 780):
        actual = percentiles_of_distances(embeddings, "euclidean", max_pairs=max_pairs)
        np.testing.assert_allclose(actual, [1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("num_examples", [0, 1])
def test_percentiles_without_a_pair(num_examples):
    actual = percentiles_of_distances(gaussian(num_examples, 3), "euclidean")
    assert np.isnan(actual).all() and actual.shape == (3,)


def test_one_value_for_each_percentile():
    assert PERCENTILES == (5, 50, 95)
    for num_examples in (1, 5):
        actual = percentiles_of_distances(gaussian(num_examples, 3), "squared_euclidean")
        assert actual.shape == (3,) and actual.dtype == np.float32
