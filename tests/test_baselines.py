"""Raw pixels as embeddings."""

import numpy as np
import pytest

from src.baselines import raw_pixels


@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 3), (32, 32, 1), (1, 1, 1)])
def test_small_images_are_taken_as_they_are(shape):
    images = np.random.default_rng(0).integers(0, 256, (300, *shape), np.uint8)
    found = raw_pixels(images)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, images.reshape(300, -1))


def test_large_images_are_means_over_squares():
    images = np.random.default_rng(0).integers(0, 256, (3, 33, 64, 3), np.uint8)
    # 33 * 64 * 3 / 1024 = 6.2: a factor of 3, to 11 x 21, and one column is left over
    found = raw_pixels(images)
    expected = [
        image[3 * row : 3 * row + 3, 3 * column : 3 * column + 3, channel].astype(float).mean()
        for image in images
        for row in range(11)
        for column in range(21)
        for channel in range(3)
    ]
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(500, 375, 3), (2000, 1, 1), (1, 5000, 3), (224, 224, 3)])
def test_there_are_never_more_than_1024_numbers(shape):
    found = raw_pixels(np.full((2, *shape), 7, np.uint8))
    assert 0 < found.shape[1] <= 1024
    assert (found == 7).all()
