"""Other datasets that join the training split: in its shape, as further classes, nowhere else."""

import json
import re
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from src.comparing.comparison import flat_params
from src.data.extra_classes import with_extra_classes
from src.data.holdout import hold_out
from src.data.images import ChainedImages, MappedImages
from src.data.loading import load_data
from src.errors import UserError
from src.experiment.data_record import load_recorded, save_record
from src.experiment.experiment import Experiment
from src.experiment.facts import check_training, describe
from src.mining.batches import training_batches
from src.params.reading import check_params, format_value
from src.params.schema import Params

RNG = np.random.default_rng(0)
OWN = RNG.integers(0, 256, (40, 6, 6, 1), np.uint8)
LETTERS = RNG.integers(0, 256, (9, 6, 6), np.uint8)
OF_LETTERS = np.array(["x", "y", "x", "x", "y", "z", "z", "x", "y"])
EXTRA = ({"dataset": "npz", "npz_file": "letters.npz"},)


def params(extra=EXTRA, **keys):
    keys = {"dataset": "npz", "npz_file": "own.npz", "extra_data": extra, **keys}
    return check_params(keys, "p.json")


@pytest.fixture
def data_dir(tmp_path):
    np.savez(tmp_path / "own.npz", x=OWN, y=np.arange(40) % 4)
    np.savez(tmp_path / "letters.npz", x=LETTERS, y=OF_LETTERS)
    return tmp_path


def load(data_dir, *extra, **keys):
    return load_data(params(extra or EXTRA, **keys), data_dir, params_path="p.json", to_train=True)


def refused(data_dir, *extra, **keys):
    with pytest.raises(UserError) as caught:
        load(data_dir, *extra, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_its_classes_come_after_the_others_and_after_their_poses(data_dir):
    given = params(extra_classes=["rot90"], holdout_classes=["2", "3"])
    data = load_data(given, data_dir, params_path="p.json", to_train=True)
    splits = hold_out(data.splits, given, "p.json")
    train = with_extra_classes(splits["train"], given, data.extra_data)
    own = len(splits["train"])
    assert len(train) == 2 * own + 9
    assert train.class_names[8:] == ("letters.npz/x", "letters.npz/y", "letters.npz/z")
    for number in range(9):  # each letter under its own name, with its own pixels
        position = 2 * own + number
        assert train.class_names[train.labels[position]] == f"letters.npz/{OF_LETTERS[number]}"
        np.testing.assert_array_equal(train.images[position][..., 0], LETTERS[number])
    np.testing.assert_array_equal(train.images[: 2 * own][:own], splits["train"].images)
    assert train.labels.dtype == np.int32
    # No other split has them, and the classes of metrics are the dataset's.
    for split in splits.values():
        assert split.class_names == ("0", "1", "2", "3") and split.labels.max() < 4
        letters = {letter.tobytes() for letter in LETTERS}
        assert not letters & {image.tobytes() for image in np.asarray(split.images)}


def test_they_are_loaded_only_to_train(data_dir):
    (data_dir / "letters.npz").unlink()
    assert load_data(params(), data_dir).extra_data is None
    assert "p.json: extra_data[0]: " in refused(data_dir)


def test_without_extra_data_nothing_changes(data_dir):
    given = params(())
    train = load_data(given, data_dir, to_train=True).splits["train"]
    assert with_extra_classes(train, given, None) is train


def test_batches_are_drawn_over_all_classes_alike(data_dir):
    given = params(classes_per_batch=3, examples_per_class=2, validation_by="image")
    data = load_data(given, data_dir, params_path="p.json", to_train=True)
    train = with_extra_classes(data.splits["train"], given, data.extra_data)
    batches = training_batches(train, given).from_step(0)
    drawn = [np.unique(train.labels[next(batches)]) for _ in range(70)]
    assert all(len(labels) == 3 for labels in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=7)
    assert counts.tolist() == [30] * 7  # 70 batches of 3, 7 classes


def test_a_share_of_each_batch(data_dir):
    """Of 3 classes a batch, 1 is extra; an epoch has the other images once, on average."""
    keys = {"classes_per_batch": 3, "examples_per_class": 2, "extra_share": 0.4}
    given = params(validation_by="image", **keys)
    data = load_data(given, data_dir, params_path="p.json", to_train=True)
    train = with_extra_classes(data.splits["train"], given, data.extra_data)
    own = len(data.splits["train"])
    batches = training_batches(train, given)
    assert batches.steps_per_epoch == -(-own // (2 * 2))
    drawn = list(islice(batches.from_step(0), 60))
    for batch in drawn:
        labels, counts = np.unique(train.labels[batch], return_counts=True)
        assert (labels >= 4).tolist() == [False, False, True] and counts.tolist() == [2, 2, 2]
        assert len(set(batch.tolist())) == 6
    classes = np.concatenate([np.unique(train.labels[batch]) for batch in drawn])
    assert np.bincount(classes).tolist() == [30] * 4 + [20] * 3
    uses = np.bincount(np.concatenate(drawn), minlength=own + 9)
    for label in range(7):  # of one class, all images alike
        assert np.ptp(uses[train.labels == label]) <= 1
    # A resumed training draws what an uninterrupted one draws.
    for step in (1, 7, 59):
        np.testing.assert_array_equal(next(batches.from_step(step)), drawn[step])
        assert batches.examples_before(step) == sum(map(len, drawn[:step]))


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_get_the_size_and_channels(data_dir, channels):
    large = RNG.integers(0, 256, (4, 12, 12, 4 - channels), np.uint8)
    np.savez(data_dir / "large.npz", x=large, y=[0, 1, 0, 1])
    own = np.repeat(OWN, channels, axis=3)
    np.savez(data_dir / "own.npz", x=own, y=np.arange(40) % 4)
    extra = load(data_dir, {"dataset": "npz", "npz_file": "large.npz"}).extra_data
    assert extra.images.shape == (4, 6, 6, channels) and extra.images.dtype == np.uint8
    for image, before in zip(extra.images, large, strict=True):
        picture = Image.fromarray(before.squeeze()).convert("L" if channels == 1 else "RGB")
        expected = np.asarray(picture.resize((6, 6), Image.Resampling.LANCZOS, reducing_gap=3.0))
        np.testing.assert_array_equal(image.squeeze(), expected)


def test_pictures_are_decoded_to_the_size_and_channels_and_chained(data_dir):
    for name in ("ash", "oak"):
        (data_dir / "trees" / name).mkdir(parents=True)
        for number in range(2):
            pixels = RNG.integers(0, 256, (9, 7, 3), np.uint8)
            Image.fromarray(pixels).save(data_dir / "trees" / name / f"{number}.png")
    trees = {"dataset": "image_folder", "image_dir": "trees", "image_resize": "pad"}
    extra = load(data_dir, *EXTRA, trees).extra_data
    assert extra.images.shape == (13, 6, 6, 1)
    assert extra.class_names[3:] == ("trees/ash", "trees/oak")
    assert extra.labels[9:].tolist() == [3, 3, 4, 4]
    with Image.open(data_dir / "trees" / "oak" / "1.png") as picture:
        grey = picture.convert("L").resize((5, 6), Image.Resampling.LANCZOS, reducing_gap=3.0)
    np.testing.assert_array_equal(extra.images[12][:, :5, 0], np.asarray(grey))
    assert not extra.images[12][:, 5:].any()


def test_vectors_join_vectors_of_their_length_only(data_dir):
    vectors = RNG.normal(size=(20, 5)).astype(np.float32)
    for name, width in (("own", 5), ("same", 5), ("other", 4)):
        np.savez(data_dir / f"{name}.npz", x=vectors[::-1, :width], y=np.arange(20) % 4)
    given = {"network": "mlp", "on_duplicates": "warn"}
    same = load(data_dir, {"dataset": "npz", "npz_file": "same.npz"}, **given).extra_data
    assert same.images.dtype == np.float32 and same.images.shape == (20, 1, 5, 1)
    other = {"dataset": "npz", "npz_file": "other.npz"}
    assert refused(data_dir, other, **given) == (
        'p.json: extra_data[0].dataset: found "npz" with vectors of 4 numbers; accepted: vectors '
        "of 5 numbers, as npz has"
    )
    assert refused(data_dir, *EXTRA, **given).endswith("accepted: vectors of 5 numbers, as npz has")
    pictures = {"dataset": "image_folder"}
    assert 'extra_data[0].dataset: found "image_folder"; accepted: a dataset of arrays' in (
        refused(data_dir, pictures, **given)
    )


def test_images_of_the_own_dataset_are_named_refused_or_left_out(data_dir):
    letters = np.concatenate([LETTERS, OWN[[0, 7]][..., 0]])
    np.savez(data_dir / "letters.npz", x=letters, y=[*OF_LETTERS, "x", "y"])
    found = (
        "p.json: extra_data[0]: found 2 of 11 images with the pixels of images in the experiment's "
        "own dataset or before it in extra_data"
    )
    data = load(data_dir)
    assert len(data.extra_data) == 11 and any(line.startswith(found) for line in data.warnings)
    assert refused(data_dir, on_duplicates="error").startswith(f"{found}; accepted: other images")
    dropped = load(data_dir, on_duplicates="drop").extra_data
    np.testing.assert_array_equal(dropped.images[:][..., 0], LETTERS)


def test_one_picture_in_two_extra_classes_is_named_refused_or_left_out(data_dir):
    """Of two datasets, or of one: the labels contradict each other."""
    np.savez(data_dir / "again.npz", x=LETTERS[:2], y=["a", "b"])
    np.savez(data_dir / "twice.npz", x=LETTERS[[0, 1, 0]], y=["a", "b", "c"])
    again = [*EXTRA, {"dataset": "npz", "npz_file": "again.npz"}]
    twice = {"dataset": "npz", "npz_file": "twice.npz"}
    across = "p.json: extra_data[1]: found 2 of 2 images with the pixels of images in the"
    within = f"{data_dir}/twice.npz: 2 images with equal pixels in several classes"
    for extra, line in ((again, across), ([twice], within)):
        assert any(warning.startswith(line) for warning in load(data_dir, *extra).warnings)
        assert refused(data_dir, *extra, on_duplicates="error").startswith(line)
    assert refused(data_dir, *again, on_duplicates="drop").startswith(across)
    assert load(data_dir, twice, on_duplicates="drop").extra_data.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([{}], "extra_data[0].dataset: found {}; accepted: 'cars196', "),
        ([{"dataset": "emnist"}], "extra_data[0].dataset: found \"emnist\"; accepted: 'cars196', "),
        ([{"dataset": "tfds"}], "extra_data[0].tfds_name: found null; accepted: a prepared"),
        (
            [*EXTRA, {"dataset": "mnist", "npz_file": "x.npz"}],
            "extra_data[1].npz_file: found \"x.npz\"; accepted: no value with dataset 'mnist'",
        ),
        (
            [*EXTRA, *EXTRA],
            'extra_data[1].dataset: found "npz"; accepted: another dataset, because extra_data[0] '
            "is the same",
        ),
        (
            [{"dataset": "npz", "npz_file": "own.npz"}],
            'extra_data[0].dataset: found "npz"; accepted: another dataset, because the '
            "experiment's own dataset is the same",
        ),
        ([{"dataset": "npz", "margin": 1}], "unknown key 'extra_data[0].margin'"),
        ([7], "extra_data.0: found 7; accepted: an object {...} with the keys "),
        ({"dataset": "npz"}, 'extra_data: found {"dataset": "npz"}; accepted: a list, each '),
    ],
)
def test_wrong_entries_are_named_in_one_line(extra, message):
    with pytest.raises(UserError) as caught:
        check_params({"dataset": "npz", "npz_file": "own.npz", "extra_data": extra}, "p.json")
    assert str(caught.value).startswith(f"p.json: {message}") and "\n" not in str(caught.value)


def test_missing_glyphs_name_the_command_that_draws_them(data_dir):
    line = refused(data_dir, {"dataset": "glyphs"})
    assert line.startswith(f"p.json: extra_data[0]: {data_dir}/glyphs/glyphs.npz: not found; ")
    assert "`make data-glyphs`" in line


def test_a_change_is_noticed_on_resuming_and_no_other_program_needs_them(data_dir, tmp_path):
    experiment = Experiment(tmp_path / "x")
    experiment.model_dir.mkdir()

    def loaded(*, keeps_splits=False, begins=False, to_train=True):
        return load_recorded(
            params(),
            data_dir,
            experiment,
            begins=begins,
            keeps_splits=keeps_splits,
            to_train=to_train,
        )

    save_record(experiment.data_record_path, loaded(begins=True).record)
    assert loaded().changes == ""
    changed = LETTERS.copy()
    changed[4, 0, 0] ^= 1
    np.savez(data_dir / "letters.npz", x=changed, y=[*OF_LETTERS[:-1], "w"])
    with pytest.raises(UserError) as caught:
        loaded()
    what = (
        "the data have changed since training began: extra_data: 1 added, 1 gone, 1 relabelled, "
        "classes new: letters.npz/w"
    )
    assert what in str(caught.value)
    assert what in loaded(keeps_splits=True).warnings[0]
    (data_dir / "letters.npz").unlink()
    assert loaded(to_train=False).changes == ""


def test_classes_of_the_same_name_are_named(data_dir):
    """A class that is held out may be trained on under another dataset's name."""
    names = np.array(["ash", "cat", "dog", "oak"])
    np.savez(data_dir / "own.npz", x=OWN, y=np.arange(40) % 4, class_names=names)
    for given, expected in (
        (["cat", "dog", "elm"], ["2 classes have names of the experiment's own: cat, dog;"]),
        (["0", "1", "elm"], []),
    ):
        np.savez(data_dir / "letters.npz", x=LETTERS, y=np.array(given * 3))
        said = [line for line in load(data_dir).warnings if "have names of" in line]
        assert len(said) == len(expected)
        assert all(
            f"extra_data[0]: {what}" in line for what, line in zip(expected, said, strict=True)
        )


def test_what_is_said_before_training(data_dir):
    given = params(classes_per_batch=8, examples_per_class=2, validation_by="image")
    data = load_data(given, data_dir, params_path="p.json", to_train=True)
    lines = check_training(given, data.splits, "p.json", data.extra_data)
    assert (
        "p.json: classes_per_batch: found 8, but the train split has 7 classes; all are used"
        in (lines)
    )
    assert (
        "extra_data: 9 more training images of 3 more classes, letters.npz/x to letters.npz/z"
        in (describe(data, data.splits, given))
    )


def test_classes_that_a_batch_lacks_and_those_without_an_image(data_dir):
    """`w` is only in the test split. Of 8 classes, 6 should be the dataset's, which has 4."""
    np.savez(
        data_dir / "letters.npz",
        x=LETTERS,
        y=OF_LETTERS,
        x_test=LETTERS[:1],
        y_test=np.array(["a"]),
    )
    keys = {"classes_per_batch": 8, "examples_per_class": 2, "validation_by": "image"}
    for share, kept in ((0.25, "6 should be of npz, which has 4"), (0.5, "4 .* extra_data.* 3")):
        given = params(**keys, extra_share=share)
        data = load_data(given, data_dir, params_path="p.json", to_train=True)
        lines = check_training(given, data.splits, "p.json", data.extra_data)
        assert re.search(f"p.json: extra_share: found {share}, of 8 .*{kept} to train", lines[0])
        line = "9 more training images of 3 more classes, letters.npz/x to letters.npz/z"
        share = round(8 * share)
        assert f"extra_data: {line}; {share} of 8 classes of a batch" in (
            describe(data, data.splits, given)
        )


def test_where_it_is_cached_and_how_it_is_shown():
    entry = {"dataset": "image_folder", "image_dir": "trees"}
    here, there = (params([{**entry, "image_cache": cache}]) for cache in ("a", "b"))
    assert here.differences(there) == []  # the same experiment
    assert here.differences(params([{**entry, "image_dir": "ships"}])) == ["extra_data"]
    assert flat_params(here) == flat_params(there)  # one row of compare.py
    assert json.loads(format_value(flat_params(here)["extra_data"])) == [entry]
    assert Params.model_validate(json.loads(json.dumps(here.model_dump()))) == here


def test_chained_images_come_in_the_order_asked_for():
    second, third = OWN[5:9], OWN[20:21]
    mapped = MappedImages(OWN, np.array([3, 1]))
    chained = ChainedImages([mapped, second, third])
    expected = np.concatenate([OWN[[3, 1]], second, third])
    assert len(chained) == 7 and chained.shape == (7, 6, 6, 1)
    for key in (6, slice(1, 5), np.array([[6, 0], [2, 2]]), expected[:, 0, 0, 0] > 99):
        np.testing.assert_array_equal(chained[key], expected[key])
    np.testing.assert_array_equal(chained.take(np.array([5, 0]))[:], expected[[5, 0]])
    np.testing.assert_array_equal(list(chained), expected)
