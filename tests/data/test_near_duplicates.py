"""Images in two splits that look alike: their hashes, and how they are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.digests import digests_of
from src.data.near_duplicates import difference_hashes, near_duplicate_warnings
from src.data.split import Split
from src.errors import UserError

SOURCE = Path("data/x")


def split(images, paths=None):
    images = np.asarray(images, np.uint8)
    names = None if paths is None else np.array(paths, object)
    return Split(
        images, np.zeros(len(images), np.int32), ("a", "b"), names, digests=digests_of(images)
    )


def smooth(count, seed=0, size=32):
    """Images of a few random waves, which have no two alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 5, 5), np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((size, size), 3)) for c in coarse])[
        ..., None
    ]


@pytest.mark.parametrize("shape", [(32, 32, 1), (28, 28, 1), (9, 8, 3), (5, 7, 1), (41, 23, 3)])
def test_the_hash_by_its_definition(shape):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    height, width, channels = shape
    fine = np.repeat(np.repeat(images.astype(float), 8, axis=1), 9, axis=2)  # whole areas
    grey = fine @ [0.299, 0.587, 0.114] if channels == 3 else fine[..., 0]
    expected = np.empty((3, 8, 8), bool)
    for n in range(3):
        for row in range(8):
            areas = [
                grey[n, row * height : (row + 1) * height, column * width : (column + 1) * width]
                for column in range(9)
            ]
            means = [round(area.mean()) for area in areas]
            expected[n, row] = [
                right > left + 4 for left, right in zip(means, means[1:], strict=False)
            ]
    found = difference_hashes(split(images))
    # A mean that is nearly a half may be rounded either way.
    assert np.mean(found == expected.reshape(3, 64)) > 0.98


def test_a_flat_image_rises_nowhere():
    flat = np.full((1, 30, 30, 1), 77)
    noisy = flat + np.random.default_rng(0).integers(-4, 5, flat.shape)
    assert not difference_hashes(split(np.concatenate([flat, noisy]))).any()


def test_what_hardly_changes_the_hash_and_what_does():
    images = smooth(30)
    brighter = np.clip(images * 0.8 + 30, 0, 255).astype(np.uint8)
    noisy = np.clip(images + np.random.default_rng(1).normal(0, 4, images.shape), 0, 255)
    scaled = np.stack([np.asarray(Image.fromarray(i[..., 0]).resize((20, 20), 3)) for i in images])
    hashes = difference_hashes(split(images))
    for changed in (brighter, noisy, scaled[..., None]):
        bits = (difference_hashes(split(changed)) != hashes).sum(axis=1)
        assert np.median(bits) <= 2 and bits.max() <= 8
    mirrored = (difference_hashes(split(images[:, :, ::-1])) != hashes).sum(axis=1)
    others = (difference_hashes(split(smooth(30, seed=9))) != hashes).sum(axis=1)
    assert mirrored.min() > 10 and others.min() > 10


def test_they_are_named_but_not_equal_ones():
    train, test = smooth(40), smooth(20, seed=5)
    test[3], test[7] = train[11], np.clip(train[12] * 0.9 + 5, 0, 255)
    splits = {"train": split(train), "test": split(test, [f"t/{n}.png" for n in range(20)])}
    [line] = near_duplicate_warnings(splits, 4, "warn", SOURCE)
    assert line.startswith(
        "data/x: 1 of 20 test images look like a train image (at most 4 of 64 bits differ), which "
        "may inflate the metrics: t/7.png ~ train no. 12 ("
    )
    with pytest.raises(UserError, match='accepted: none, or "on_duplicates": "warn"'):
        near_duplicate_warnings(splits, 4, "error", SOURCE)
    assert not near_duplicate_warnings({"train": splits["train"]}, 16, "error", SOURCE)


def test_many_are_counted_and_every_two_splits_are_compared():
    images = smooth(2000)
    splits = {
        "train": split(images),
        "test": split(np.clip(images * 0.9, 0, 255)[:1500]),
        "unseen": split(smooth(5, seed=3)),
    }
    [line] = near_duplicate_warnings(splits, 2, "warn", SOURCE)
    count = int(line.split("data/x: ")[1].split(" of ")[0])
    assert 1200 <= count <= 1500 and line.endswith(", ...")
