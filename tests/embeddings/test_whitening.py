"""Coordinates in which classes scatter alike in all directions."""

import numpy as np
import pytest

from src.embeddings.whitening import whitened, whitened_projection, within_class_whitening


def scattered(size=4000, scales=(4.0, 1.0, 0.25), seed=0):
    """Two classes far apart; each scatters by `scales`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=size).astype(np.int32)
    x = rng.normal(size=(size, len(scales))) * scales + 100 * labels[:, None]
    return x.astype(np.float32), labels


def scatter_of(x, labels):
    """The covariance within classes, by loops."""
    total = np.zeros((x.shape[1],) * 2)
    for label in np.unique(labels):
        of_class = x[labels == label].astype(float)
        for one in of_class - of_class.mean(axis=0):
            total += np.outer(one, one)
    return total / len(x)


def test_it_is_the_inverse_root_of_the_shrunken_scatter():
    x, labels = scattered(400)
    matrix = np.array(within_class_whitening(x, labels))
    scatter = scatter_of(x, labels)
    scatter /= np.trace(scatter) / 3
    shrunken = 0.5 * scatter + 0.5 * np.eye(3)
    np.testing.assert_allclose(matrix @ shrunken @ matrix, np.eye(3), atol=1e-4)
    np.testing.assert_array_equal(matrix, matrix.T)
    # The classes' distance from each other does not matter.
    moved = np.array(within_class_whitening(x + 1000 * labels[:, None], labels))
    np.testing.assert_allclose(moved, matrix, atol=2e-3)


def test_directions_of_little_scatter_count_more():
    x, labels = scattered()
    matrix = within_class_whitening(x, labels)
    wide, narrow = (
        np.linalg.norm(whitened(np.array([one], np.float32), matrix))
        for one in ([1, 0, 0], [0, 0, 1])
    )
    assert wide < 1 < narrow <= 2**0.5 + 1e-3  # shrinking bounds it


def test_equal_scatter_changes_nothing():
    x, labels = scattered(20_000, scales=(2.0, 2.0, 2.0))
    np.testing.assert_allclose(within_class_whitening(x, labels), np.eye(3), atol=0.02)
    assert whitened(x, None) is x


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_of_any_magnitude(factor):
    x, labels = scattered(400, scales=(1.0, 0.5))
    expected = within_class_whitening(x - 100 * labels[:, None], labels)
    found = within_class_whitening((x - 100 * labels[:, None]) * np.float32(factor), labels)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.isfinite(whitened(np.full((2, 2), 3e38, np.float32), found)).all()


def test_where_it_is_undefined():
    x, labels = scattered(400)
    assert within_class_whitening(x[:31], labels[:31]) is None  # 29 beside one of each class
    assert within_class_whitening(x[:32], labels[:32]) is not None
    assert within_class_whitening(np.ones((100, 2), np.float32), labels[:100]) is None
    assert within_class_whitening(np.ones((9000, 257), np.float32), np.zeros(9000, int)) is None


@pytest.mark.parametrize("size", [7, 40])
@pytest.mark.parametrize("shrinkage", [0.1, 0.5, 1.0])
def test_the_projection_is_of_whitened_points(size, shrinkage):
    """Against the definition, with fewer points than dimensions and with more."""
    rng = np.random.default_rng(size)
    labels = rng.integers(3, size=size).astype(np.int32)
    x = (5 + rng.normal(size=(size, 12)) * rng.uniform(0.1, 3, 12)).astype(np.float32)
    projection = rng.normal(size=(12, 4))
    kernel, bias = whitened_projection(x, labels, projection, shrinkage)

    scatter = scatter_of(x, labels)
    shrunken = (1 - shrinkage) * scatter / np.mean(np.diag(scatter)) + shrinkage * np.eye(12)
    values, vectors = np.linalg.eigh(shrunken)
    expected = vectors @ np.diag(values**-0.5) @ vectors.T @ projection
    expected *= np.sqrt(2 / (12 + 4)) / np.sqrt((expected**2).mean())
    np.testing.assert_allclose(kernel, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose((x @ kernel + bias).mean(axis=0), np.zeros(4), atol=1e-5)
    # Neither order, nor unit, nor where the classes lie.
    other = (x + 100 * labels[:, None]).astype(np.float32)[::-1] * np.float32(1e3)
    again, _ = whitened_projection(other, labels[::-1], projection, shrinkage)
    np.testing.assert_allclose(again, kernel, rtol=1e-2, atol=1e-4)


def test_a_projection_of_classes_that_do_not_scatter():
    x = np.repeat(np.eye(3, dtype=np.float32), 2, axis=0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 2)
    assert whitened_projection(x, labels, np.eye(3), 0.5) is None
    rounded = x * np.float32([[1], [1 + 2e-7], [1], [1], [1], [1]])
    assert whitened_projection(rounded, labels, np.eye(3), 0.5) is None
    # One class of one picture says nothing, and changes nothing but the centre.
    x[0, 0] = 2
    kernel, _ = whitened_projection(x, labels, np.eye(3), 0.5)
    more = np.concatenate([x, [[9, 9, 9]]]).astype(np.float32)
    again, _ = whitened_projection(more, np.append(labels, 3), np.eye(3), 0.5)
    np.testing.assert_allclose(again, kernel, rtol=1e-6)
