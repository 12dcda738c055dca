"""Datasets that TensorFlow Datasets has prepared, in both of its formats; read without it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from lazily import needs

from src.data.loading import load_data
from src.errors import UserError
from src.params.schema import Params

pytestmark = needs("tensorflow_datasets")

# In another process, because writing needs TensorFlow.
WRITE = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class Toy(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
            "coarse": tfds.features.ClassLabel(names=["fur", "fin"]),
            "name": tfds.features.Text(),
            "person": tfds.features.Scalar(np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, manager):
        splits = {"train": (12, 0), "validation": (3, 50), "test": (6, 70), "small": (2, 90)}
        return {name: self._generate_examples(*of_split) for name, of_split in splits.items()}

    def _generate_examples(self, count, first):
        for i in range(count):
            pixels = np.full((6, 6, 3), first + i, np.uint8)
            label = -1 if first == 50 and i == 1 else i % 3
            yield i, {"image": pixels, "label": label, "coarse": i % 2, "name": "ab"[i % 2],
                     "person": first + i // 4}

for file_format in sys.argv[2:]:
    Toy(data_dir=f"{sys.argv[1]}/{file_format}", file_format=file_format).download_and_prepare()
"""
FORMATS = ["tfrecord", "array_record"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    (folder / "write.py").write_text(WRITE)
    command = [sys.executable, str(folder / "write.py"), str(folder), *FORMATS]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def params(file_format="tfrecord", **keys):
    given = {"tfds_name": "toy", "on_bad_image": "skip", **keys}
    return Params(dataset="tfds", image_size=6, tfds_data_dir=file_format, **given)


def refused(folder, **keys):
    with pytest.raises(UserError) as caught:
        load_data(params(**keys), folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file_format", FORMATS)
def test_splits_classes_and_pixels(prepared, file_format):
    for _ in range(2):  # the second time from the cache
        data = load_data(params(file_format), prepared)
        sizes = {name: len(split) for name, split in data.splits.items()}
        assert sizes == {"train": 12, "validation": 2, "test": 6}
        for name, first in (("train", 0), ("validation", 50), ("test", 70)):
            split = data.splits[name]
            values = split.images[:][:, 0, 0, 0].astype(int) - first
            rows = [int(path.partition("/")[2]) for path in split.paths]
            assert (values % 3).tolist() == split.labels.tolist()
            assert sorted(values) == ([0, 2] if name == "validation" else [*range(sizes[name])])
            assert len(set(rows)) == len(rows) and split.class_names == ("cat", "dog", "eel")
        assert any("1 row without a label skipped" in line for line in data.warnings)
        assert any("not used: small" in line for line in data.warnings)
    named = load_data(params(file_format, label_column="name"), prepared)
    assert named.splits["train"].class_names == ("a", "b")
    assert sum(map(len, named.splits.values())) == 21


@pytest.mark.parametrize("file_format", FORMATS)
def test_groups(prepared, file_format):
    splits = load_data(params(file_format, group_column="person"), prepared).splits
    for name, first in (("train", 0), ("test", 70)):
        split = splits[name]
        values = split.images[:][:, 0, 0, 0].astype(int) - first
        expected = [str(first + value // 4) for value in values]
        assert [split.group_names[group] for group in split.groups] == expected
    coarse = load_data(params(file_format, group_column="coarse"), prepared)
    assert set(coarse.splits["test"].group_names) == {"fur", "fin"}
    assert any("2 of 2 groups are in several splits" in line for line in coarse.warnings)
    assert 'group_column: found "image", which has no groups' in refused(
        prepared, file_format=file_format, group_column="image"
    )


def test_a_label_that_is_missing_is_an_error_unless_it_is_skipped(prepared):
    found = refused(prepared, on_bad_image="error")
    assert "split 'validation': 1 of 3 rows have no label" in found


def test_reading_leaves_tensorflow_out(prepared):
    code = (
        "import sys; from pathlib import Path; from src.params.schema import Params\n"
        "from src.data.loading import load_data\n"
        f"load_data(Params(**{params('array_record').model_dump(exclude_defaults=True)!r}),"
        f" Path({str(prepared)!r}))\nprint('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_names_are_refused_at_once(prepared):
    assert "did you mean 'mnist'?" in refused(prepared, tfds_name="mnistt")
    found = refused(prepared, tfds_name="mnist")
    assert "is not prepared in" in found and "`tfds build mnist --data_dir " in found
    for name in ("owner:mnist", "mnist/x=1", "../toy", "toy,a=b"):
        assert "accepted: name, name/config or" in refused(prepared, tfds_name=name)
    assert "which is not in" in refused(prepared, tfds_name="toy:9.9.9")


def test_a_split_that_is_not_used_is_not_read(prepared, tmp_path):
    shutil.copytree(prepared / "tfrecord", tmp_path / "tfrecord")
    next((tmp_path / "tfrecord").rglob("*small.tfrecord*")).unlink()
    data = load_data(params(), tmp_path)
    assert len(data.splits["train"]) == 12
    assert any("not used: small" in line for line in data.warnings)


def test_no_code_that_a_dataset_names_is_run(prepared, tmp_path, monkeypatch):
    """The library imports the module of a feature that it does not know."""
    shutil.copytree(prepared / "tfrecord", tmp_path / "tfrecord")
    (tmp_path / "payload.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Feature: ..."
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = next((tmp_path / "tfrecord").rglob("features.json"))
    path.write_text(json.dumps({"type": "payload.Feature", "content": {}}))
    assert "payload.Feature is none of the library's features" in refused(tmp_path)
    path.write_text(json.dumps({"pythonClassName": "payload.Feature", "featuresDict": {}}))
    refused(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_damaged_files(prepared, tmp_path):
    shutil.copytree(prepared / "tfrecord", tmp_path / "tfrecord")
    path = next((tmp_path / "tfrecord").rglob("*test.tfrecord*"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert "ends within record 5" in refused(tmp_path)
    path.write_bytes(b"")
    assert "found 0 examples; accepted: 6" in refused(tmp_path)
    length = int(np.frombuffer(whole, "<u8", 1)[0])
    path.write_bytes(whole[:12] + b"\xff" * length + whole[12 + length :])
    assert "row 0: damaged" in refused(tmp_path)
    path.unlink()
    assert "No such file" in refused(tmp_path)
    shutil.copytree(prepared / "array_record", tmp_path / "array_record")
    path = next((tmp_path / "array_record").rglob("*test.array_record*"))
    whole = path.read_bytes()
    for content in (whole[:-10], whole[: len(whole) // 2], b"x" * len(whole), b""):
        path.write_bytes(content)
        assert "damaged" in refused(tmp_path, file_format="array_record")
