"""Groups that stay on one side of a split, drawn, linked, resumed and warned of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data import loading
from src.data.groups import group_warnings, grouped_indices, linked
from src.data.loading import load_data
from src.data.split import Dataset, Split, share_with_positive
from src.errors import UserError
from src.params.schema import Params

PATH = Path("experiments/x/params.json")
FOLDER = {"dataset": "image_folder", "image_size": 8}


def split_of(labels, groups, first=0):
    labels, groups = np.array(labels, np.int32), np.array(groups, np.int32)
    pixels = np.arange(first, first + len(labels), dtype=np.uint8)[:, None, None, None]
    names = tuple(f"c{number}" for number in range(12))
    groups_by_name = tuple(f"g{number}" for number in range(60))
    return Split(pixels, labels, names, groups=groups, group_names=groups_by_name)


def load(monkeypatch, keys=None, kept=None, **splits):
    dataset = Dataset(Path("data/list.csv"), splits, dict.fromkeys(splits, "list.csv"))
    monkeypatch.setattr(loading, "look_up", lambda *_: lambda *_: dataset)
    params = Params(**FOLDER, **(keys or {}))
    return load_data(params, Path("data"), params_path=PATH, kept=kept)


def groups_by_split(data):
    return {name: set(split.groups.tolist()) for name, split in data.splits.items()}


def are_apart(found):
    return sum(map(len, found.values())) == len(set().union(*found.values()))


def series(num_classes, per_class, size):
    """Classes of some groups each, every group of one class and one size."""
    labels = np.repeat(np.arange(num_classes), per_class * size)
    groups = np.repeat(np.arange(num_classes * per_class), size)
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order].astype(np.int32), groups[order].astype(np.int32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("kind", ["within classes", "across classes", "uneven"])
def test_whole_groups_are_drawn(kind, fraction, seed):
    rng = np.random.default_rng(seed)
    labels, groups = series(6, 10, 4)
    if kind == "across classes":
        groups = rng.integers(0, 40, len(labels)).astype(np.int32)
    elif kind == "uneven":
        groups = np.minimum(rng.geometric(0.05, len(labels)), 50).astype(np.int32)
    count = round(fraction * len(labels))
    drawn = grouped_indices(labels, groups, count, seed)
    assert (np.diff(drawn) > 0).all() and 0 < len(drawn) < len(labels)
    assert not set(groups[drawn].tolist()) & set(np.delete(groups, drawn).tolist())
    # No group that remains would bring the number nearer to the wanted one.
    left = count - len(drawn)
    assert abs(left) <= np.bincount(groups).max()
    sizes = np.unique(np.delete(groups, drawn), return_counts=True)[1]
    assert (sizes >= 2 * left).all() or len(sizes) == 1


def test_classes_have_their_share_of_whole_groups():
    labels, groups = series(5, 10, 6)
    drawn = grouped_indices(labels, groups, 60, seed=3)  # a fifth of 300
    assert np.bincount(labels[drawn]).tolist() == [12] * 5


def test_a_class_of_one_group_is_drawn_last():
    # Class 0 has one group of 5; classes 1 and 2 have ten groups of 5 each.
    labels = np.repeat([0, *[1] * 10, *[2] * 10], 5).astype(np.int32)
    groups = np.repeat(np.arange(21), 5).astype(np.int32)
    for seed in range(10):
        assert 0 not in labels[grouped_indices(labels, groups, 25, seed)]


def test_the_seed_decides_ties():
    labels, groups = series(4, 8, 2)
    drawn = {tuple(grouped_indices(labels, groups, 16, seed).tolist()) for seed in range(10)}
    assert len(drawn) == 10
    one, again = (grouped_indices(labels, groups, 16, 5).tolist() for _ in range(2))
    assert one == again


@pytest.mark.parametrize(
    ("groups", "count", "drawn"),
    [([0, 0, 0, 0], 2, []), ([0, 1, 1, 1], 0, []), ([0, 0, 1, 1, 1], 1, [0, 1]), ([], 0, [])],
)
def test_few_groups(groups, count, drawn):
    groups = np.array(groups, np.int32)
    assert grouped_indices(np.zeros_like(groups), groups, count, seed=0).tolist() == drawn


def test_many_groups_are_drawn_fast():
    groups = np.arange(30_000, dtype=np.int32) // 3
    labels = (groups % 1000).astype(np.int32)
    drawn = grouped_indices(labels, groups, 6000, seed=0)
    assert abs(len(drawn) - 6000) <= 1


def test_linked_is_the_closure_over_classes_and_groups():
    rng = np.random.default_rng(0)
    for _ in range(20):
        labels, groups = (rng.integers(0, 12, 15).astype(np.int32) for _ in range(2))
        expected = np.arange(15)
        for _ in range(15):  # the definition: the smallest number spreads until nothing changes
            for one in range(15):
                for other in range(15):
                    if labels[one] == labels[other] or groups[one] == groups[other]:
                        expected[one] = min(expected[one], expected[other])
        found = linked(labels, groups)
        same = expected[:, None] == expected
        np.testing.assert_array_equal(found[:, None] == found, same)


@pytest.mark.parametrize(
    ("labels", "groups", "share"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 2], 0.5),
        ([0, 0, 1], [0, 1, 2], 2 / 3),
        ([0, 0], [5, 5], 0.0),
        ([], [], None),
    ],
)
def test_share_with_a_positive_of_another_group(labels, groups, share):
    assert share_with_positive(np.int32(labels), np.int32(groups)) == (
        None if share is None else pytest.approx(share)
    )


@pytest.mark.parametrize("by", [None, "image", "class"])
@pytest.mark.parametrize("seed", range(3))
def test_groups_stay_on_one_side_of_the_splits_we_make(monkeypatch, by, seed):
    labels, groups = series(10, 5, 3)
    keys = {"validation_by": by, "seed": seed}
    data = load(monkeypatch, keys, train=split_of(labels, groups))
    assert are_apart(groups_by_split(data)) and not any("group" in line for line in data.warnings)
    assert data.validation_by == (by or "image")
    assert "whole groups" in data.origins["test"] and "whole groups" in data.origins["validation"]
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes["test"] == 30 and abs(sizes["validation"] - 20) <= 5
    if by == "class":
        kept = {name: set(split.labels.tolist()) for name, split in data.splits.items()}
        assert not kept["train"] & kept["validation"]


def test_positives_of_the_same_group_alone_make_validation_by_class(monkeypatch):
    # Every class has 4 groups of 2: a validation split by image has one group of a class.
    labels, groups = series(8, 4, 2)
    given = {"train": split_of(labels, groups), "test": split_of(labels[:4], groups[:4], 100)}
    del given["test"]
    assert load(monkeypatch, {"validation_fraction": 0.25}, **given).validation_by == "image"
    keys = {"validation_fraction": 0.25, "exclude_same_group": True}
    data = load(monkeypatch, keys, **given)
    assert data.validation_by == "class" and are_apart(groups_by_split(data))


def test_cameras_that_saw_everybody_cannot_validate_by_class(monkeypatch):
    labels = np.repeat(np.arange(10), 6)
    cameras = np.tile(np.arange(6), 10)
    given = {"train": split_of(labels, cameras)}
    with pytest.raises(UserError) as caught:
        load(monkeypatch, {"validation_by": "class"}, **given)
    assert str(caught.value) == (
        'data/list.csv: validation_by: found "class", but classes and groups do not leave 4 sets '
        'of linked images, 3 of them with two or more; accepted: "image", or a validation split of '
        "the dataset's own"
    )
    assert are_apart(groups_by_split(load(monkeypatch, **given)))


def test_one_group_cannot_be_split(monkeypatch):
    with pytest.raises(UserError) as caught:
        load(monkeypatch, train=split_of([0, 0, 1, 1, 2, 2], [7] * 6))
    assert str(caught.value) == (
        "data/list.csv: split validation: found 0 examples (validation_fraction 0.1667, "
        "test_fraction 0.2 of 6 in 1 groups); accepted: at least 1, of a group of its own"
    )


def test_given_splits_that_break_groups_are_named(monkeypatch):
    labels = [0, 0, 1, 1, 2, 2]
    data = load(
        monkeypatch,
        train=split_of(labels, [1, 2, 3, 4, 5, 6]),
        validation=split_of(labels, [1, 10, 11, 12, 13, 14], 100),
        test=split_of(labels, [1, 10, 20, 21, 22, 6], 200),
    )
    assert data.warnings[-1] == (
        "data/list.csv: 3 of 14 groups are in several splits, which inflates the metrics unless "
        "exclude_same_group is true: g1 (train, validation, test), g6 (train, test), g10 "
        "(validation, test)"
    )
    (line,) = group_warnings(data.splits, [], Path("x"), apart=True)
    assert line.startswith("x: 3 of 14 groups are in several splits: g1 (train, validation, test)")


def test_groups_of_held_out_and_of_other_classes_are_named():
    splits = {"train": split_of([0, 1, 2, 3], [4, 4, 5, 6]), "test": split_of([2, 1], [7, 8])}
    assert group_warnings(splits, [1], Path("x.csv")) == (
        "x.csv: 1 groups have images of held-out classes and of others: g4",
    )
    assert group_warnings(splits, [], Path("x.csv")) == ()
    plain = {name: replace(split, groups=None) for name, split in splits.items()}
    assert group_warnings(plain, [1], Path("x.csv")) == ()


def test_no_groups_to_exclude(monkeypatch):
    plain = replace(split_of([0, 0, 1, 1], [0, 1, 2, 3]), groups=None)
    with pytest.raises(UserError) as caught:
        load(monkeypatch, {"exclude_same_group": True}, train=plain, test=plain)
    assert str(caught.value) == (
        f"{PATH}: exclude_same_group: found true; accepted: false, because data/list.csv states "
        "no groups (column group of a CSV file, group_column of a "
        "table, array group of an .npz file)"
    )


@pytest.mark.parametrize(("left", "missing"), [("is_query", "gallery"), ("is_gallery", "query")])
def test_nothing_of_a_role_is_left(monkeypatch, left, missing):
    """Images that were left out had the other role; what remains is not evaluated otherwise."""
    train = split_of([0, 0, 1, 1, 2, 2], range(6))
    no, yes = np.zeros(6, bool), np.ones(6, bool)
    train = replace(train, is_query=no, is_gallery=no)
    test = replace(train, **{left: yes})
    with pytest.raises(UserError) as caught:
        load(monkeypatch, train=train, validation=train, test=test)
    assert str(caught.value) == (
        f"data/list.csv: found no {missing} in the test split, after images were left out; "
        "accepted: queries and a gallery"
    )


class Kept:
    """The splits of an earlier run: those of the first examples, by position."""

    def __init__(self, places, validation_by):
        self.places, self.validation_by = places, validation_by

    def of(self, splits):
        rows = np.full(len(splits["train"]), -1, np.int8)
        rows[: len(self.places)] = self.places
        return {"train": rows}


@pytest.mark.parametrize("by", ["image", "class"])
def test_new_images_follow_their_group(monkeypatch, by):
    labels, groups = series(10, 5, 3)
    before = load(monkeypatch, {"validation_by": by}, train=split_of(labels, groups))
    places = np.zeros(len(labels), np.int8)
    for number, name in enumerate(("train", "validation", "test")):
        places[np.asarray(before.splits[name].images)[:, 0, 0, 0]] = number
    # Twenty more of known groups, ten more of new groups of the same classes.
    again = np.random.default_rng(1).integers(0, len(labels), 20)
    new = np.repeat(np.arange(50, 55), 2)
    labels = np.concatenate([labels, labels[again], np.repeat(np.arange(5), 2)])
    groups = np.concatenate([groups, groups[again], new])
    data = load(monkeypatch, kept=Kept(places, by), train=split_of(labels, groups))
    assert are_apart(groups_by_split(data))
    for number, name in enumerate(("train", "validation", "test")):
        now = np.asarray(data.splits[name].images)[:, 0, 0, 0]
        assert set(np.flatnonzero(places == number).tolist()) <= set(now.tolist())


def test_new_images_that_link_classes_of_train_and_validation(monkeypatch):
    """Only the new group with a class of train is trained on; known groups decide first."""
    labels, groups = series(8, 3, 2)
    before = load(monkeypatch, {"validation_by": "class"}, train=split_of(labels, groups))
    assert before.warnings == ()
    places = np.zeros(len(labels), np.int8)
    for number, name in enumerate(("train", "validation", "test")):
        places[np.asarray(before.splits[name].images)[:, 0, 0, 0]] = number
    in_train, *_ = sorted(set(before.splits["train"].labels.tolist()))
    one, other, *_ = sorted(set(before.splits["validation"].labels.tolist()))
    # Group 50 links `one` with a class of train, 51 `one` with `other`; 52 is a new class of 50's.
    new = [(one, 50), (in_train, 50), (9, 50), (one, 51), (other, 51), (9, 52), (in_train, 53)]
    labels, groups = np.array([*zip(labels, groups, strict=True), *new]).T
    for extra, expected, said in (
        ([], [0, 0, 0, 1, 1, None, 0], f"1 of its 2 classes are {{}}: c{one}"),
        (
            [(in_train, before.splits["validation"].groups[0])],
            [0, 0, 0, 1, 1, None, 0, 1],
            f"2 of its 3 classes are {{}}: c{in_train}, c{one}",
        ),
    ):
        rows = np.array([*zip(labels, groups, strict=True), *extra])
        data = load(monkeypatch, kept=Kept(places, "class"), train=split_of(*rows.T))
        found = np.full(len(rows), -1)
        for number, name in enumerate(("train", "validation", "test")):
            found[np.asarray(data.splits[name].images)[:, 0, 0, 0]] = number
        new_places = found[len(places) :].tolist()
        assert new_places[5] != 1  # the only one drawn for test
        assert [*new_places[:5], None, *new_places[6:]] == expected
        assert are_apart(groups_by_split(data))
        why = "trained on too, because new images keep to their groups"
        assert data.warnings == (f"data/list.csv: validation_by: {said.format(why)}",)
