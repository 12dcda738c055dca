"""Datasets of Hugging Face's library, made by that library: splits, classes, bad input, offline."""

import errno
import io
import os
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from lazily import Lazy, needs
from PIL import Image

from src.data import image_cache, picture_tables
from src.data.loading import load_data
from src.data.picture_files import RowPictures
from src.datasets.hugging_face import _states
from src.errors import UserError
from src.params.schema import Params

pytestmark = needs("datasets", "pyarrow")
datasets, pa, pq = map(Lazy, ("datasets", "pyarrow", "pyarrow.parquet"))

NAMES = ["cat", "dog", "eel"]
KEYS = {"dataset": "hugging_face", "image_size": 6}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """The library's cache in the test's folder, and no network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", tmp_path / "hf_home")
    datasets.disable_progress_bars()


def picture(seed, mode="RGB"):
    pixels = np.random.default_rng(seed).integers(0, 255, (8 + seed % 3, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png(seed, mode="RGB"):
    file = io.BytesIO()
    picture(seed, mode).save(file, "PNG")
    return file.getvalue()


def table(count=12, first=0, labels=None, images=None, **others):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    features |= {key: datasets.Value("string") for key in others}
    images = images or [{"bytes": png(first + i), "path": None} for i in range(count)]
    columns = {"image": images, "label": labels or [i % 3 for i in range(count)], **others}
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def load(tmp_path, name, **keys):
    return load_data(Params(**KEYS, hf_name=name, **keys), tmp_path)


def refused(tmp_path, name="x", **keys):
    with pytest.raises(UserError) as caught:
        load(tmp_path, name, **keys)
    return str(caught.value)


def saved(tmp_path, **splits):
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "x"))


def test_splits_and_class_names_are_kept(tmp_path):
    saved(tmp_path, train=table(12), dev=table(6, 50), extra=table(3, 90))
    data = load(tmp_path, "x")
    assert {name: len(split) for name, split in data.splits.items()} == {
        **{"train": 10, "validation": 6, "test": 2}
    }
    validation = data.splits["validation"]
    assert validation.class_names == tuple(NAMES) and validation.labels.tolist() == [0, 1, 2] * 2
    assert validation.paths.tolist() == [f"dev/{row}" for row in range(6)]
    assert data.origins["validation"] == "the split 'dev'"
    assert "image_column image (guessed), label_column label (guessed)" in data.origins["train"]
    assert any("not used: extra" in line for line in data.warnings)
    assert validation.images.shape == (6, 6, 6, 3)
    # As image_folder decodes a file with the same bytes.
    (tmp_path / "same.png").write_bytes(png(51))
    same = image_cache.cached_images(
        tmp_path, ["same.png"], cache_paths=[tmp_path / "c.npy"], size=6, mode="RGB", resize="scale"
    )
    np.testing.assert_array_equal(validation.images[1], same.images[0])


def test_pictures_are_decoded_once_and_changed_ones_are_noticed(tmp_path, monkeypatch):
    saved(tmp_path, train=table(12), test=table(6, 50))
    before = load(tmp_path, "x").splits["test"]
    rows = []
    read = RowPictures.read
    monkeypatch.setattr(
        RowPictures, "read", lambda self, row, *known: rows.append(row) or read(self, row, *known)
    )
    again = load(tmp_path, "x").splits["test"]
    assert not rows and again.file_digests.tolist() == before.file_digests.tolist()
    changed = table(6, 50).to_dict()["image"]
    changed[2] = {"bytes": png(99), "path": None}
    datasets.DatasetDict(train=table(12), test=table(6, images=changed)).save_to_disk(
        str(tmp_path / "y")
    )
    (tmp_path / "x").rename(tmp_path / "old")
    (tmp_path / "y").rename(tmp_path / "x")
    now = load(tmp_path, "x").splits["test"]
    assert np.flatnonzero(now.file_digests != before.file_digests).tolist() == [2] and rows


def test_parquet_files_and_folders_of_pictures(tmp_path):
    table(12).to_parquet(tmp_path / "one.parquet")
    (tmp_path / "shards").mkdir()
    table(12).to_parquet(tmp_path / "shards" / "train-00000-of-00001.parquet")
    table(3, 50).to_parquet(tmp_path / "shards" / "test-00000-of-00001.parquet")
    assert load(tmp_path, "one.parquet").splits["train"].class_names == tuple(NAMES)
    assert len(load(tmp_path, "shards").splits["test"]) == 3
    for number in range(8):
        path = tmp_path / "folder" / "train" / NAMES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    assert load(tmp_path, "folder").splits["train"].class_names == ("cat", "dog")


def test_labels_that_are_no_numbers_of_names(tmp_path):
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.Value("string")})
    rows = {"picture": [{"bytes": png(i), "path": None} for i in range(12)], "kind": ["b", "a"] * 6}
    saved(tmp_path, all=datasets.Dataset.from_dict(rows, features=features))
    assert load(tmp_path, "x").splits["train"].class_names == ("a", "b")


def test_columns_that_cannot_be_guessed(tmp_path):
    two = table(12, fine=["a", "b"] * 6).rename_column("label", "coarse")
    saved(tmp_path, train=two.cast_column("fine", datasets.ClassLabel(names=["a", "b"])))
    found = refused(tmp_path)
    assert "label_column: found no value, and 2 columns of labels: 'coarse', 'fine'" in found
    assert load(tmp_path, "x", label_column="fine").splits["train"].class_names == ("a", "b")
    assert "accepted: a column of labels" in refused(tmp_path, label_column="image")
    assert "no column" in refused(tmp_path, label_column="x", image_column="image")


def test_groups_stay_on_one_side(tmp_path):
    person = [name for name in "abcdefgh" for _ in range(3)]
    saved(tmp_path, train=table(24, person=person))
    for _ in range(2):  # the second time from the cache
        data = load(tmp_path, "x", group_column="person")
        found = {}
        for name, split in data.splits.items():
            rows = [int(path.partition("/")[2]) for path in split.paths]
            found[name] = {split.group_names[group] for group in split.groups}
            assert [split.group_names[group] for group in split.groups] == [
                person[row] for row in rows
            ]
        assert sum(map(len, found.values())) == 8 == len(set().union(*found.values()))
        assert "group_column person" in data.origins["train"]
        assert "whole groups" in data.origins["test"]
    assert load(tmp_path, "x").splits["train"].groups is None  # no column is guessed
    with pytest.raises(UserError, match="states no groups.*group_column of a table"):
        load(tmp_path, "x", exclude_same_group=True)
    load(tmp_path, "x", exclude_same_group=True, group_column="person")
    assert "accepted: a column of groups" in refused(tmp_path, group_column="image")


def test_rows_without_a_group_are_groups_by_themselves(tmp_path):
    saved(tmp_path, train=table(12, person=["a", None, " ", "a"] * 3))
    splits = load(tmp_path, "x", group_column="person").splits.values()
    found = sorted(split.group_names[group] for split in splits for group in split.groups)
    alone = [f"train/{row}" for row in range(12) if row % 4 in (1, 2)]
    assert found == sorted(["a"] * 6 + alone)
    saved(tmp_path, train=table(12, person=[None] * 12))
    assert 'group_column: found "person", which has no value' in refused(
        tmp_path, group_column="person"
    )


def test_groups_with_names(tmp_path):
    kinds = datasets.ClassLabel(names=["x", "y", "z"])
    rows = table(12).add_column("kind", [0, 1, 2, -1] * 3)
    saved(tmp_path, train=rows.cast_column("kind", kinds))
    splits = load(tmp_path, "x", group_column="kind").splits.values()
    found = [split.group_names[group] for split in splits for group in split.groups]
    assert sorted(found) == sorted([*"xyz"] * 3 + ["train/3", "train/7", "train/11"])


def test_splits_whose_columns_differ(tmp_path):
    """The same number would be another class."""
    swapped = datasets.ClassLabel(names=[*reversed(NAMES)])
    other = table(6, 50).remove_columns("label").add_column("label", [0, 1, 2] * 2)
    saved(tmp_path, train=table(12), test=other.cast_column("label", swapped))
    assert "split 'test': column 'label': found other class names than in train" in refused(
        tmp_path
    )
    saved(tmp_path, train=table(12), test=other)
    assert "split 'test': column 'label': found other types than in train" in refused(tmp_path)
    saved(tmp_path, train=table(12), test=table(6, 50).remove_columns("image"))
    assert "split 'test': found no column 'image'" in refused(tmp_path)
    saved(tmp_path, train=table(12), test=table(6, 50).remove_columns("label"))
    data = load(tmp_path, "x")
    assert any("split 'test': left out, because no row has a label" in w for w in data.warnings)
    assert sum(map(len, data.splits.values())) == 12
    saved(tmp_path, train=table(12), extra=table(6, 50).remove_columns("label"))
    assert sum(map(len, load(tmp_path, "x").splits.values())) == 12  # `extra` is not used


def test_numbers_that_name_themselves_and_minus_one(tmp_path):
    """-1 marks secret answers, with and without class names; it is no class."""
    rows = table(12).remove_columns("label")
    saved(
        tmp_path,
        train=rows.add_column("label", [7, 3, -1] * 4),
        test=table(6, 50).remove_columns("label").add_column("label", [-1] * 6),
    )
    found = refused(tmp_path)
    assert "4 of 12 rows have no label, the first is row 2 ('-1')" in found
    data = load(tmp_path, "x", on_bad_image="skip")
    assert data.splits["train"].class_names == ("3", "7")
    assert sum(map(len, data.splits.values())) == 8
    assert any("split 'test': left out, because no row has a label (-1" in w for w in data.warnings)


@pytest.mark.parametrize("missing", [None, -1])
def test_labels_that_are_missing(tmp_path, missing):
    labels = [0, 1, missing, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    saved(tmp_path, train=table(12, labels=labels), test=table(6, 50, labels=[missing] * 6))
    found = refused(tmp_path)
    assert "split 'train': 1 of 12 rows have no label, the first is row 2" in found
    data = load(tmp_path, "x", on_bad_image="skip")
    assert sum(map(len, data.splits.values())) == 11
    assert "test" in data.origins and "20 % of train" in data.origins["test"]
    assert any("split 'test': left out" in line for line in data.warnings)


def write_parquet(path, images, labels):
    """Write a file as any program may: without the column types of Hugging Face."""
    cell = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(images, cell), "label": labels}), path)


def test_bad_pictures_modes_and_paths_outside(tmp_path):
    (tmp_path / "secret.png").write_bytes(png(7))
    images = [{"bytes": png(i, mode), "path": None} for i, mode in enumerate(["RGB", "L", "P"] * 4)]
    images[4] = {"bytes": b"no picture", "path": None}
    images[5] = {"bytes": None, "path": str(tmp_path / "secret.png")}
    images[6] = None
    write_parquet(tmp_path / "x", images, [0, 1, 2] * 4)
    lines = refused(tmp_path).split("\n")
    assert [line.split(": ", 1)[1] for line in lines[:3]] == [
        *("not a picture", "outside the folder of the dataset", "no picture")
    ]
    assert [line.split(": ")[0].rsplit("/", 2)[1:] for line in lines[:3]] == [
        *(["train", "4"], ["train", "5"], ["train", "6"])
    ]
    data = load(tmp_path, "x", on_bad_image="skip")
    assert sum(map(len, data.splits.values())) == 9


def test_pictures_of_more_bytes_than_an_array_of_arrow_can_hold():
    """Two parts of 1.5 GiB each, of pages that nobody writes."""
    size = 3 << 29
    offsets = pa.py_buffer(np.array([0, size], np.int32))
    pixels = pa.Array.from_buffers(
        pa.binary(), 1, [None, offsets, pa.py_buffer(np.zeros(size, np.uint8))]
    )
    parts = [
        pa.StructArray.from_arrays([pixels, pa.array(["a"])], ["bytes", "path"]),
        pa.StructArray.from_arrays([pixels, pa.array(["b"])], ["bytes", "path"]),
        pa.array([{"bytes": None, "path": "/no/such/file"}]),
    ]
    batch = pa.table({"image": pa.chunked_array(parts[:2] + [parts[2].cast(parts[0].type)])})
    pictures = SimpleNamespace(cache_files=[], _fingerprint="x")
    pictures.with_format = lambda name: SimpleNamespace(iter=lambda size: [batch])
    assert _states(pictures, "image") == ["x", "x", "missing"]


@pytest.mark.parametrize("where", ["open", "read"])
def test_a_disk_that_fails_is_no_bad_picture(tmp_path, monkeypatch, where):
    (tmp_path / "hf").mkdir()
    path = tmp_path / "hf" / "a.png"
    path.write_bytes(png(7))
    images = [{"bytes": png(i), "path": None} for i in range(12)]
    images[4] = {"bytes": None, "path": str(path)}
    write_parquet(tmp_path / "x", images, [0, 1, 2] * 4)
    system, opened = os.open, picture_tables.open_regular

    def fail(name, *args, **options):
        if str(name) == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return system(name, *args, **options)

    @contextmanager
    def unreadable(name):
        with opened(name):
            yield SimpleNamespace(read=lambda size: fail(path))

    with monkeypatch.context() as patch:
        if where == "open":
            patch.setattr(os, "open", fail)
        else:
            patch.setattr(picture_tables, "open_regular", unreadable)
        found = refused(tmp_path, on_bad_image="skip")
    assert found == f"{path}: {os.strerror(errno.EIO)}; accepted: a picture that can be read now"
    assert sum(map(len, load(tmp_path, "x").splits.values())) == 12


def test_a_configuration_that_nothing_has_is_refused(tmp_path):
    write_parquet(tmp_path / "x.parquet", [{"bytes": png(0), "path": None}], [0])
    saved(tmp_path, train=table())
    for name in ("x.parquet", "x"):
        found = refused(tmp_path, name, hf_config="large")
        assert 'hf_config: found "large"; accepted: null' in found and "\n" not in found


@pytest.mark.parametrize(
    "name", ["pandas", "csv", "imagefolder", "buckets/a/b", "hf://a/b", "../x", "here/pets"]
)
def test_no_reader_of_the_library_is_taken_for_a_dataset(tmp_path, monkeypatch, name):
    """It would read whatever lies in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.pkl").write_bytes(b"no pickle")
    (tmp_path / "here" / "pets").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(UserError) as caught:
        load(tmp_path / "elsewhere", name)
    assert str(caught.value).startswith(f'hf_name: found "{name}"; accepted: a folder or a Parquet')


def test_other_bad_input(tmp_path):
    saved(tmp_path, train=table(12, labels=[0] * 12))
    assert "in 1 class (cat)" in refused(tmp_path)
    saved(tmp_path, a=table(12), b=table(6))
    assert "accepted: one named train" in refused(tmp_path)
    (tmp_path / "empty").mkdir()
    assert "not readable" in refused(tmp_path, "empty")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 no")
    assert "not readable" in refused(tmp_path, "damaged.parquet")
    write_parquet(tmp_path / "none.parquet", [], pa.array([], pa.int64()))
    assert "not readable" in refused(tmp_path, "none.parquet")


def test_a_name_of_the_hub_without_a_network_is_refused_quickly(tmp_path, monkeypatch):
    import huggingface_hub

    def unreachable(self, name, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    started = time.perf_counter()
    found = refused(tmp_path, "owner/name")
    assert "the hub cannot be reached (ConnectionError: no network)" in found and "\n" not in found
    assert time.perf_counter() - started < 5
    assert not datasets.config.HF_HUB_OFFLINE
