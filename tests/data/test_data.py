"""The splits of an experiment: those that a dataset has, those drawn, and those kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data import loading as data_module
from src.data.loading import load_data
from src.data.split import SPLITS, Dataset, Split
from src.errors import UserError
from src.params.schema import Params

SOURCE = Path("data/things")


def split_of(labels, first=0, num_classes=None):
    """Images of one pixel of two channels, which tell each one's number, from `first` on."""
    labels = np.array(labels, np.int32)
    numbers = first + np.arange(len(labels))
    pixels = np.stack([numbers // 256, numbers % 256], axis=-1).astype(np.uint8)
    names = tuple(f"c{label}" for label in range(num_classes or labels.max() + 1))
    return Split(pixels[:, None, None, :], labels, names)


def numbers(split):
    pixels = np.asarray(split.images)[:, 0, 0].astype(int)
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


@pytest.fixture
def use(monkeypatch):
    """`use(train=[labels], ...)`: what the dataset of every params holds from now on."""

    def choose(**labels):
        num_classes = 1 + max(max(values) for values in labels.values())
        splits = {
            name: split_of(values, 10_000 * position, num_classes)
            for position, (name, values) in enumerate(labels.items())
        }
        dataset = Dataset(SOURCE, splits, {name: f"{name} file" for name in splits})
        monkeypatch.setattr(data_module, "look_up", lambda *_: lambda *_: dataset)
        return dataset

    return choose


def sorted_numbers(data):
    return sorted(number for split in data.splits.values() for number in numbers(split))


def counts(split):
    return np.bincount(split.labels, minlength=len(split.class_names)).tolist()


def refusal(params, **keys):
    with pytest.raises(UserError) as caught:
        load_data(params, Path("data"), **keys)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_own_splits_are_taken_as_they_are(use):
    dataset = use(train=[0, 1] * 10, validation=[0, 1] * 4, test=[1, 0] * 6)
    data = load_data(Params(), Path("data"))
    assert data.validation_by == "dataset"
    for name in SPLITS:
        assert data.splits[name].images is dataset.splits[name].images  # nothing is copied
        assert set(data.own[name].tolist()) == {SPLITS.index(name)}
        assert data.rows[name].tolist() == list(range(len(dataset.splits[name])))
    assert data.origins == {name: f"{name} file" for name in SPLITS}


def test_a_drawn_validation_split(use):
    use(train=[0, 1, 2] * 20, test=[0, 1, 2])
    data = load_data(Params(validation_fraction=0.25), Path("data"))
    assert counts(data.splits["validation"]) == [5] * 3 and data.validation_by == "image"
    assert counts(data.splits["train"]) == [15] * 3
    assert sorted_numbers(data) == [*range(60), *range(10_000, 10_003)]
    assert data.origins["validation"] == "25 % of train, stratified by class"
    # Where each example is from.
    for name in ("train", "validation"):
        assert data.rows[name].tolist() == numbers(data.splits[name])
        assert set(data.own[name].tolist()) == {0}


def test_drawn_splits_of_one_file(use):
    use(train=[0, 1] * 50)
    params = Params(
        dataset="image_folder", image_size=8, test_fraction=0.2, validation_fraction=0.25
    )
    data = load_data(params, Path("data"))
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }
    assert data.origins == {
        "train": "train file",
        "validation": "25 % of the rest of train, stratified by class",
        "test": "20 % of train, stratified by class",
    }
    other_seed = load_data(params.model_copy(update={"seed": 1}), Path("data"))
    assert numbers(other_seed.splits["test"]) == numbers(data.splits["test"])
    assert numbers(other_seed.splits["validation"]) != numbers(data.splits["validation"])
    again = load_data(params, Path("data"))
    assert all(numbers(again.splits[name]) == numbers(data.splits[name]) for name in SPLITS)


GRID = [
    (num_classes, size)
    for num_classes in (2, 3, 4, 5, 10, 40, 200)
    for size in (1, 2, 3, 4, 5, 6, 7, 10, 30)
    if num_classes * size > 3  # so that a sixth is one
]


@pytest.mark.parametrize(("num_classes", "size"), GRID)
def test_validation_can_choose_where_the_data_allow(use, num_classes, size):
    """By image as long as most of the images drawn have another of their class there."""
    use(train=np.repeat(np.arange(num_classes), size), test=[0, 1])
    data = load_data(Params(), Path("data"))
    validation, train = counts(data.splits["validation"]), counts(data.splits["train"])
    assert np.add(validation, train).tolist() == [size] * num_classes
    paired = sum(count for count in validation if count > 1)
    if data.validation_by == "class":
        assert {0, size} == set(validation) and size > 1  # whole classes
        assert len([c for c in validation if c]) >= 2 and len([c for c in train if c]) >= 2
        assert "whole classes" in data.origins["validation"]
        by_image = load_data(Params(validation_by="image"), Path("data"))
        drawn = counts(by_image.splits["validation"])
        assert sum(count for count in drawn if count > 1) < 0.5 * sum(drawn)
    else:
        assert "stratified by class" in data.origins["validation"]
        assert paired >= 0.5 * sum(validation) or num_classes < 4 or size == 1


@pytest.mark.parametrize("size", [2, 5, 30])
@pytest.mark.parametrize("by", ["image", "class"])
def test_validation_by_what_is_asked_for(use, by, size):
    use(train=np.repeat(np.arange(12), size), test=[0, 1])
    data = load_data(Params(validation_by=by), Path("data"))
    shared = set(data.splits["train"].labels) & set(data.splits["validation"].labels)
    assert data.validation_by == by and bool(shared) == (by == "image")
    assert abs(len(data.splits["validation"]) - 2 * size) <= size / 2


@pytest.mark.parametrize("labels", [[0, 1] * 9, [0, 1, 2] * 9, [0, 0, 1, 1, 2, 3], range(9)])
def test_too_few_classes_to_validate_by_class(use, labels):
    use(train=labels, test=[0, 1])
    assert refusal(Params(validation_by="class")) == (
        f'{SOURCE}: validation_by: found "class"; accepted: "image", or at least 4 training '
        "classes, 3 of them with two or more examples"
    )


def test_validation_by_beside_a_validation_split(use):
    use(train=[0, 1] * 9, validation=[0, 1], test=[0, 1])
    assert refusal(Params(validation_by="class"), params_path=Path("x/params.json")) == (
        f'x/params.json: validation_by: found "class"; accepted: null, because {SOURCE} '
        "has its own validation split"
    )


def test_classes_held_out_are_not_drawn_for_validation_by_class(use):
    use(train=np.repeat(np.arange(8), 5), test=[0, 1])
    held_out = ["c1", "c2", "c5"]
    for seed in range(8):
        params = Params(validation_by="class", holdout_classes=held_out, seed=seed)
        data = load_data(params, Path("data"))
        assert not {1, 2, 5} & set(data.splits["validation"].labels.tolist())
        assert len(set(data.splits["validation"].labels.tolist())) >= 2
        assert len(set(data.splits["train"].labels.tolist()) - {1, 2, 5}) >= 2
    assert "validation_by" in refusal(
        Params(validation_by="class", holdout_classes=["c1", "c2", "c3", "c4", "c5"])
    )


def test_whether_images_of_classes_held_out_have_a_positive_is_not_asked(use):
    # Many images of the classes held out, a few of the others: by image, those would have none.
    use(train=np.repeat(np.arange(20), [60, 60, *[4] * 18]), test=[0, 1])
    data = load_data(Params(), Path("data"))
    assert data.validation_by == "image"
    data = load_data(Params(holdout_classes=["c0", "c1"]), Path("data"))
    assert data.validation_by == "class"


def test_unknown_classes_are_named_before_anything_is_drawn(use):
    use(train=[0, 1, 2] * 9, test=[0, 1])
    text = refusal(Params(holdout_classes=["c7", "c1"]), params_path=Path("x/params.json"))
    assert text.startswith('x/params.json: holdout_classes: found "c7", which is not a')


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (
            {"test_fraction": 0.01},
            "split test: found 0 examples (test_fraction 0.01 of 20); accepted: at least 1",
        ),
        (
            {"validation_fraction": 0.01},
            "split validation: found 0 examples (validation_fraction",
        ),
        ({"validation_fraction": 0.99}, "split train: found 0 examples (validation_fraction"),
        (
            {"test_fraction": 0.95},
            "split validation: found 0 examples (validation_fraction 0.1667, test_fraction 0.95 of",
        ),
    ],
)
def test_a_split_that_would_be_empty(use, keys, expected):
    use(train=[0, 1] * 10)
    text = refusal(Params(dataset="image_folder", image_size=8, **keys))
    assert text.startswith(f"{SOURCE}: {expected}")


class Kept:
    """The membership of an earlier run: the split of each image, by its number."""

    def __init__(self, validation_by="image", **numbers_of):
        self.validation_by = validation_by
        self.where = {n: SPLITS.index(name) for name, ns in numbers_of.items() for n in ns}

    def of(self, splits):
        return {
            name: np.array([self.where.get(number, -1) for number in numbers(split)], np.int8)
            for name, split in splits.items()
        }


FOLDER = Params(dataset="image_folder", image_size=8, test_fraction=0.2, validation_fraction=0.25)


def test_those_of_before_stay_and_new_ones_are_dealt_out(use):
    use(train=[0, 1] * 10)
    before = {"train": range(0, 20, 2), "validation": range(1, 20, 4), "test": range(3, 20, 4)}
    kept = Kept(**before)
    data = load_data(FOLDER, Path("data"), kept=kept)
    assert {name: numbers(data.splits[name]) for name in SPLITS} == {
        name: list(ns) for name, ns in before.items()
    }
    assert "earlier runs" not in str(data.origins)  # there are no others
    use(train=[0, 1] * 50)
    data = load_data(FOLDER, Path("data"), kept=kept)
    new = {name: [n for n in numbers(data.splits[name]) if n >= 20] for name in SPLITS}
    for name, ns in before.items():
        assert set(ns) <= set(numbers(data.splits[name]))
    assert {name: len(ns) for name, ns in new.items()} == {
        "train": 48,
        "validation": 16,
        "test": 16,
    }
    assert data.origins["test"] == (
        "20 % of train, stratified by class; images of earlier runs keep their split"
    )


def test_those_that_have_moved_to_another_file_stay_where_they_were(use):
    use(train=[0, 1] * 5, validation=[0, 1] * 3, test=[0, 1] * 3)
    kept = Kept(
        "dataset", train=[0, 1, 2, 10_000, 20_000], test=[20_001, 20_002, 3], validation=[10_001]
    )
    data = load_data(Params(), Path("data"), kept=kept)
    assert sorted(numbers(data.splits["train"])) == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10_000, 20_000]
    assert {3, 20_001, 20_002} <= set(numbers(data.splits["test"]))
    assert data.own["train"].tolist() == [0] * 9 + [1, 2]
    assert data.rows["train"].tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 0, 0]
    assert data.splits["train"].labels[-2:].tolist() == [0, 0]
    assert sorted_numbers(data) == [*range(10), *range(10_000, 10_006), *range(20_000, 20_006)]


def test_new_images_beside_whole_classes(use):
    # Before: classes 0 to 3 of ten images, 0 and 1 for validation, and some of each for a test.
    labels = np.repeat(np.arange(4), 10).tolist()
    before = {
        "test": [0, 10, 20, 30],
        "validation": [*range(1, 10), *range(11, 20)],
        "train": [*range(21, 30), *range(31, 40)],
    }
    # Now: ten more of each, and 24 new classes.
    use(train=[*labels, *labels, *np.repeat(np.arange(4, 28), 10).tolist()])
    data = load_data(FOLDER, Path("data"), kept=Kept("class", **before))
    assert data.validation_by == "class"
    assert all(set(before[name]) <= set(numbers(data.splits[name])) for name in SPLITS)
    validation, train = (set(data.splits[n].labels.tolist()) for n in ("validation", "train"))
    assert not validation & train and {0, 1} <= validation and {2, 3} <= train
    assert len(validation) == 2 + 6  # a quarter of the new ones


@pytest.mark.parametrize("name", SPLITS)
def test_nothing_is_left_of_a_split(use, name):
    use(train=[0, 1] * 5)
    others = [other for other in SPLITS if other != name]
    kept = Kept(**{others[0]: range(5), others[1]: range(5, 10)})
    assert refusal(FOLDER, kept=kept) == (
        f"{SOURCE}: no image of the {name} split is left since training began; accepted: the data "
        "used for training; to start over, use --overwrite"
    )


def test_digests_are_made_where_a_dataset_has_none(use):
    dataset = use(train=[0, 1] * 5, validation=[0, 1], test=[0, 1])
    data = load_data(Params(), Path("data"))
    all_digests = np.concatenate([split.digests for split in data.splits.values()])
    assert len(set(all_digests.tolist())) == 14 and all_digests.dtype == np.uint64
    own = np.arange(10, dtype=np.uint64)
    dataset.splits["train"] = replace(dataset.splits["train"], digests=own)
    np.testing.assert_array_equal(load_data(Params(), Path("data")).splits["train"].digests, own)


def test_warnings_of_the_dataset_and_of_duplicates(use, monkeypatch):
    dataset = use(train=[0, 1] * 5, validation=[0, 1], test=[0, 1])
    dataset = replace(dataset, warnings=("of the files",))
    same = replace(dataset.splits["test"], images=dataset.splits["train"].images[:2])
    dataset.splits["test"] = same
    monkeypatch.setattr(data_module, "look_up", lambda *_: lambda *_: dataset)
    data = load_data(Params(), Path("data"))
    assert data.warnings[0] == "of the files" and len(data.warnings) == 2
    assert f"{SOURCE}: 4 images with equal pixels in several splits" in data.warnings[1]
    dropped = load_data(Params(on_duplicates="drop"), Path("data"))
    assert [len(dropped.splits[name]) for name in SPLITS] == [8, 2, 2]
