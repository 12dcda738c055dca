"""Arrays from .npz files: vectors and images, what is refused, and how vectors are shown."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.data.digests import digests_of
from src.data.heat_maps import HeatMaps
from src.data.loading import load_data
from src.embeddings.baselines import raw_pixels
from src.errors import UserError
from src.experiment.facts import check_facts
from src.params.schema import Augment, Params

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 5)).astype(np.float32), np.arange(12) % 3
PARAMS = Params(dataset="npz", network="mlp")


def load(tmp_path, params=PARAMS, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return load_data(params, tmp_path)


def refused(tmp_path, **arrays):
    with pytest.raises(UserError) as caught:
        load(tmp_path, **arrays)
    assert "\n" not in str(caught.value) and "data.npz" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors(tmp_path, dtype):
    x = np.asfortranarray(X.astype(dtype))
    data = load(tmp_path, x=x, y=Y, x_test=x[:4], y_test=Y[:4], extra=Y)
    test = data.splits["test"]
    assert test.holds_vectors and test.example_shape == (5,)
    assert test.images.dtype == np.float32
    np.testing.assert_array_equal(test.images, x[:4].astype(np.float32).reshape(4, 1, 5, 1))
    assert test.labels.tolist() == [0, 1, 2, 0] and test.class_names == ("0", "1", "2")
    assert sorted(data.rows["train"].tolist() + data.rows["validation"].tolist()) == [*range(12)]
    assert any("not used: extra" in line for line in data.warnings)
    assert len(set(digests_of(test.images).tolist())) == 4


def test_class_names_groups_and_the_names_of_keras(tmp_path):
    names = np.array(["oak", "ash", "elm"])
    groups = np.repeat(["a", "b", "c"], 4)
    data = load(tmp_path, x_train=X, y_train=Y, group_train=groups, class_names=names)
    train = data.splits["train"]
    assert train.class_names == ("ash", "elm", "oak")
    of_class = {"oak": 0, "ash": 1, "elm": 2}
    expected = [of_class[train.class_names[label]] for label in train.labels]
    assert expected == Y[data.rows["train"]].tolist()
    kept = {train.group_names[group] for group in train.groups}
    assert kept.isdisjoint(data.splits["test"].group_names[g] for g in data.splits["test"].groups)


def test_examples_without_a_group_are_groups_by_themselves(tmp_path):
    groups = np.array(["a", "", " ", "a"] * 3)
    splits = load(tmp_path, x=X, y=Y, group=groups).splits.values()
    found = sorted(split.group_names[group] for split in splits for group in split.groups)
    alone = [f"train/{row}" for row in range(12) if row % 4 in (1, 2)]
    assert found == sorted(["a"] * 6 + alone)


def test_a_group_that_is_named_as_an_example_without_one_is_another(tmp_path):
    groups = np.array(["", "train/0"] * 6)
    splits = load(tmp_path, x=X, y=Y, group=groups).splits.values()
    assert len({int(group) for split in splits for group in split.groups}) == 6 + 1


def test_names_that_are_not_utf_8_stay_apart(tmp_path):
    names = np.array([b"caf\xe9", b"caf\xe8"] * 6)
    assert len(load(tmp_path, x=X, y=names).splits["train"].class_names) == 2


def test_images(tmp_path):
    x = RNG.integers(0, 256, (12, 4, 6), dtype=np.uint8)
    split = load(tmp_path, Params(dataset="npz"), x=x, y=Y).splits["train"]
    assert split.images.shape[1:] == (4, 6, 1) and split.images.dtype == np.uint8
    assert split.pictures is split.images and not split.holds_vectors
    colours = load(tmp_path, x=np.stack([x] * 3, axis=3), y=Y).splits["train"]
    assert colours.images.shape[1:] == (4, 6, 3)


BAD = np.where(np.arange(60).reshape(12, 5) == 17, np.nan, X)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"x": X}, "found no array y"),
        (
            {"x": X, "y": Y, "class_names": np.array([], "U1")},
            "row 0: found '0'; accepted: labels from 0 to -1, as class_names has names",
        ),
        ({"y": Y}, "found no array x"),
        ({"x": X, "x_train": X, "y": Y}, "found x and x_train"),
        ({"x": BAD, "y": Y}, "row 3, column 2: found nan"),
        ({"x": X.astype(np.float64) * 1e60, "y": Y}, "finite numbers of float32"),
        ({"x": X[:, :0], "y": Y}, "at least one"),
        ({"x": X.astype(np.int64), "y": Y}, "float vectors"),
        ({"x": X.reshape(12, 5, 1), "y": Y}, "float vectors"),
        ({"x": np.zeros((2, 70_000), np.float32), "y": Y[:2]}, "at most 65536 numbers"),
        ({"x": X, "y": Y[:5]}, r"whole numbers or text \[12\]"),
        ({"x": X, "y": Y.astype(float)}, "whole numbers or text"),
        ({"x": X, "y": Y - 1}, "row 0: found '-1'"),
        ({"x": X, "y": Y, "class_names": np.array(["a", "b"])}, "labels from 0 to 1"),
        (
            {"x": X, "y": Y, "class_names": np.array([["a", "b"]])},
            "data.npz: class_names: found <U",
        ),
        (
            {"x": X, "y": Y.astype(str), "class_names": np.array(["a", "b"])},
            "y of train: found text, and an array class_names; accepted: whole numbers, or no",
        ),
        ({"x": X, "y": np.zeros(12, int)}, "found 1 class"),
        ({"x": X, "y": Y, "group": Y[:3]}, "group of train"),
        ({"x": X, "y": Y, "x_test": X[:, :4], "y_test": Y}, "as in train"),
        ({"x": X, "y": Y, "x_test": X}, "found no array y_test"),
        ({"x": X, "y": np.array([None] * 12)}, "array of objects"),
    ],
)
def test_wrong_arrays_are_refused_in_a_line(tmp_path, arrays, expected):
    import re

    assert re.search(expected, refused(tmp_path, **arrays))


def test_no_code_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    assert "objects" in refused(tmp_path, x=np.array([Evil()] * 12), y=Y)
    assert not (tmp_path / "ran").exists()


def test_damaged_files_and_false_headers(tmp_path):
    path = tmp_path / "data.npz"
    with pytest.raises(UserError, match="not found"):
        load_data(PARAMS, tmp_path)
    np.savez_compressed(path, x=X, y=Y)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[:200], whole[:60] + b"\0" * 40 + whole[100:]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"data\.npz: .*accepted"):
            load_data(PARAMS, tmp_path)
    path.write_bytes(whole)
    right = load_data(PARAMS, tmp_path).splits
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            splits = load_data(PARAMS, tmp_path).splits
        except UserError:
            continue
        for name, split in right.items():  # what was flipped does not matter, such as a date
            np.testing.assert_array_equal(splits[name].images[:], split.images[:])
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("x", X), ("y", Y)):
            file = io.BytesIO()
            np.save(file, array)
            archive.writestr(f"{name}.npy", file.getvalue() + b"more")
    with pytest.raises(UserError, match="goes on after the array"):
        load_data(PARAMS, tmp_path)
    header = io.BytesIO()
    claims = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)}
    np.lib.format.write_array_header_1_0(header, claims)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(UserError, match="not a readable .npz file"):
        load_data(PARAMS, tmp_path)


def test_what_only_images_have_is_refused_by_name(tmp_path):
    splits = load(tmp_path, x=X, y=Y).splits
    assert check_facts(PARAMS, splits, Path("p")) == []
    keys = {"augment": Augment(shift=1), "extra_classes": ("mirror",), "image_size": 5}
    params = Params(dataset="npz", **keys)
    with pytest.raises(UserError) as caught:
        check_facts(params, splits, Path("p"))
    assert [line.split(": ")[1] for line in str(caught.value).split("\n")] == ["network", *keys]


def test_the_baseline_of_vectors_is_the_vectors():
    vectors = RNG.normal(size=(6, 1, 2000, 1)).astype(np.float32)
    np.testing.assert_array_equal(raw_pixels(vectors), vectors.reshape(6, 2000))


def test_heat_maps():
    vectors = np.stack([np.arange(101), 1000 * np.arange(101)[::-1], np.full(101, 7)], axis=1)
    maps = HeatMaps(vectors.astype(np.float32)[:, None, :, None])
    assert maps.shape == (101, 2, 2, 1) == maps[:].shape and len(maps) == 101
    # The 2nd and 98th percentiles are rows 2 and 98, on both scales.
    assert maps[0].ravel().tolist() == maps[2].ravel().tolist() == [0, 255, 128, 128]
    assert maps[100].ravel().tolist() == maps[98].ravel().tolist() == [255, 0, 128, 128]
    expected = round(255 * (26 - 2) / 96)
    assert maps[26].ravel().tolist() == [expected, 255 - expected, 128, 128]
    np.testing.assert_array_equal(maps[[5, 1]], np.stack([maps[5], maps[1]]))
    np.testing.assert_array_equal(maps[3:9, 0], maps[3:9][:, 0])
    np.testing.assert_array_equal(maps.take(np.array([4])), maps[4:5])
