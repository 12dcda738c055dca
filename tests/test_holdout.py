"""Classes left out of training, and what cannot be left out."""

from pathlib import Path

import numpy as np
import pytest

from src.errors import UserError
from src.holdout import hold_out
from src.params import Params
from src.split import Split

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


@pytest.mark.parametrize("held_out", [[0, 3], ["boot", "shirt"], [0, "shirt"], ["shirt", 0]])
def test_labels_and_names(held_out):
    found = hold_out(splits(), Params(holdout_classes=held_out), PATH)
    assert {name: split.labels.tolist() for name, split in found.items()} == {
        "train": [1, 2, 4],
        "validation": [4, 2, 1],
        "test": [1, 2, 4],
        "unseen": [0, 0, 3, 3],
    }
    assert found["unseen"].images.ravel().tolist() == [0, 1, 4, 5]
    assert all(split.class_names == NAMES for split in found.values())


def test_a_number_is_a_label_and_text_is_a_name():
    assert hold_out(splits(), Params(holdout_classes=[2, 0]), PATH)["unseen"].labels.tolist() == [
        0,
        0,
        2,
    ]
    assert hold_out(splits(), Params(holdout_classes=["2", 0]), PATH)["unseen"].labels.tolist() == [
        0,
        0,
        4,
    ]


def test_unknown_classes():
    expected = "accepted: labels 0 to 4, or names: boot, coat, dress, shirt, 2"
    assert refusal([0, 5]).endswith(f"found 5; {expected}")
    assert refusal(["skirt", 0]).endswith(f"found 'skirt'; {expected}; did you mean 'shirt'?")


def test_the_same_class_twice():
    assert "of which two are the same class" in refusal([0, 1, "boot"])


@pytest.mark.parametrize(("held_out", "left"), [([0, 1, 2, 3, 4], 0), ([0, 1, 2, "2"], 1)])
def test_fewer_than_two_are_left(held_out, left):
    assert f"which leave {left} in the train split; accepted: so few that" in refusal(held_out)


def test_fewer_than_two_are_left_in_validation():
    assert "which leave 1 in the validation split" in refusal([0, 1], validation=(0, 1, 2))


def test_fewer_than_two_to_test():
    assert "of which the test split has 1; accepted: at least 2" in refusal([0, 1], test=(0, 2, 3))
