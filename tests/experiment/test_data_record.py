"""An experiment is its params and its data: what has changed is named, and splits can be kept."""

import io
import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import bright_quadrants, write_idx

from src.data.loading import load_data
from src.data.split import SPLITS
from src.errors import UserError
from src.experiment.data_record import (
    DataRecord,
    changes,
    load_recorded,
    read_record,
    record_of,
    save_record,
)
from src.experiment.experiment import Experiment
from src.params.schema import Params

CLASSES = ("ash", "beech", "cedar", "oak")


def write_picture(path, number):
    """A picture that no other number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(path)


class Training:
    """An experiment on a data set, trained as far as its data go."""

    def __init__(self, tmp_path, **keys):
        self.data_dir = tmp_path / "data"
        self.folder = self.data_dir / "image_folder"
        self.experiment = Experiment(tmp_path / "x")
        self.experiment.model_dir.mkdir(parents=True, exist_ok=True)
        self.params = Params(**{"dataset": "image_folder", "image_size": 4, **keys})

    def load(self, *, begins=False, keeps_splits=False):
        return load_recorded(
            self.params, self.data_dir, self.experiment, begins=begins, keeps_splits=keeps_splits
        )

    def train(self, **keys):
        """Load the data and record them, as train.py does."""
        loaded = self.load(**keys)
        save_record(self.experiment.data_record_path, loaded.record)
        return loaded

    def refusal(self):
        with pytest.raises(UserError) as caught:
            self.load()
        text = str(caught.value)
        start = f"{self.experiment.model_dir}: the data have changed since training began: "
        end = (
            "; accepted: the data used for training; to resume with known images in their splits, "
            "use --keep_splits; to start over, use --overwrite"
        )
        assert text.startswith(start) and text.endswith(end) and "\n" not in text
        return text[len(start) : -len(end)]

    def keep(self):
        """Train with --keep_splits; afterwards the same command without it has nothing to say."""
        loaded = self.train(keeps_splits=True)
        again = self.load()
        assert again.changes == "" and again.warnings == ()
        assert where(again) == where(loaded) and order(again) == order(loaded)
        return loaded


def where(loaded):
    """The split of each example, by its pixels."""
    return {
        image.tobytes(): name
        for name in SPLITS
        for image in np.asarray(loaded.data.splits[name].images)
    }


def order(loaded):
    return {
        name: [image.tobytes() for image in np.asarray(loaded.data.splits[name].images)]
        for name in SPLITS
    }


@pytest.fixture(scope="module")
def templates(tmp_path_factory):
    """Trainings on four class folders of eight pictures each, validated by image and by class."""
    made = {}
    for by in ("image", "class"):
        directory = tmp_path_factory.mktemp(by)
        training = Training(directory, validation_by=by, validation_fraction=0.3)
        for label, name in enumerate(CLASSES):
            for number in range(8):
                write_picture(training.folder / name / f"{number}.png", 100 * label + number)
        made[by] = directory, training.train(begins=True)
    return made


@pytest.fixture(params=["image", "class"])
def trained(request, tmp_path, templates):
    """A copy of either, to be changed."""
    return copy_of(templates, request.param, tmp_path)


@pytest.fixture
def recorded(tmp_path, templates):
    return copy_of(templates, "image", tmp_path)


def copy_of(templates, validation_by, tmp_path):
    directory, first = templates[validation_by]
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    training = Training(tmp_path, validation_by=validation_by, validation_fraction=0.3)
    training.first = first
    return training


def test_unchanged(trained):
    again = trained.load()
    assert again.changes == "" and again.warnings == ()
    assert order(again) == order(trained.first)
    assert again.data.origins == trained.first.data.origins
    assert trained.load(keeps_splits=True).warnings == ()


def test_times_and_the_place_of_the_data_are_no_change(trained, tmp_path):
    for path in trained.folder.rglob("*.png"):
        os.utime(path, (0, 0))
    shutil.move(trained.data_dir, tmp_path / "elsewhere")
    trained.data_dir = tmp_path / "elsewhere"
    assert trained.load().changes == ""


def add(folder):
    for label, name in enumerate(CLASSES):
        for number in range(8, 14):
            write_picture(folder / name / f"{number}.png", 100 * label + number)


def add_first_class(folder):
    for number in range(12):
        write_picture(folder / "acacia" / f"{number}.png", 5000 + number)


def replace_one(folder):
    write_picture(folder / "oak" / "3.png", 9999)


def swap_names(folder):
    one, other = folder / "ash" / "0.png", folder / "ash" / "1.png"
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)


def swap_classes(folder):
    one, other = folder / "ash" / "0.png", folder / "oak" / "0.png"
    one.rename(folder / "x")
    other.rename(one)
    (folder / "x").rename(other)


def everything(folder):
    add_first_class(folder)
    (folder / "oak" / "1.png").unlink()
    (folder / "oak" / "2.png").rename(folder / "ash" / "20.png")
    (folder / "beech" / "2.png").rename(folder / "beech" / "renamed.png")
    write_picture(folder / "cedar" / "7.png", 8888)


CHANGES = {
    "added": (add, "24 added"),
    "a class added before the others": (add_first_class, "12 added, classes new: acacia"),
    "gone": (lambda folder: (folder / "oak" / "3.png").unlink(), "1 gone"),
    "a class gone": (lambda folder: shutil.rmtree(folder / "cedar"), "8 gone, classes gone: cedar"),
    "replaced": (replace_one, "1 replaced"),
    "relabelled": (
        lambda folder: (folder / "ash" / "0.png").rename(folder / "oak" / "8.png"),
        "1 relabelled",
    ),
    "renamed": (
        lambda folder: (folder / "ash" / "0.png").rename(folder / "ash" / "zero.png"),
        "1 renamed",
    ),
    "a class renamed": (
        lambda folder: (folder / "ash").rename(folder / "zelkova"),
        "8 relabelled, classes new: zelkova, classes gone: ash",
    ),
    "a class split": (
        lambda folder: [
            write_picture(folder / "ash tree" / f"{n}.png", n) or (folder / f"ash/{n}.png").unlink()
            for n in range(4)
        ],
        "4 relabelled, classes new: ash tree",
    ),
    "names swapped": (swap_names, "2 renamed"),
    "classes swapped": (swap_classes, "2 relabelled"),
    "a copy": (
        lambda folder: shutil.copy(folder / "ash" / "0.png", folder / "ash" / "00.png"),
        "1 added",
    ),
    "all at once": (
        everything,
        "12 added, 1 gone, 1 replaced, 1 relabelled, 1 renamed, classes new: acacia",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changes_are_named_and_splits_are_kept(trained, what):
    change, words = CHANGES[what]
    before = where(trained.first)
    change(trained.folder)
    assert trained.refusal() == words
    try:
        kept = trained.keep()
    except UserError as error:
        assert what == "a class gone" and "no image of the" in str(error)
        return
    assert kept.changes == words
    assert kept.warnings == (
        f"{trained.experiment.model_dir}: the data have changed since training began: {words}; "
        "known images keep their splits",
    )
    now = where(kept)
    assert {pixels: now[pixels] for pixels in before.keys() & now.keys()} == {
        pixels: before[pixels] for pixels in before.keys() & now.keys()
    }
    assert kept.data.validation_by == trained.params.validation_by


def test_added_pictures_are_dealt_out_by_themselves(trained):
    add(trained.folder)
    kept = trained.keep()
    before, now = where(trained.first), where(kept)
    new = [now[pixels] for pixels in now.keys() - before.keys()]
    assert new.count("test") == 5  # a fifth of 24
    if trained.params.validation_by == "image":
        assert new.count("validation") == 6  # 0.3 of the rest
    else:
        labels = {n: set(kept.data.splits[n].labels.tolist()) for n in ("train", "validation")}
        assert not labels["train"] & labels["validation"]


def test_changes_that_are_taken_back(trained):
    add(trained.folder)
    trained.keep()
    for name in CLASSES:
        for number in range(8, 14):
            (trained.folder / name / f"{number}.png").unlink()
    assert trained.refusal() == "24 gone"
    kept = trained.keep()
    assert where(kept) == where(trained.first)


def test_step_by_step_or_at_once_those_of_before_stay(trained):
    for number in range(20, 26):
        for label, name in enumerate(CLASSES):
            write_picture(trained.folder / name / f"{number}.png", 100 * label + number)
        kept = trained.keep()
        before = where(trained.first)
        now = where(kept)
        assert all(now[pixels] == name for pixels, name in before.items())


def test_a_copy_dropped_is_not_taken_for_the_picture(tmp_path):
    training = Training(tmp_path, on_duplicates="drop")
    for label, name in enumerate(CLASSES):
        for number in range(8):
            write_picture(training.folder / name / f"{number}.png", 100 * label + number)
    before = where(training.train(begins=True))
    for name in CLASSES:
        for number in range(8):  # in the order of names, the copies come before
            shutil.copy(
                training.folder / name / f"{number}.png", training.folder / name / f" {number}.png"
            )
    assert training.refusal() == "32 renamed"
    assert where(training.keep()) == before


@pytest.fixture
def folders_of_splits(tmp_path):
    training = Training(tmp_path)
    for split, numbers in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        for label, name in enumerate(CLASSES):
            for number in numbers:
                write_picture(
                    training.folder / split / name / f"{number}.png", 100 * label + number
                )
    training.first = training.train(begins=True)
    assert training.first.data.validation_by == "dataset"
    return training


def test_a_picture_moved_to_another_split_stays_where_it_was(folders_of_splits):
    training = folders_of_splits
    (training.folder / "train/ash/0.png").rename(training.folder / "test/ash/0.png")
    (training.folder / "test/oak/9.png").rename(training.folder / "train/oak/9.png")
    assert training.refusal() == "2 moved to another split"
    kept = training.keep()
    assert where(kept) == where(training.first)


def test_a_split_folder_that_goes(folders_of_splits):
    shutil.rmtree(folders_of_splits.folder / "val")
    with pytest.raises(UserError, match="no image of the validation split is left"):
        folders_of_splits.load(keeps_splits=True)


def test_a_split_folder_that_comes(trained):
    for label, name in enumerate(CLASSES):
        for number in range(50, 54):
            write_picture(trained.folder / "train" / name / f"{number}.png", 100 * label + number)
            write_picture(
                trained.folder / "test" / name / f"{number}.png", 3000 + 100 * label + number
            )
        for number in range(8):
            (trained.folder / name / f"{number}.png").rename(
                trained.folder / "train" / name / f"{number}.png"
            )
        (trained.folder / name).rmdir()
    assert trained.refusal() == "32 added, 32 renamed"
    before, now = where(trained.first), where(trained.keep())
    assert all(now[pixels] == name for pixels, name in before.items())


def test_an_order_that_changed(tmp_path):
    training = Training(tmp_path, image_csv="l.csv")
    rows = []
    for number in range(40):
        write_picture(training.folder / f"{number}.png", number)
        rows.append(f"{number}.png,{'ab'[number % 2]}\n")
    (training.folder / "l.csv").write_text("".join(["path,label\n", *rows]))
    first = training.train(begins=True)
    (training.folder / "l.csv").write_text("".join(["path,label\n", *rows[::-1]]))
    assert training.refusal() == "the same examples in another order"
    assert where(training.keep()) == where(first)


# Datasets that have no files for their images


@pytest.fixture
def digits(tmp_path):
    """A training on the four files of MNIST; two images are there several times."""
    training = Training(
        tmp_path / "digits", dataset="mnist", image_size=None, validation_fraction=0.3
    )
    (training.data_dir / "mnist").mkdir(parents=True)
    images, labels = bright_quadrants(60, 1)
    images[[1, 5, 9, 13, 17]] = images[21]  # of one class
    images[2] = images[3]  # of two classes
    test_images, test_labels = bright_quadrants(20, 2)
    test_images[4] = images[0]  # in both files
    training.arrays = {
        "train-images-idx3-ubyte": images,
        "train-labels-idx1-ubyte": labels,
        "t10k-images-idx3-ubyte": test_images,
        "t10k-labels-idx1-ubyte": test_labels,
    }
    write_all(training)
    training.first = training.train(begins=True)
    return training


def write_all(training):
    for name, array in training.arrays.items():
        write_idx(training.data_dir / "mnist" / f"{name}.gz", array)


def test_unchanged_digits(digits):
    for _ in range(2):
        again = digits.train()
        assert again.changes == "" and order(again) == order(digits.first)
        for name in SPLITS:
            now, before = again.data.splits[name], digits.first.data.splits[name]
            np.testing.assert_array_equal(now.labels, before.labels)
            np.testing.assert_array_equal(again.data.rows[name], digits.first.data.rows[name])


def appended(arrays):
    images, labels = bright_quadrants(12, 7)
    arrays["train-images-idx3-ubyte"] = np.concatenate([arrays["train-images-idx3-ubyte"], images])
    arrays["train-labels-idx1-ubyte"] = np.concatenate([arrays["train-labels-idx1-ubyte"], labels])


def one_pixel(arrays):
    arrays["train-images-idx3-ubyte"][30, 0, 0] ^= 1


def flipped(arrays):
    arrays["train-labels-idx1-ubyte"][30:34] = arrays["train-labels-idx1-ubyte"][30:34][::-1].copy()


def cut(arrays):
    arrays["t10k-images-idx3-ubyte"] = arrays["t10k-images-idx3-ubyte"][:-3]
    arrays["t10k-labels-idx1-ubyte"] = arrays["t10k-labels-idx1-ubyte"][:-3]


def traded(arrays):
    train, test = arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]
    train[40], test[8] = test[8].copy(), train[40].copy()  # both of class 0


def shuffled(arrays):
    for part in ("images-idx3", "labels-idx1"):
        name = f"train-{part}-ubyte"
        arrays[name] = arrays[name][::-1].copy()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (appended, "12 added"),
        (one_pixel, "1 added, 1 gone"),
        (flipped, "4 relabelled"),
        (cut, "3 gone"),
        (traded, "2 moved to another split"),
        (shuffled, "the same examples in another order"),
    ],
)
def test_digits_that_changed(digits, change, words):
    change(digits.arrays)
    write_all(digits)
    assert digits.refusal() == words
    once = {pixels for pixels, n in counted(digits.first).items() if n == 1}
    before, now = where(digits.first), where(digits.keep())
    assert all(now[pixels] == before[pixels] for pixels in once & now.keys())


def counted(loaded):
    all_pixels = [pixels for name in SPLITS for pixels in order(loaded)[name]]
    return {pixels: all_pixels.count(pixels) for pixels in all_pixels}


# The file


def test_a_record_comes_back_as_it_was_written(recorded, digits):
    for training in (recorded, digits):
        record = training.first.record
        found = read_record(training.experiment.data_record_path)
        assert found.paths == record.paths and found.class_names == record.class_names
        assert found.validation_by == record.validation_by
        for name in ("digests", "labels", "splits", "own"):
            np.testing.assert_array_equal(getattr(found, name), getattr(record, name))
        assert changes(found, record) == ""


def write_list(training, change=lambda number, cells: cells, header="group,is_query,is_gallery"):
    """Write a list of five pictures of each class for training and of four for tests."""
    lines = [f"path,label,split,{header}"]
    number = 0
    for name in CLASSES:
        for copy in range(9):
            path = f"{name}/{copy}.png"
            if not (training.folder / path).exists():
                write_picture(training.folder / path, number)
            split, roles = ("train", ",") if copy < 5 else ("test", f"{copy < 7},{copy > 6}")
            cells = [path, name, split, f"series {copy // 2}", *roles.split(",")]
            lines.append(",".join(change(number, cells)))
            number += 1
    (training.folder / "list.csv").write_text("\n".join(lines))


def test_groups_and_roles_are_recorded(tmp_path):
    training = Training(tmp_path, image_csv="list.csv")
    write_list(training)
    record = training.train(begins=True).record
    found = read_record(training.experiment.data_record_path)
    assert found.groups == record.groups and found.groups[:3] == (
        "series 0",
        "series 0",
        "series 1",
    )
    assert found.roles.tolist() == record.roles.tolist() and set(found.roles.tolist()) == {0, 1, 2}
    assert training.load().changes == ""

    def other(number, cells):
        return [*cells[:3], "series 9", *cells[4:]] if number in (0, 1, 2) else cells

    write_list(training, other)
    assert training.refusal() == "3 in another group"

    def swapped(number, cells):
        return [*cells[:4], "1", "1"] if number == 7 else cells

    write_list(training, swapped)
    assert training.refusal() == "1 with another role (is_query, is_gallery)"
    write_list(training, header="note,is_query,is_gallery")
    assert training.refusal() == "36 in another group"
    write_list(training)
    assert training.load().changes == ""


def test_a_record_without_groups_is_that_of_an_earlier_version(tmp_path):
    training = Training(tmp_path, image_csv="list.csv")
    write_list(training, header="note,a,b")
    training.train(begins=True)
    path = training.experiment.data_record_path
    arrays = arrays_of(path)
    facts = json.loads(arrays["facts"].tobytes())
    del arrays["groups"], arrays["roles"], facts["has_groups"]
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(path, **arrays)
    assert training.load().changes == ""


def test_near_duplicates_are_named_when_training_begins(tmp_path):
    training = Training(tmp_path, image_csv="list.csv", near_duplicates=0)
    write_list(training, header="note,a,b")
    images = [np.asarray(Image.open(training.folder / f"ash/{copy}.png")) for copy in (0, 7)]
    changed = images[0].copy()
    changed[0, 0, 0] ^= 1  # another image with the same hash
    Image.fromarray(changed).save(training.folder / "ash/7.png")
    [line] = [line for line in training.train(begins=True).data.warnings if "look like" in line]
    assert "1 of 16 test images look like a train image" in line and "ash/7.png ~ ash/0.png" in line
    assert not any("look like" in line for line in training.load().data.warnings)


def test_no_record(recorded):
    recorded.experiment.data_record_path.unlink()
    loaded = recorded.load()
    assert loaded.changes == "" and loaded.warnings == (
        f"{recorded.experiment.data_record_path}: not found, so it is unknown whether the "
        "data have changed since training began; train.py writes it when training resumes",
    )
    assert recorded.load(begins=True).warnings == ()


def test_the_record_of_another_dataset(recorded, digits):
    shutil.copy(digits.experiment.data_record_path, recorded.experiment.data_record_path)
    assert recorded.refusal() == (
        "32 added, 80 gone, classes new: ash, beech, cedar, oak, classes gone: 0, 1, 2, 3, 4, ... "
        "(10 in all)"
    )
    recorded.keep()


def test_names_of_a_record_are_escaped():
    def record(*names):
        one = np.zeros(1, np.int8)
        labels = np.zeros(1, np.int32)
        return DataRecord(("a.png",), np.uint64([1]), labels, names, one, one, "image")

    found = changes(record("\x1b[31m\n", "\u202e"), record("cat"))
    assert found == "1 relabelled, classes new: cat, classes gone: \\x1b[31m\\n, \\u202e"


def test_many_classes_are_compared_fast():
    rows = np.arange(30_000, dtype=np.int32)
    one = np.zeros(len(rows), np.int8)

    def record(prefix):
        names = tuple(f"{prefix}{row}" for row in rows)
        return DataRecord(names, rows.astype(np.uint64), rows, names, one, one, "image")

    started = time.process_time()
    found = changes(record("a"), record("b"))
    assert found.startswith("30000 relabelled, classes new: b0, b1, b2, b3, b4, ... (30000 in all)")
    assert time.process_time() - started < 5


def test_names_that_no_encoding_fits(tmp_path):
    training = Training(tmp_path)
    for number in range(10):
        for name in (b"ash", b"\xe9\xff"):
            path = Path(os.fsdecode(os.fsencode(training.folder) + b"/" + name)) / f"{number}.png"
            write_picture(path, number + 50 * len(name))
    training.train(begins=True)
    assert training.load().changes == ""


def arrays_of(path):
    with np.load(path) as file:
        return dict(file)


def facts(**new):
    def change(arrays):
        values = json.loads(arrays["facts"].tobytes())
        arrays["facts"] = np.frombuffer(json.dumps({**values, **new}).encode(), np.uint8)

    return change


def column(name, change):
    return lambda arrays: arrays.update({name: change(arrays[name])})


WRONG = {
    **{f"without {name}": lambda arrays, name=name: arrays.pop(name)
       for name in ("version", "facts", "paths", "digests", "labels", "splits", "own")},
    "another version": column("version", lambda a: a + 1),
    "versions": column("version", lambda a: np.array([1, 1])),
    "no names": facts(class_names=[]),
    "a name that is a number": facts(class_names=["a", "b", "c", 4]),
    "names in an object": facts(class_names={"a": 1}),
    "fewer names": facts(class_names=["ash"]),
    "validated by chance": facts(validation_by="chance"),
    "validated by a list": facts(validation_by=["image"]),
    "paths perhaps": facts(has_paths=1),
    "facts that are a list": column("facts", lambda a: np.frombuffer(b"[]", np.uint8)),
    "facts that are none": column("facts", lambda a: np.frombuffer(b"{", np.uint8)),
    "facts nested deeply": column("facts", lambda a: np.frombuffer(b"[" * 99_999, np.uint8)),
    "facts of text": column("facts", lambda a: np.array("{}")),
    "labels too high": column("labels", lambda a: a + 3),
    "labels below 0": column("labels", lambda a: a - 1),
    "labels of 64 bits": column("labels", lambda a: a.astype(np.int64)),
    "splits too high": column("splits", lambda a: a + 1),
    "splits below 0": column("splits", lambda a: a - 1),
    "own too high": column("own", lambda a: a + 3),
    "digests as numbers with a fraction": column("digests", lambda a: a.astype(np.float64)),
    "digests in two dimensions": column("digests", lambda a: a[:, None]),
    "digests fewer": column("digests", lambda a: a[1:]),
    "own fewer": column("own", lambda a: a[1:]),
    "nothing at all": lambda arrays: arrays.update(
        {name: arrays[name][:0] for name in ("paths", "digests", "labels", "splits", "own")}
    ),
    "a path twice": column("paths", lambda a: np.r_[a[:-5], np.frombuffer(b"6.png", np.uint8)]),
    "paths of numbers": column("paths", lambda a: a.astype(np.int64)),
    "objects": column("paths", lambda a: np.array([{}, print], object)),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_record_that_is_wrong(recorded, wrong):
    path = recorded.experiment.data_record_path
    arrays = arrays_of(path)
    WRONG[wrong](arrays)
    np.savez(path, **arrays)
    check_damaged(recorded)


def check_damaged(training):
    path = training.experiment.data_record_path
    with pytest.raises(UserError) as caught:
        training.load()
    assert str(caught.value).startswith(f"{path}: damaged; accepted: the file that train.py")
    assert "\n" not in str(caught.value)
    training.load(begins=True)  # --overwrite is a way on


@pytest.mark.parametrize("content", [b"", b"PK", b"text", bytes(1000), b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_record(recorded, content):
    recorded.experiment.data_record_path.write_bytes(content)
    check_damaged(recorded)


def test_a_record_of_one_array(recorded):
    file = io.BytesIO()
    np.save(file, np.arange(3))
    recorded.experiment.data_record_path.write_bytes(file.getvalue())
    check_damaged(recorded)


def test_a_record_damaged_anywhere(recorded):
    """Cut off, or with one byte changed: it is refused, or read as it was."""
    path = recorded.experiment.data_record_path
    content, record = path.read_bytes(), read_record(path)
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(content), 150).tolist():
        spoilt = bytearray(content)
        spoilt[position] ^= int(rng.integers(1, 256))
        for damaged in (bytes(spoilt), content[:position]):
            path.write_bytes(damaged)
            try:
                assert changes(read_record(path), record) == ""
            except UserError as error:
                assert str(error).startswith(f"{path}: ")


def test_a_record_that_unpacks_to_too_much(recorded, monkeypatch):
    monkeypatch.setattr("src.experiment.data_record.MAX_BYTES", 1 << 16)
    path = recorded.experiment.data_record_path
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("paths.npy", bytes(1 << 17))
    assert path.stat().st_size < 1 << 12
    check_damaged(recorded)


def test_an_array_that_claims_to_be_huge(recorded):
    path = recorded.experiment.data_record_path
    arrays = arrays_of(path)
    member = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 60,)}
    np.lib.format.write_array_header_1_0(member, header)
    del arrays["paths"]
    np.savez(path, **arrays)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("paths.npy", member.getvalue())
    check_damaged(recorded)


@pytest.mark.parametrize("kind", ["directory", "pipe"])
def test_a_record_that_is_no_file(recorded, kind):
    path = recorded.experiment.data_record_path
    path.unlink()
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(UserError, match="trained_data.npz: .*accepted: "):
        recorded.load()


def test_the_record_does_not_depend_on_the_order_of_the_file_system(recorded, monkeypatch):
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = list(entries)  # from the last on

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return self

        def __next__(self):
            if not self.entries:
                raise StopIteration
            return self.entries.pop()

        def close(self):
            pass

    monkeypatch.setattr("src.data.listing.os.scandir", Reversed)
    data = load_data(recorded.params, recorded.data_dir)
    record, before = record_of(data), recorded.first.record
    assert record.paths == before.paths
    np.testing.assert_array_equal(record.splits, before.splits)


@pytest.mark.parametrize("magic", [b"\x93NUMPY", b"\x93NUMPZ"])
def test_a_member_that_is_no_array(recorded, magic):
    """NumPy gives the bytes of a member as they are if it does not begin as an array does."""
    path = recorded.experiment.data_record_path
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, magic + content[6:] if name == "facts.npy" else content)
    if magic == b"\x93NUMPY":
        assert read_record(path) is not None
    else:
        check_damaged(recorded)


def test_a_share_of_the_classes_that_would_hold_out_others_is_refused(tmp_path):
    """It is drawn by the number of classes: a class more, and others would be unseen."""
    training = Training(tmp_path, holdout_classes=0.5)
    for number in range(40):
        write_picture(training.folder / f"c{number % 10}" / f"{number}.png", number)
    training.train(begins=True)
    assert training.load().warnings == ()
    write_picture(training.folder / "c3" / "more.png", 99)
    assert "known images keep" in training.load(keeps_splits=True).warnings[0]
    write_picture(training.folder / "d" / "100.png", 100)
    with pytest.raises(UserError, match=r"the share 0\.5 would now hold out other classes than"):
        training.load(keeps_splits=True)
