"""What is said of the data before training, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data.holdout import hold_out
from src.data.loading import Data
from src.data.split import SPLITS, Split
from src.errors import UserError
from src.experiment.facts import check_facts, check_training, check_without_data, describe
from src.params.metric_names import BEST_METRICS
from src.params.schema import Params

PATH = Path("experiments/x/params.json")


def split(labels, size=(4, 4), num_classes=None):
    labels = np.array(labels, np.int32)
    names = tuple(f"c{n}" for n in range(num_classes or labels.max() + 1))
    return Split(np.zeros((len(labels), *size, 1), np.uint8), labels, names)


def classes(num_classes, size):
    return np.repeat(np.arange(num_classes), size)


def facts(params, train, test=(0, 1), **keys):
    return check_facts(params, {"train": split(train, **keys), "test": split(test, **keys)}, PATH)


def lines(train, validation=(0, 0, 1, 1), params=None, **keys):
    splits = {"train": split(train), "validation": split(validation)}
    found = check_training(params or Params(**keys), splits, PATH)
    assert all(line.startswith(f"{PATH}: ") and "\n" not in line for line in found)
    return [line.removeprefix(f"{PATH}: ") for line in found]


def test_a_loss_of_directions_beside_metrics_of_distances():
    balanced = classes(3, 40)
    said = "l2_normalize: found false with distance cosine: the loss ignores the length"
    assert lines(balanced, distance="cosine")[0].startswith(said)
    for keys in ({"distance": "cosine", "l2_normalize": True}, {"distance": "euclidean"}):
        assert lines(balanced, **keys) == []


@pytest.mark.parametrize(
    ("poses", "found"),
    [
        (["mirror"], "'mirror'; accepted: others, because .* makes it of the images them"),
        (["rot90", "mirror_rot270"], "'rot90'; accepted: others, because .* of 'mirror_rot270'"),
        (["mirror_rot180", "rot180"], "of 'rot180'"),
        (["rot90", "mirror_rot90"], None),
        (["rot90", "rot180", "rot270"], None),
    ],
)
def test_extra_classes_that_a_flip_makes_of_others(poses, found):
    check_without_data(Params(extra_classes=poses), PATH)
    flipped = Params(extra_classes=poses, augment={"flip": True})  # what was trained can be read
    assert facts(flipped, classes(3, 2)) == []
    if found is None:
        check_without_data(flipped, PATH)
        return
    with pytest.raises(UserError, match=f"extra_classes: found .*{found}"):
        check_without_data(flipped, PATH)


def test_groups_of_extra_data_have_no_effect():
    extra = {"dataset": "hugging_face", "hf_name": "a/b", "group_column": "person"}
    with pytest.raises(UserError, match=r'extra_data\[0\].group_column: found "person"; acc'):
        check_without_data(Params(extra_data=[extra]), PATH)


# What params state of the data


def test_facts_that_are_right():
    params = Params(image_size=4, num_labels=3, train_size=6, eval_size=3)
    assert facts(params, classes(3, 2), classes(3, 1)) == []


@pytest.mark.parametrize(
    ("keys", "size", "expected"),
    [
        (
            {"image_size": 5},
            (4, 4),
            "image_size: found 5; accepted: 4 x 4, the image size of mnist",
        ),
        (
            {"image_size": 4},
            (4, 6),
            "image_size: found 4; accepted: 4 x 6, the image size of mnist",
        ),
        (
            {"num_labels": 10},
            (4, 4),
            "num_labels: found 10; accepted: 3, the number of classes of mnist",
        ),
    ],
)
def test_other_data_than_the_params_are_for(keys, size, expected):
    with pytest.raises(UserError) as caught:
        facts(Params(**keys), classes(3, 2), classes(3, 1), size=size)
    assert str(caught.value).startswith(f"{PATH}: {expected}")


def test_sizes_that_differ_are_said():
    assert facts(Params(train_size=7, eval_size=3), classes(3, 2), classes(3, 1)) == [
        f"{PATH}: train_size: found 7, but the data have 6; 6 is used"
    ]


# Batches


def test_nothing_is_said_of_good_data():
    assert lines(classes(10, 60), classes(10, 10)) == []
    assert lines(classes(3, 20), classes_per_batch=3, examples_per_class=5) == []


@pytest.mark.parametrize("labels", [[0] * 9, range(9)])
def test_no_triplet_at_all(labels):
    with pytest.raises(UserError, match="accepted: at least two classes, one of them with at"):
        lines(labels)


def test_p_x_k_beyond_the_classes():
    found = lines(classes(5, 4), classes_per_batch=8, examples_per_class=5)
    assert found == [
        "classes_per_batch: found 8, but the train split has 5 classes; all are used",
        "examples_per_class: found 5, but 5 of 5 classes have fewer images (at least 4): all of "
        "them are used",
    ]


def test_p_x_k_is_looked_at_after_classes_are_held_out_and_extra_ones_added():
    params = {
        "classes_per_batch": 8,
        "examples_per_class": 2,
        "holdout_classes": ["c0", "c1", "c2"],
    }
    splits = {name: split(classes(8, 4)) for name in SPLITS}

    def found(**keys):
        asked = Params(**params, **keys)
        return check_training(asked, hold_out(splits, asked, PATH), PATH)

    assert found() == [
        f"{PATH}: classes_per_batch: found 8, but the train split has 5 classes; all are used"
    ]
    assert found(extra_classes=("mirror",)) == []  # ten


def test_one_image_a_class_is_left_after_classes_are_held_out():
    labels = [0] * 9 + [1] * 9 + list(range(2, 9))
    params = Params(holdout_classes=["c0", "c1"])
    splits = {
        "train": split(labels),
        "validation": split(classes(9, 2)),
        "test": split(classes(9, 2)),
    }
    with pytest.raises(
        UserError, match="the train split has 7 classes, the largest with 1 examples"
    ):
        check_training(params, hold_out(splits, params, PATH), PATH)


def test_whitening_needs_two_images_of_a_class_that_differ():
    """It is refused before `--overwrite` removes anything, which fitting the layer comes after."""
    images = split([0, 0, 1, 1, 2])
    others = np.array([7, 7, 8, 8, 9], np.uint64)

    def found(digests=others, extra_data=None, **keys):
        splits = {"train": replace(images, digests=digests), "validation": images}
        check_training(Params(embedding_whitening=0.5, **keys), splits, PATH, extra_data)

    with pytest.raises(UserError) as caught:
        found()
    assert str(caught.value) == (
        f"{PATH}: embedding_whitening: found 0.5; accepted: null, because no class of the train "
        "split has two images that differ"
    )
    with pytest.raises(UserError):
        found(extra_data=replace(images, digests=others))
    found(others + np.arange(5, dtype=np.uint64))
    found(extra_data=replace(images, digests=others + np.arange(5, dtype=np.uint64)))
    found(augment={"flip": True})  # an image and its mirror image differ


@pytest.mark.parametrize(("num_classes", "size"), [(600, 4), (3000, 2), (200, 3)])
def test_steps_without_a_triplet_and_values_that_fit(num_classes, size):
    (line,) = lines(classes(num_classes, size), batch_size=16)
    assert " steps of an epoch have no triplet, so nothing is learned in them; " in line
    values = [int(word.strip('";,')) for word in line.split() if word.strip('";,').isdigit()]
    without, steps, classes_per_batch, examples_per_class = values
    assert without > 0.1 * steps and steps == -(-num_classes * size // 16)
    cured = {"classes_per_batch": classes_per_batch, "examples_per_class": examples_per_class}
    assert lines(classes(num_classes, size), batch_size=16, **cured) == []
    assert classes_per_batch * examples_per_class <= 16 and examples_per_class <= size


def test_a_few_steps_without_a_triplet_are_said_without_advice():
    found = lines(classes(40, 12), batch_size=16)
    assert len(found) == 1 and found[0].endswith("have no triplet, so nothing is learned in them")


@pytest.mark.parametrize(
    "keys",
    [{}, {"triplet_strategy": "offline"}, {"classes_per_batch": 4, "examples_per_class": 2}],
)
def test_no_values_are_named_that_would_not_help(keys):
    (line, *_) = lines([*range(1000), 1000, 1000], batch_size=8, **keys)[-1:]
    assert line.endswith("nothing is learned in them: most classes have a single image")


# Validation


@pytest.mark.parametrize("metric", BEST_METRICS)
def test_validation_that_cannot_choose(metric):
    train = classes(10, 20)
    assert lines(train, classes(10, 2), best_metric=metric) == []
    (line,) = lines(train, range(10), best_metric=metric)
    assert line.startswith(
        f"best_metric: {metric} is undefined on the validation split, which has no two images of "
        "one class; the latest checkpoint is kept as the best, and patience has no effect; to "
        "change this: "
    )
    assert '"validation_by": "class"' in line
    one_class = lines(train, [3, 3, 3], best_metric=metric)
    is_retrieval = "_within" in metric
    assert bool(one_class) != is_retrieval


def test_a_validation_split_of_its_own_is_not_made_larger_by_keys():
    splits = {"train": split(classes(4, 100)), "validation": split([0, 1, 2, 3])}
    (line,) = check_training(Params(), splits, PATH, own_validation=True)
    assert line.endswith("; to change this: more images per class in it")


@pytest.mark.parametrize("metric", ["map_at_r_within", "roc_auc", "ami", "loss"])
@pytest.mark.parametrize("kind", ["groups", "roles"])
def test_validation_whose_queries_find_nothing(metric, kind):
    """Groups, queries and galleries do not concern metrics of all images."""
    labels = classes(4, 6)
    if kind == "groups":
        changes = {"groups": labels.astype(np.int32)}
        what = "no two images of one class in two groups; "
        cure = "a larger validation_fraction, more groups per class"
    else:
        changes = {"is_query": labels < 2, "is_gallery": labels >= 2}
        what = "no query with another image of its class in the gallery; "
        cure = "such images in the gallery"
    validation = replace(split(labels), **changes)
    splits = {"train": split(classes(4, 100)), "validation": validation}
    keys = {"exclude_same_group": kind == "groups", "validation_by": "class"}
    found = check_training(Params(best_metric=metric, **keys), splits, PATH)
    if metric in ("ami", "loss"):
        assert found == []
    else:
        (line,) = found
        assert f"{metric} is undefined on the validation split, which has {what}" in line
        assert line.endswith(f"to change this: {cure}")


# The start lines


def data_of(**labels):
    num_classes = 1 + max(max(values) for values in labels.values())
    splits = {name: split(values, num_classes=num_classes) for name, values in labels.items()}
    nothing = dict.fromkeys(SPLITS, np.empty(0, np.int64))
    origins = {name: f"{name} file" for name in SPLITS}
    return Data(splits, nothing, nothing, origins, "image")


def described(data, **keys):
    params = Params(**keys)
    return describe(data, hold_out(data.splits, params, PATH), params)


def test_the_start_lines():
    data = data_of(train=[0] * 40 + [1] * 10 + [2] * 3, validation=[0, 1], test=[0, 1, 2, 3])
    assert described(data, batch_size=2, num_epochs=4) == [
        "4 classes, c0 to c3; images per class: 1 to 42, median 8",
        "train: train file; validation: validation file; test: test file",
        "test: 1 of its 4 classes are not in train",
    ]


def test_classes_that_are_not_trained_on_are_counted():
    data = data_of(train=[0, 1] * 999, validation=[2, 2, 3, 3], test=[0, 1, 2, 2])
    assert described(data)[2:] == [
        "validation: 2 of its 2 classes are not in train",
        "test: 1 of its 3 classes are not in train",
    ]


def test_classes_held_out_are_named():
    data = data_of(**dict.fromkeys(SPLITS, classes(20, 30)))
    line = described(data, holdout_classes=["c7", "c13"])[2]
    assert line == "unseen: all images of the held-out classes, c7, c13"
    line = described(data, holdout_classes=[f"c{n}" for n in range(12)])[2]
    assert line.endswith("c8, c9, ... (12 in all)")


@pytest.mark.parametrize(
    ("num_images", "expected"),
    [(20, "1 step per epoch, 4 in total"), (448, "7 steps per epoch, 28 in total"), (6400, None)],
)
def test_an_epoch_of_a_few_steps_is_said(num_images, expected):
    data = data_of(train=np.arange(num_images) % 2, validation=[0, 1], test=[0, 1])
    assert described(data, num_epochs=4)[2:] == ([expected] if expected else [])
