"""The same picture twice: found, named, refused or dropped, across splits and classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data.digests import digest, digests_of
from src.data.duplicates import duplicate_warnings, without_duplicates
from src.data.images import MappedImages
from src.data.split import Dataset, Split
from src.errors import UserError

SOURCE = Path("data/things")


def split(digests, labels=None, paths=None):
    labels = np.zeros(len(digests), np.int32) if labels is None else np.int32(labels)
    images = np.zeros((len(digests), 1, 1, 1), np.uint8)
    paths = None if paths is None else np.array(paths, object)
    return Split(images, labels, ("a", "b", "c"), paths, np.array(digests, np.uint64))


def dataset(**splits):
    return Dataset(SOURCE, splits, dict.fromkeys(splits, "a file"), ("earlier",))


def warnings(on_duplicates="warn", **splits):
    return duplicate_warnings(splits, on_duplicates, SOURCE)


def test_equal_pixels_have_equal_digests(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 5, 4, 3), np.uint8)
    images[7] = images[31]
    digests = digests_of(images)
    assert digests.dtype == np.uint64 and len(set(digests.tolist())) == 49
    assert digests[7] == digests[31] == digest(images[7].tobytes())
    rows = np.array([31, 3, 7])
    np.testing.assert_array_equal(digests_of(MappedImages(images, rows)), digests[rows])
    np.testing.assert_array_equal(digests_of(images[:, ::-1, ::-1][:, ::-1, ::-1]), digests)
    assert len(digests_of(images[:0])) == 0


def test_many_images_are_hashed_piece_by_piece():
    images = np.zeros((1000, 128, 128, 1), np.uint8)  # 16 MB: of two pieces
    images[:, 0, 0, 0] = np.arange(1000) % 256
    images[:, 0, 1, 0] = np.arange(1000) // 256
    assert len(set(digests_of(images).tolist())) == 1000


@pytest.mark.parametrize("on_duplicates", ["warn", "error"])
def test_nothing_is_said_where_there_are_none(on_duplicates):
    assert warnings(on_duplicates, train=split([1, 2, 0]), test=split([4, 2**64 - 1])) == ()


HINT = '; "on_duplicates": "drop" keeps only one of them'


def test_across_splits():
    (line,) = warnings(train=split([1, 2, 3, 4]), validation=split([9]), test=split([3, 8, 1]))
    assert line == (
        f"{SOURCE}: 4 images with equal pixels in several splits, which inflates the "
        f"metrics: train no. 0 = test no. 2, train no. 2 = test no. 0{HINT}"
    )


def test_across_classes():
    train = split([5, 5, 6, 7], [0, 1, 0, 1], ["a/x.png", "b/x.png", "a/y.png", "b/z.png"])
    (line,) = warnings(train=train)
    assert line == (
        f"{SOURCE}: 2 images with equal pixels in several classes, so that their labels "
        f"contradict each other: a/x.png = b/x.png{HINT}"
    )


@pytest.mark.parametrize("on_duplicates", ["warn", "error"])
def test_within_a_class_they_are_counted(on_duplicates):
    (line,) = warnings(on_duplicates, train=split([5, 5, 5, 7], paths=["0", "1", "2", "3"]))
    assert line == f"{SOURCE}: 3 images with equal pixels in one class and one split: 0 = 1 = 2"


def test_each_kind_has_its_line():
    train = split([1, 1, 2, 3, 3], [0, 0, 0, 1, 2])
    lines = warnings(train=train, test=split([2, 3]))
    assert [line.split("equal pixels ")[1].split(",")[0].split(":")[0] for line in lines] == [
        "in several classes",
        "in several splits",
        "in one class and one split",
    ]
    assert lines[0].split(": ")[1].startswith("3 images")


def test_the_first_few_are_named():
    digests = list(range(10)) * 2
    (line,) = warnings(train=split(digests))
    assert line.endswith(": train no. 0 = train no. 10, train no. 1 = train no. 11, "
                         "train no. 2 = train no. 12, ...")  # fmt: skip
    assert "20 images" in line


def test_what_differs_is_named_first():
    # A hundred copies in train, and one in test: that one must be among the few named.
    (line,) = warnings(train=split([1] * 100), test=split([1]))
    assert "train no. 0 = test no. 0 = train no. 1" in line and "101 images" in line


def test_they_are_named_in_their_order():
    digests = np.random.default_rng(0).integers(0, 2**63, 40).tolist()
    (line,) = warnings(train=split(digests), test=split(digests))
    named = "train no. 0 = test no. 0, train no. 1 = test no. 1, train no. 2 = test no. 2, ..."
    assert named in line


def test_names_are_escaped():
    (line,) = warnings(train=split([1, 1], paths=["a\n.png", "b\x1b.png"]))
    assert line.endswith(": a\\n.png = b\\x1b.png")


def test_error():
    train, test = split([1, 2, 2], [0, 0, 1]), split([1])
    with pytest.raises(UserError) as caught:
        warnings("error", train=train, test=test)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"{SOURCE}: 2 images with equal pixels in several ")
        assert line.endswith('; accepted: each once, or "on_duplicates": "warn" or "drop"')


def test_drop_keeps_what_is_tested():
    given = dataset(
        train=split([1, 2, 3, 2, 4], [0, 1, 0, 1, 0]),
        validation=split([5, 3, 6]),
        test=split([6, 7, 1]),
    )
    found = without_duplicates(given)
    assert {name: part.digests.tolist() for name, part in found.splits.items()} == {
        "train": [2, 4],
        "validation": [5, 3],
        "test": [6, 7, 1],
    }
    assert list(found.splits) == ["train", "validation", "test"]
    assert found.splits["train"].labels.tolist() == [1, 0]
    assert found.warnings == (
        "earlier",
        f"{SOURCE}: 4 images are left out, because another image has the same pixels: "
        "validation no. 2 = test no. 0, train no. 0 = test no. 2, train no. 2 = validation no. 1, "
        "...",
    )
    assert duplicate_warnings(found.splits, "error", SOURCE) == ()


def test_drop_says_which_classes_contradict_each_other():
    paths = ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    found = without_duplicates(dataset(train=split([1, 2, 1, 3], [0, 0, 1, 1], paths)))
    assert found.splits["train"].paths.tolist() == ["a/0.png", "a/1.png", "b/1.png"]
    assert found.warnings[1:] == (
        f"{SOURCE}: 1 images are left out, because an image of another class has the same pixels: "
        "b/0.png = a/0.png",
    )


def test_drop_leaves_all_as_it_is_where_there_are_none():
    given = dataset(train=split([1, 2, 3]), test=split([4]))
    assert without_duplicates(given) is given


@pytest.mark.parametrize("name", ["train", "validation"])
def test_drop_of_a_whole_split_is_refused(name):
    splits = {"train": split([1, 2]), "validation": split([3, 4]), "test": split([9, 5, 6])}
    splits["test"] = split([*splits[name].digests.tolist(), 9])
    with pytest.raises(UserError) as caught:
        without_duplicates(dataset(**splits))
    assert str(caught.value) == (
        f'{SOURCE}: on_duplicates: found "drop", but every image of the {name} split is also in '
        f"another split; accepted: a {name} split with other images"
    )


def test_the_order_of_the_splits_and_the_seed_change_nothing():
    rng = np.random.default_rng(3)
    train, test = (split(rng.integers(0, 60, 80), rng.integers(0, 3, 80)) for _ in range(2))
    found = without_duplicates(dataset(train=train, test=test))
    other = without_duplicates(replace(dataset(test=test, train=train)))
    for name in ("train", "test"):
        one, two = found.splits[name], other.splits[name]
        np.testing.assert_array_equal(one.digests, two.digests)
        np.testing.assert_array_equal(one.labels, two.labels)
    both = np.concatenate([found.splits[name].digests for name in ("train", "test")])
    everything = {*train.digests.tolist(), *test.digests.tolist()}
    assert sorted(both.tolist()) == sorted(everything)
