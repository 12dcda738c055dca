"""Raw pixels as embeddings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from src.data.split import Split
from src.embeddings.baselines import raw_pixels, remembered
from src.system.cache import load_arrays, save_arrays


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


def splits_of(seed=0, **others):
    images = np.random.default_rng(seed).integers(0, 256, (300, 4, 4, 1), np.uint8)
    return {"train": Split(images, np.arange(300, dtype=np.int32) % 3, ("a", "b", "c")), **others}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tripletboard"


def test_the_same_splits_are_computed_once(cache):
    metrics = {"test": {"map_at_r": 0.1 + 0.2, "num_queries": 7, "roc_auc": None}}
    assert remembered(splits_of(), lambda: metrics) is not None
    [file] = cache.iterdir()

    def compute():
        raise AssertionError("computed again")

    found = remembered(splits_of(), compute)
    assert found == metrics
    # and again, where the file is damaged
    file.write_bytes(file.read_bytes()[:-9])
    assert remembered(splits_of(), lambda: {"test": {"map_at_r": 0.5}}) == {
        "test": {"map_at_r": 0.5}
    }


@pytest.mark.parametrize("text", ["", "[]", '{"test": 1}', '{"test": {"map_at_r": "0.5"}}'])
def test_a_file_that_says_something_else_is_not_believed(cache, text):
    """Also with the right key and checksum."""
    metrics = {"test": {"map_at_r": 0.5}}
    remembered(splits_of(), lambda: metrics)
    [file] = cache.iterdir()
    arrays = load_arrays(file)
    save_arrays(file, {**arrays, "array": np.array(text)})
    assert remembered(splits_of(), lambda: metrics) == metrics
    assert remembered(splits_of(), lambda: metrics) == metrics
    assert str(load_arrays(file)["array"]) == json.dumps(metrics)


def test_other_splits_are_computed(cache):
    one = splits_of()["train"]
    relabelled = Split(one.images, one.labels[::-1].copy(), one.class_names)
    last = one.images.copy()
    last[-1, -1, -1] ^= 1
    different = [
        {"train": one},
        {"test": one},
        {"train": one, "test": one},
        {"train": relabelled},
        {"train": Split(last, one.labels, one.class_names)},
        {"train": one.take(np.arange(299))},
        {"train": Split(one.images.reshape(300, 2, 8, 1), one.labels, one.class_names)},
    ]
    for number, splits in enumerate(different):
        metrics = {"test": {"map_at_r": float(number)}}
        assert remembered(splits, lambda metrics=metrics: metrics) == metrics
    assert len(list(cache.iterdir())) == len(different)


def test_other_roles_are_computed(cache):
    one = splits_of()["train"]
    groups, flags = np.arange(300, dtype=np.int32) % 7, np.arange(300) % 2 == 0
    grouped = replace(one, groups=groups)
    different = [
        (one, False),
        (grouped, True),
        (replace(one, groups=groups % 6), True),
        (replace(one, is_query=flags, is_gallery=~flags), False),
        (replace(one, is_query=~flags, is_gallery=flags), False),
        (replace(grouped, is_query=flags, is_gallery=~flags), True),
    ]
    for number, (split, excludes) in enumerate(different):
        metrics = {"test": {"map_at_r": float(number)}}
        found = remembered({"test": split}, lambda m=metrics: m, excludes_groups=excludes)
        assert found == metrics
    # Groups that do not matter change nothing.
    assert remembered({"test": grouped}, lambda: {}) == {"test": {"map_at_r": 0.0}}
    assert len(list(cache.iterdir())) == len(different)


def test_where_nothing_can_be_written_it_is_computed(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for number in (0.1, 0.2):
        metrics = {"test": {"map_at_r": number}}
        assert remembered(splits_of(), lambda metrics=metrics: metrics) == metrics
