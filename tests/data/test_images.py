"""One protocol for images: wherever they are, they are indexed, taken and joined alike."""

import re
from pathlib import Path

import numpy as np
import pytest

from src.data.checked_images import CheckedImages
from src.data.digests import digests_of
from src.data.images import MappedImages, PosedImages, in_pieces, joined

RIGHT = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)


def restore(row):
    raise AssertionError(row)


KINDS = {
    "array": lambda path: RIGHT.copy(),
    "file": lambda path: np.load(path, mmap_mode="r", allow_pickle=False),
    "mapped": lambda path: MappedImages(RIGHT, np.arange(8)),
    "checked": lambda path: CheckedImages(RIGHT, digests_of(RIGHT), restore),
    "posed": lambda path: PosedImages(RIGHT, ()),
}


@pytest.fixture(params=KINDS)
def images(request, tmp_path):
    np.save(tmp_path / "images.npy", RIGHT)
    return KINDS[request.param](tmp_path / "images.npy")


def test_shape_length_and_order(images):
    assert images.shape == RIGHT.shape and len(images) == 8 and images.dtype == np.uint8
    np.testing.assert_array_equal(list(images), RIGHT)
    np.testing.assert_array_equal(np.concatenate(list(in_pieces(images))), RIGHT)


@pytest.mark.parametrize(
    "key", [3, -1, slice(1, 6, 2), np.array([5, 0, 5]), RIGHT[:, 0, 0, 0] > 99, np.array([], int)]
)
def test_what_is_asked_for_comes_as_an_array(images, key):
    np.testing.assert_array_equal(images[key], RIGHT[key])
    assert images[key].dtype == np.uint8


def test_taken_and_joined_are_images_again(images):
    taken = images.take(np.array([6, 1, 2]), axis=0)
    again = taken.take(np.array([2, 0]), axis=0)
    both = joined(taken, again)
    assert both.shape == (5, 4, 4, 3) and len(both) == 5
    np.testing.assert_array_equal(both[:], RIGHT[[6, 1, 2, 2, 6]])
    np.testing.assert_array_equal(both.take(np.array([4]), axis=0)[:], RIGHT[[6]])


def test_images_of_a_file_are_taken_and_joined_unread():
    class Unread(PosedImages):
        def __getitem__(self, key):
            raise AssertionError(key)

    source = Unread(RIGHT, ("mirror",))
    both = joined(source.take(np.array([0, 15]), axis=0), source.take(np.array([3]), axis=0))
    assert isinstance(both, MappedImages) and len(both) == 3
    with pytest.raises(ValueError, match="two arrays"):
        joined(both, MappedImages(RIGHT, np.arange(2)))


def test_posed_images_are_turned_one_by_one_as_they_are_together():
    posed = PosedImages(RIGHT, ("rot90", "mirror_rot270"))
    np.testing.assert_array_equal(list(posed), posed[:])


def test_nothing_asks_of_which_kind_images_are():
    root = Path(__file__).parents[2]
    for top in ("src", "model"):
        for path in (root / top).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"isinstance\([^)]*Images|(?<!tf\.)\bcast\(", text), path
