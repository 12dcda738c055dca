"""What an experiment has seen by its initial weights: classes and pictures of the source's data."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY, write_params

from src.experiment.data_record import DataRecord, save_record
from src.experiment.experiment import Experiment
from src.experiment.source_data import seen_by_source
from src.experiment.warm_start import WarmStart, save_warm_start, source_warnings
from src.params.schema import Params

PATH = Path("experiments/x/params.json")
# Twelve pictures of three classes; 0 train, 1 validation, 2 test.
RECORD = DataRecord(
    paths=None,
    digests=np.arange(12, dtype=np.uint64),
    labels=np.arange(12, dtype=np.int32) % 4,
    class_names=("ash", "beech", "cedar", "3"),
    splits=np.array([0] * 6 + [1] * 3 + [2] * 3, np.int8),
    own=np.zeros(12, np.int8),
    validation_by="image",
)
UNSEEN = {"holdout_classes": ["ash", "3"]}


def trained(folder, record=RECORD, **keys):
    """An experiment that looks trained, on these data."""
    model_dir = write_params(folder, {**TINY, **keys})
    (model_dir / "params.json").rename(model_dir / "trained_params.json")
    (model_dir / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    experiment = Experiment(model_dir)
    if record is not None:
        save_record(experiment.data_record_path, record)
    return experiment


def test_the_same_splits_say_nothing(tmp_path):
    source = trained(tmp_path / "y")
    assert seen_by_source(source, Params(**TINY), RECORD, PATH) == ()
    source = trained(tmp_path / "z", **UNSEEN)
    assert seen_by_source(source, Params(**TINY, **UNSEEN), RECORD, PATH) == ()


def test_held_out_classes_that_were_trained_on(tmp_path):
    source = trained(tmp_path / "y")
    (line,) = seen_by_source(source, Params(**TINY, **UNSEEN), RECORD, PATH)
    found = "2 of the 2 classes of unseen (ash, 3): their metrics flatter"
    assert line == f"{PATH}: init_from: {tmp_path / 'y'} was trained on {found}"
    source = trained(tmp_path / "z", holdout_classes=["ash", "beech"])
    (line,) = seen_by_source(source, Params(**TINY, **UNSEEN), RECORD, PATH)
    assert "was trained on 1 of the 2 classes of unseen (3):" in line


def test_classes_of_other_datasets_by_name_but_not_by_number(tmp_path):
    elsewhere = replace(RECORD, digests=RECORD.digests + np.uint64(100))
    source = trained(tmp_path / "y", elsewhere, dataset="fashion_mnist")
    (line,) = seen_by_source(source, Params(**TINY, **UNSEEN), RECORD, PATH)
    assert "1 of the 2 classes of unseen (ash)" in line


def test_pictures_by_split(tmp_path):
    splits = np.array([1, 2, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2], np.int8)
    source = trained(tmp_path / "y", replace(RECORD, splits=splits))
    (line,) = seen_by_source(source, Params(**TINY), RECORD, PATH)
    # Pictures 6, 7 of validation and 9 of test; 8, 10 and 11 chose the checkpoint, or were unused.
    assert "was trained on 2 of 3 validation examples and 1 of 3 test examples: their" in line
    (line,) = seen_by_source(
        source, Params(**TINY, holdout_classes=["beech", "cedar"]), RECORD, PATH
    )
    # 6 (cedar) and 9 (beech) are in `unseen` then.
    assert "2 of the 2 classes of unseen" in line and "1 of 2 validation examples: their" in line


def test_what_the_own_training_sees_as_well_is_not_the_sources_fault(tmp_path):
    doubled = replace(RECORD, digests=np.array([*range(9), 0, 1, 2], np.uint64))
    assert seen_by_source(trained(tmp_path / "y", doubled), Params(**TINY), doubled, PATH) == ()


def test_extra_data_of_the_source_count(tmp_path):
    """Its classes by their names without the dataset's; its pictures, here all of test."""
    extra = replace(
        RECORD,
        digests=RECORD.digests[9:],
        labels=np.array([0, 1, 1], np.int32),
        class_names=("leaves.npz/ash", "leaves.npz/7"),
        splits=np.zeros(3, np.int8),
        own=np.zeros(3, np.int8),
    )
    keys = {"extra_data": [{"dataset": "npz", "npz_file": "leaves.npz"}]}
    first = replace(RECORD, digests=RECORD.digests + np.uint64(50))
    source = trained(
        tmp_path / "y", replace(first, extra_data=extra), dataset="fashion_mnist", **keys
    )
    own = replace(RECORD, class_names=("ash", "beech", "cedar", "7"))
    given = Params(**TINY, holdout_classes=["ash", "7"])
    (line,) = seen_by_source(source, given, own, PATH)
    # Picture 11 is of class 7, which the source may have meant otherwise; 9 and 10 are test's.
    found = "2 of 2 test examples and 1 of 6 unseen examples"
    assert f"was trained on 1 of the 2 classes of unseen (ash) and {found}: their" in line
    # What the own training sees as well.
    own = replace(own, extra_data=extra)
    (line,) = seen_by_source(source, given, own, PATH)
    assert "was trained on 1 of the 2 classes of unseen (ash): their" in line


def test_numbers_are_classes_of_one_file_not_of_one_kind_of_dataset(tmp_path):
    elsewhere = replace(RECORD, digests=RECORD.digests + np.uint64(100))
    source = trained(tmp_path / "y", elsewhere, dataset="npz", npz_file="a.npz")
    keys = {**TINY, "dataset": "npz", "holdout_classes": ["3", "cedar"]}
    (line,) = seen_by_source(source, Params(**keys, npz_file="b.npz"), RECORD, PATH)
    assert "1 of the 2 classes of unseen (cedar)" in line
    (line,) = seen_by_source(source, Params(**keys, npz_file="a.npz"), RECORD, PATH)
    assert "2 of the 2 classes of unseen (3, cedar)" in line


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_unknown_data_are_said_to_be_unknown(content, tmp_path):
    source = trained(tmp_path / "y", None)
    if content:
        source.data_record_path.write_bytes(content)
    (line,) = seen_by_source(source, Params(**TINY), RECORD, PATH)
    assert f"{tmp_path / 'y'}: it is unknown on which data it was trained" in line


def test_the_sources_of_a_source_count(tmp_path):
    first = trained(tmp_path / "a", replace(RECORD, splits=RECORD.splits[::-1].copy()))
    second = trained(tmp_path / "b")
    begun = WarmStart(str(first.model_dir), 7, "0" * 64, 1, ())
    save_warm_start(second.warm_start_path, begun)
    # A ring.
    save_warm_start(first.warm_start_path, replace(begun, init_from=str(second.model_dir)))
    (line,) = seen_by_source(second, Params(**TINY), RECORD, PATH)
    assert f"{first.model_dir} was trained on 3 of 3 validation examples and 3 of 3 test" in line


def test_what_flatters_is_recorded_and_said_again(tmp_path):
    own = trained(tmp_path / "x")
    record = WarmStart(str(tmp_path / "gone"), 7, "0" * 64, 1, (), ("it flatters",))
    save_warm_start(own.warm_start_path, record)
    lines = source_warnings(own)
    assert lines[0] == "it flatters" and len(lines) == 2
    old = {key: value for key, value in asdict(record).items() if key != "flatters"}
    own.warm_start_path.write_text(json.dumps(old))  # as earlier versions wrote it
    assert len(source_warnings(own)) == 1
