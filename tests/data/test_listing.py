"""Folders of pictures: which are classes, which are splits, and what is said of them."""

import os
import sys
import unicodedata
from collections import Counter

import pytest

from src.data.listing import SPLIT_WORDS, split_of, walk
from src.errors import UserError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def classes(folder, **counts):
    """Make `counts` files in each class folder, called by the class's name with _ for spaces."""
    for name, count in counts.items():
        touch(folder, *(f"{name}/{number}.png" for number in range(count)))


def counted(listing):
    return Counter(zip(listing.splits, listing.classes, strict=True))


def refusal(folder):
    with pytest.raises(UserError) as caught:
        walk(folder)
    text = str(caught.value)
    assert "\n" not in text and "; accepted: " in text
    return text


SPLITS = {
    "train": "train Training TRAIN train2017 my-train mytrain trainset train_images trainImages "
    "01_train XTrain trainval minitrain training-images-v2 bounding_box_train train(1) trainingset "
    "TrainSets train.d",
    "validation": "val valid dev Eval validation VALIDATION val2017 devset minival Validation_Data "
    "ILSVRC2012_val cross-validation evaluation development imagesVal",
    "test": "test Test testing testA testset TESTSET test_pictures my.test testData x-test-y",
}


@pytest.mark.parametrize(
    ("name", "split"), [(name, split) for split, names in SPLITS.items() for name in names.split()]
)
def test_names_of_splits(name, split):
    assert split_of(name) == split
    assert split_of(name + " ") == split


CLASSES = (
    "trainers contest latest valley device interval carnival testimony strain restrained trained "
    "attest protest evil devil medieval value validator invalid Développer 3 ü tr"
)


@pytest.mark.parametrize("name", CLASSES.split())
def test_names_of_classes(name):
    assert split_of(name) is None


def test_class_folders(tmp_path):
    classes(tmp_path, dog=2, cat=3, trainers=1)
    listing = walk(tmp_path)
    assert counted(listing) == {
        ("train", "cat"): 3,
        ("train", "dog"): 2,
        ("train", "trainers"): 1,
    }
    assert listing.paths[:3] == ["cat/0.png", "cat/1.png", "cat/2.png"]
    assert listing.origins == {"train": "the class folders"} and listing.warnings == []


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("train2017", "val2017", "test2017"),
        ("my-train", "dev", "TESTSET"),
    ],
)
@pytest.mark.parametrize("present", [(0,), (0, 1), (0, 2), (0, 1, 2)])
def test_split_folders(tmp_path, names, present):
    for position in present:
        classes(tmp_path / names[position], a=position + 1, b=4)
    listing = walk(tmp_path)
    splits = ("train", "validation", "test")
    assert counted(listing) == {
        (splits[position], name): count
        for position in present
        for name, count in (("a", position + 1), ("b", 4))
    }
    assert listing.origins == {splits[p]: f"the folder {names[p]}/" for p in present}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["cat", "train"], "cat: found beside train/, which looks like the train split; accepted"),
        (["bullet train", "car"], "car: found beside bullet train/, which looks like the train"),
        (["train", "trn"], "trn: found beside train/, which looks like the train split"),
        (["testA", "testB", "trainA", "trainB"], "testB: found beside testA/, and both look like"),
        (["Train", "train"], "train: found beside Train/, and both look like the train split"),
        (["val", "valid", "train"], "valid: found beside val/, and both look like the validation"),
        (
            ["test"],
            "test: looks like the test split, but there is no train split; accepted: ",
        ),
        (["dev", "eval_set"], "eval_set: found beside dev/, and both look like the validation"),
        (["test", "val"], "test: looks like the test split, but there is no train split"),
    ],
)
def test_what_looks_like_splits_and_is_none(tmp_path, folders, expected):
    for name in folders:
        classes(tmp_path / name, a=2, b=2)
    assert refusal(tmp_path).startswith(f"{tmp_path}/{expected}")


def test_the_splits_of_each_class(tmp_path):
    for name in ("cat", "dog"):
        classes(tmp_path / name, train=2, test=2)
    assert refusal(tmp_path).startswith(
        f"{tmp_path / 'cat'}: found test/ and train/ in a class folder; accepted: split folders"
    )


def test_a_wrapper_of_splits(tmp_path):
    for name in ("train", "test"):
        classes(tmp_path / "dataset" / name, a=2, b=2)
    text = refusal(tmp_path)
    assert "found test/ and train/ in a class folder" in text
    assert text.endswith("or an image_dir that ends in dataset")


def test_a_class_may_have_one_folder_of_such_a_name(tmp_path):
    touch(tmp_path, "car/front/0.png", "car/test drive/1.png", "boat/0.png")
    assert counted(walk(tmp_path)) == {("train", "car"): 2, ("train", "boat"): 1}


def test_classes_within_a_split_may_have_any_name(tmp_path):
    classes(tmp_path / "train", train=2, test=3)
    assert counted(walk(tmp_path)) == {("train", "train"): 2, ("train", "test"): 3}


def test_what_is_passed_over_is_said(tmp_path):
    classes(tmp_path, cat=1, dog=1)
    touch(tmp_path, "a.png", "b.png", "notes.txt", "z.csv", ".hidden", "cat/.DS_Store")
    touch(tmp_path, ".git/x.png", "empty/Thumbs.db")
    (tmp_path / "void").mkdir()
    listing = walk(tmp_path)
    assert len(listing.paths) == 2
    assert listing.warnings == [
        f"{tmp_path}: empty class folders: empty, void",
        f"{tmp_path}: ignored files outside the class folders: a.png, b.png, notes.txt, ... "
        "(4 in all)",
    ]


def test_what_is_passed_over_in_splits_is_said(tmp_path):
    classes(tmp_path / "train", cat=1, dog=1)
    touch(tmp_path, "loose.png", "train/loose2.png")
    (tmp_path / "test" / "cat").mkdir(parents=True)
    assert walk(tmp_path).warnings == [
        f"{tmp_path}: ignored files outside the split folders: loose.png",
        f"{tmp_path / 'test'}: empty class folders: cat",
        f"{tmp_path / 'train'}: ignored files outside the class folders: loose2.png",
    ]


def test_names_that_are_one(tmp_path):
    touch(tmp_path, "cat/0.png", " cat/1.png", "'cat'/2.png", "dog/3.png")
    listing = walk(tmp_path)
    assert counted(listing) == {("train", "cat"): 3, ("train", "dog"): 1}
    assert listing.warnings == [
        f"{tmp_path}: normalised class names: ' cat' to 'cat', ''cat'' to 'cat'"
    ]


@pytest.mark.skipif(sys.platform == "darwin", reason="the file system has one form")
def test_unicode_forms_are_one(tmp_path):
    forms = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    touch(tmp_path, "bar/0.png", f"{forms[1]}/0.png")
    listing = walk(tmp_path)
    assert set(listing.classes) == {"bar", "café"} and listing.warnings == []
    touch(tmp_path, f"{forms[0]}/1.png")
    listing = walk(tmp_path)
    assert counted(listing) == {("train", "bar"): 1, ("train", "café"): 2}
    assert listing.warnings == [
        f"{tmp_path}: normalised class names: 'café' from another Unicode form"
    ]


def test_names_that_are_nearly_one(tmp_path):
    classes(tmp_path / "train", Cat=1, dog=1)
    classes(tmp_path / "test", cat=1, dog=1)
    assert walk(tmp_path).warnings == [
        f"{tmp_path}: nearly equal class names, kept as separate classes: 'cat' and 'Cat'"
    ]


@pytest.mark.parametrize("name", [" ", "\u200b", "\ufeff \u00a0"])
def test_a_name_that_cannot_be_read(tmp_path, name):
    touch(tmp_path, f"{name}/0.png", "dog/0.png")
    assert "a class folder with an invisible name" in refusal(tmp_path)


def test_links(tmp_path):
    classes(tmp_path, cat=1, dog=1)
    os.symlink("circle", tmp_path / "circle")
    os.symlink(tmp_path / "dog", tmp_path / "hound")
    os.symlink(tmp_path / "dog", tmp_path / "cat" / "inner")
    os.symlink("nowhere", tmp_path / "cat" / "gone.png")
    listing = walk(tmp_path)  # a link to a folder is as a file, which is then a bad picture
    assert listing.paths == ["cat/0.png", "cat/gone.png", "cat/inner", "dog/0.png", "hound"]
    assert listing.warnings == [f"{tmp_path}: ignored files outside the class folders: circle"]


@pytest.mark.parametrize("is_file", [False, True])
def test_no_folder(tmp_path, is_file):
    if is_file:
        touch(tmp_path, "pictures")
    assert refusal(tmp_path / "pictures").startswith(f"{tmp_path / 'pictures'}: No")


@pytest.mark.usefixtures("obeys_permissions")
@pytest.mark.parametrize("name", [".", "cat", "cat/deep"])
def test_a_folder_that_may_not_be_read(tmp_path, name):
    touch(tmp_path, "cat/deep/0.png", "dog/0.png")
    (tmp_path / name).chmod(0)
    try:
        assert "Permission denied" in refusal(tmp_path)
    finally:
        (tmp_path / name).chmod(0o700)


def test_names_are_escaped_in_messages(tmp_path):
    touch(tmp_path, "train/\x1b[31m/0.png", "a\nb/0.png")
    assert refusal(tmp_path).startswith(f"{tmp_path}/a\\nb: found beside train/")
    (tmp_path / "a\nb" / "0.png").unlink()
    (tmp_path / "a\nb").rmdir()
    listing = walk(tmp_path)
    assert listing.classes == ["\\x1b[31m"] and listing.warnings == []


def test_every_split_word_is_one_itself():
    assert all(split_of(word) == split for word, split in SPLIT_WORDS.items())
