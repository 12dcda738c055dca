"""Classes left out of training, and what cannot be left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data.holdout import held_out_labels, hold_out
from src.data.split import Split
from src.errors import UserError
from src.params.schema import Params

NAMES = ("boot", "coat", "dress", "shirt", "2")
PATH = Path("experiments/x/params.json")


def split(labels):
    labels = np.array(labels, np.int32)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return Split(images, labels, NAMES)


def splits(train=(0, 1, 2, 3, 4), validation=(4, 3, 2, 1, 0), test=(0, 0, 1, 2, 3, 3, 4)):
    return {"train": split(train), "validation": split(validation), "test": split(test)}


def refusal(holdout_classes, **of_splits):
    with pytest.raises(UserError) as caught:
        hold_out(splits(**of_splits), Params(holdout_classes=holdout_classes), PATH)
    text = str(caught.value)
    assert text.startswith(f"{PATH}: holdout_classes: found ") and "\n" not in text
    return text


def test_none_leaves_all_as_it_is():
    given = splits()
    assert hold_out(given, Params(), PATH) == given


@pytest.mark.parametrize("held_out", [["boot", "shirt"], ["shirt", " boot "], ['"boot"', "shirt"]])
def test_names(held_out):
    found = hold_out(splits(), Params(holdout_classes=held_out), PATH)
    assert {name: split.labels.tolist() for name, split in found.items()} == {
        "train": [1, 2, 4],
        "validation": [4, 2, 1],
        "test": [1, 2, 4],
        # All of their images: those of train, then of validation, then of test.
        "unseen": [0, 3, 3, 0, 0, 0, 3, 3],
    }
    assert found["unseen"].images.ravel().tolist() == [0, 3, 1, 4, 0, 1, 4, 5]
    assert all(split.class_names == NAMES for split in found.values())


@pytest.mark.parametrize("held_out", [[2, "boot"], ["2", "boot"]])
def test_a_number_is_a_name_first(held_out):
    found = hold_out(splits(), Params(holdout_classes=held_out), PATH)
    assert set(found["unseen"].labels.tolist()) == {0, 4}


def test_a_position_is_no_name():
    text = refusal([1, "boot"])
    assert "found 1, which is not a class name (position 1 is the class 'coat'); accepted:" in text
    text = refusal([5, "boot"])
    assert "found 5, which is not a class name; accepted: class names: boot, coat" in text


def test_unknown_classes():
    text = refusal(["skirt", "boot"])
    assert text.endswith(
        'found "skirt", which is not a class name; accepted: class names: '
        "boot, coat, dress, shirt, 2; did you mean 'shirt'?"
    )


@pytest.mark.parametrize("again", ["boot", " boot", "'boot'"])
def test_the_same_class_twice(again):
    assert "found the class 'boot' twice; accepted: each class once" in refusal(
        ["boot", "coat", again]
    )


def test_classes_that_only_one_split_has():
    found = hold_out(
        splits(train=(0, 1, 2), validation=(0, 1), test=(3, 3, 4, 0, 1)),
        Params(holdout_classes=["shirt", "2"]),
        PATH,
    )
    assert found["unseen"].labels.tolist() == [3, 3, 4]
    assert found["train"].labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("held_out", "left"), [(list(NAMES), 0), (["boot", "coat", "dress", "2"], 1)]
)
def test_fewer_than_two_are_left(held_out, left):
    assert f"which leave {left} in the train split; accepted: fewer, so that" in refusal(held_out)


def test_fewer_than_two_are_left_in_validation():
    held_out = ["boot", "coat"]
    assert "which leave 1 in the validation split" in refusal(held_out, validation=(0, 1, 2))


def test_fewer_than_two_to_evaluate():
    text = refusal(["boot", "coat"], train=(0, 2, 3), validation=(0, 2, 3), test=(2, 3))
    assert "of which 1 have images; accepted: at least 2 with images" in text


def test_a_share_of_the_classes():
    names = tuple(f"c{number}" for number in range(20))
    labels = np.repeat(np.arange(20), 3).astype(np.int32)
    images = np.zeros((60, 1, 1, 1), np.uint8)
    given = dict.fromkeys(("train", "validation", "test"), Split(images, labels, names))
    drawn = set()
    for seed in range(5):
        params = Params(holdout_classes=0.25, seed=seed)
        found = hold_out(given, params, PATH)
        unseen = set(found["unseen"].labels.tolist())
        assert len(unseen) == 5 and len(found["unseen"]) == 45
        assert all(not unseen & set(found[name].labels.tolist()) for name in given)
        assert sorted(unseen) == held_out_labels(params, names, PATH)
        drawn.add(frozenset(unseen))
    assert len(drawn) > 1


@pytest.mark.parametrize(("share", "count"), [(0.1, 0), (0.3, 2), (0.9, 4), (0.6, 3)])
def test_a_share_of_few_classes(share, count):
    params = Params(holdout_classes=share)
    if 2 <= count <= 3:
        assert len(held_out_labels(params, NAMES, PATH)) == count
        return
    with pytest.raises(UserError) as caught:
        held_out_labels(params, NAMES, PATH)
    assert str(caught.value) == (
        f"{PATH}: holdout_classes: found {share}, which is {count} of 5 classes; accepted: a share "
        "that holds out at least 2 classes and leaves at least 2"
    )


def test_a_test_split_with_its_own_queries_is_not_taken_apart():
    roles = np.array([True] * 7)
    given = {**splits(), "test": replace(splits()["test"], is_query=roles, is_gallery=roles)}
    with pytest.raises(UserError) as caught:
        hold_out(given, Params(holdout_classes=["boot", "coat"]), PATH)
    assert "but the test split has its own queries and gallery (is_query" in str(caught.value)
