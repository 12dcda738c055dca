"""Turned and mirrored images as classes of their own."""

import numpy as np
import pytest

from src.data.extra_classes import with_extra_classes
from src.data.images import MappedImages, PosedImages
from src.data.split import Split
from src.errors import UserError
from src.experiment.facts import check_facts, check_training
from src.params.poses import POSES
from src.params.schema import Params

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 6, 6, 3), np.uint8)
SPLIT = Split(IMAGES, np.int32([0, 2, 1, 2, 0, 0, 2]), ("a", "b", "c"))

# By hand: the image  1 2 / 3 4  turned counter-clockwise, or mirrored and then turned.
BY_HAND = {
    "rot90": [[2, 4], [1, 3]],
    "rot180": [[4, 3], [2, 1]],
    "rot270": [[3, 1], [4, 2]],
    "mirror": [[2, 1], [4, 3]],
    "mirror_rot90": [[1, 3], [2, 4]],
    "mirror_rot180": [[3, 4], [1, 2]],
    "mirror_rot270": [[4, 2], [3, 1]],
}


@pytest.mark.parametrize("pose", POSES)
def test_each_pose_by_hand(pose):
    image = np.uint8([[1, 2], [3, 4]])[None, ..., None]
    posed = PosedImages(image, (pose,))
    assert posed[np.array([1])][0, ..., 0].tolist() == BY_HAND[pose]
    assert posed[np.array([0])][0, ..., 0].tolist() == [[1, 2], [3, 4]]


def test_the_poses_differ_from_each_other():
    posed = PosedImages(IMAGES[:1], tuple(POSES))
    assert len(np.unique(posed[np.arange(8)], axis=0)) == 8


def test_images_come_in_the_order_asked_for(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = MappedImages(np.load(tmp_path / "images.npy", mmap_mode="r"), np.arange(7))
    for images in (IMAGES, mapped):
        posed = PosedImages(images, ("rot180", "mirror"))
        assert posed.shape == (21, 6, 6, 3) and len(posed) == 21
        found = posed[np.array([20, 3, 7, 3])]
        expected = [IMAGES[6][:, ::-1], IMAGES[3], IMAGES[0][::-1, ::-1], IMAGES[3]]
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(posed[6:9], [IMAGES[6], *IMAGES[:2, ::-1, ::-1]])


def test_the_images_themselves_stay_as_they_are():
    before = IMAGES.copy()
    PosedImages(IMAGES, ("mirror",))[np.arange(14)]
    np.testing.assert_array_equal(IMAGES, before)


def test_every_class_once_more_for_each_pose():
    split = with_extra_classes(SPLIT, Params(extra_classes=("rot90", "mirror")))
    assert len(split) == 21
    np.testing.assert_array_equal(
        split.labels.reshape(3, 7), SPLIT.labels + np.int32([[0], [3], [6]])
    )
    assert split.labels.dtype == np.int32
    assert split.class_names[3:] == (
        *("a rot90", "b rot90", "c rot90"),
        *("a mirror", "b mirror", "c mirror"),
    )
    turned = split.images[np.flatnonzero(split.labels == 3)]
    np.testing.assert_array_equal(turned, np.rot90(IMAGES[SPLIT.labels == 0], axes=(1, 2)))


def test_none_gives_the_very_split():
    assert with_extra_classes(SPLIT, Params()) is SPLIT


def check(params, images):
    split = Split(images, SPLIT.labels, SPLIT.class_names)
    return check_facts(params, {"train": split, "test": split}, "p.json")


def test_quarter_turns_need_square_images():
    wide = RNG.integers(0, 256, (7, 4, 6, 1), np.uint8)
    with pytest.raises(UserError) as error:
        check(Params(extra_classes=("mirror", "rot90")), wide)
    assert str(error.value) == (
        'p.json: extra_classes: found "rot90", for images of 4 x 6 pixels; accepted: '
        "'rot180' or 'mirror' or 'mirror_rot180', because the images are not square"
    )
    assert check(Params(extra_classes=("mirror", "rot180", "mirror_rot180")), wide) == []
    assert check(Params(extra_classes=tuple(POSES)), IMAGES) == []


def test_more_classes_a_batch_than_there_are():
    params = {"extra_classes": ("mirror",), "examples_per_class": 2}
    # Two images of each of the three classes, and so two of each of the six.
    split = SPLIT.take(np.array([0, 4, 1, 3, 2, 2]))

    def lines(classes_per_batch):
        asked = Params(classes_per_batch=classes_per_batch, **params)
        return check_training(asked, {"train": split, "validation": split}, "p.json")

    assert lines(6) == []
    assert lines(7) == [
        "p.json: classes_per_batch: found 7, but the train split has 6 classes; all are used"
    ]
