"""One's own pictures: every kind of file, layout and damage, and the cache behind them."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import train
import visualize
from src.data import picture_files
from src.data.digests import digest, digests_of
from src.data.images import MappedImages
from src.data.loading import load_data
from src.data.split import SPLITS
from src.errors import UserError
from src.params.schema import Params
from src.printable import printable

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


def params(**keys):
    return Params(**{"dataset": "image_folder", "image_size": 8, **keys})


def write_picture(path, colour=(200, 30, 30), size=(12, 10), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """image_folder/ with ten pictures of each of three colours, slightly different ones."""
    for name, colour in COLOURS.items():
        for number in range(10):
            shade = tuple(channel + number for channel in colour)
            write_picture(tmp_path / "image_folder" / name / f"{number}.png", shade)
    return tmp_path / "image_folder"


def load(data_dir, split, params):
    return load_data(params, data_dir).splits[split]


def load_all(folder, **keys):
    return load_data(params(**keys), folder.parent).splits


def message(folder, split="train", **keys):
    with pytest.raises(UserError) as caught:
        load(folder.parent, split, params(**keys))
    return str(caught.value)


def colour_names(split):
    """The class of each picture, by its pixels."""
    return [list(COLOURS)[int(image[4, 4].argmax())] for image in split.images]


# Layouts


def test_class_folders_with_stratified_held_out_splits(folder):
    splits = load_all(folder, test_fraction=0.2, validation_fraction=0.25)
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }
    for split in splits.values():
        assert split.class_names == ("blue", "green", "red")
        assert split.images.shape == (len(split), 8, 8, 3)
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
        assert [split.class_names[label] for label in split.labels] == colour_names(split)
        assert len(set(np.bincount(split.labels))) == 1
    # The shades tell that no picture is in two splits, and all are in one.
    shades = [tuple(x[4, 4]) for split in splits.values() for x in split.images]
    assert len(set(shades)) == 30


def test_the_test_split_does_not_depend_on_the_seed(folder):
    one, other = load_all(folder, seed=1), load_all(folder, seed=2)
    np.testing.assert_array_equal(one["test"].images, other["test"].images)
    assert not np.array_equal(one["validation"].images, other["validation"].images)


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_folders_of_splits(folder, validation):
    for name, numbers in (("test", (0, 1)), (validation, (2,)), ("train", range(3, 10))):
        for colour in COLOURS:
            for number in numbers:
                (folder / name / colour).mkdir(parents=True, exist_ok=True)
                (folder / colour / f"{number}.png").rename(folder / name / colour / f"{number}.png")
    for colour in COLOURS:
        (folder / colour).rmdir()
    sizes = {name: len(split) for name, split in load_all(folder).items()}
    assert sizes == {"train": 21, "validation": 3, "test": 6}
    (folder / "other").mkdir()
    assert message(folder).startswith(
        f"{folder / 'other'}: found beside test/, which looks like the test split; accepted: only"
    )


def test_a_class_may_be_called_train_in_a_csv_and_folders_may_be_nested(tmp_path):
    for name in ("van", "car"):
        for number in range(4):
            write_picture(tmp_path / "image_folder" / name / "deep" / "er" / f"{number}.png")
    split = load(tmp_path, "test", params(test_fraction=0.5))
    assert split.class_names == ("car", "van") and len(split) == 4
    rows = [
        (f"{n}/deep/er/{i}.png", {"van": "train"}.get(n, n))
        for n in ("van", "car")
        for i in range(4)
    ]
    write_csv(tmp_path / "image_folder", rows)
    split = load(tmp_path, "test", params(test_fraction=0.5, image_csv="list.csv"))
    assert split.class_names == ("car", "train") and len(split) == 4


@pytest.mark.parametrize("what", ["empty", "bad", "loose"])
def test_a_split_that_is_there_is_never_drawn_from_another_one(folder, what):
    (folder / "train").mkdir()
    for colour in COLOURS:
        (folder / colour).rename(folder / "train" / colour)
    (folder / "Testing" / "red").mkdir(parents=True)
    if what == "bad":
        (folder / "Testing" / "red" / "1.png").write_bytes(b"")
    elif what == "loose":
        write_picture(folder / "Testing" / "1.png")
    assert message(folder, on_bad_image="skip") == (
        f"{folder}: found a test split (the folder Testing/) without a usable picture; accepted: "
        "at least one usable picture, or no such split"
    )


def test_a_csv_without_a_train_split(folder):
    write_csv(
        folder,
        [(f"red/{n}.png", "ab"[n % 2], "test") for n in range(9)],
        ("path", "label", "split"),
    )
    assert message(folder, image_csv="list.csv") == (
        f"{folder / 'list.csv'}: found no picture of the train split; accepted: a column split "
        'that says "train" for pictures of at least 2 classes'
    )


def test_every_picture_knows_its_file(folder):
    for split in load_all(folder).values():
        for path, image, label in zip(split.paths, split.images, split.labels, strict=True):
            assert Path(path).parent.name == split.class_names[label]
            with Image.open(folder / path) as picture:
                assert picture.getpixel((5, 5)) == tuple(image[4, 4])
        np.testing.assert_array_equal(split.digests, digests_of(split.images))
        of_files = [digest((folder / path).read_bytes()) for path in split.paths]
        assert split.file_digests.tolist() == of_files


def test_hidden_names_and_files_beside_the_classes_are_passed_over(folder):
    (folder / "README.md").write_text("about")
    (folder / "red" / ".DS_Store").write_bytes(b"\0")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.png").write_bytes(b"")
    assert sum(len(split) for split in load_all(folder).values()) == 30


def test_image_dir_may_have_another_name_and_be_absolute(folder, tmp_path):
    folder.rename(tmp_path / "mine")
    assert len(load(tmp_path, "test", params(image_dir="mine"))) == 6
    assert len(load(Path("/nowhere"), "test", params(image_dir=str(tmp_path / "mine")))) == 6


def write_csv(folder, rows, header=("path", "label"), name="list.csv"):
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    (folder / name).write_text(text.getvalue(), encoding="utf-8")


def test_csv(folder):
    rows = [
        (f"{colour}/{number}.png", "warm" if colour == "red" else "cold, really", split)
        for colour in COLOURS
        for number, split in ((0, "train"), (1, "train"), (2, "validation"), (3, "test"))
    ]
    write_csv(folder, rows, header=("path", "label", "split"))
    splits = load_all(folder, image_csv="list.csv")
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 6,
        "validation": 3,
        "test": 3,
    }
    test = splits["test"]
    assert test.class_names == ("cold, really", "warm")
    assert [test.class_names[label] for label in test.labels] == ["warm", *["cold, really"] * 2]
    assert colour_names(test) == ["red", "green", "blue"]  # the order of the file


def test_labels_of_the_csv_change_without_decoding_again(folder, monkeypatch):
    write_csv(folder, [(f"red/{n}.png", "ab"[n % 2]) for n in range(10)])
    load(folder.parent, "train", params(image_csv="list.csv"))
    write_csv(folder, [(f"red/{n}.png", "xy"[n % 2]) for n in range(10)])
    monkeypatch.setattr(picture_files, "decode", None)
    split = load(folder.parent, "train", params(image_csv="list.csv"))
    assert split.class_names == ("x", "y")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "line 1: found columns ''; accepted: path,label or path,label,split"),
        (b"file,label\n", "line 1: found columns 'file,label'; accepted: path,label or"),
        (b"path,label\na.png\n", "line 2: found 1 fields; accepted: 2"),
        (b"path,label\n\na.png,x,y\n", "line 3: found 3 fields; accepted: 2"),
        (b"path,label\n,x\n", "line 2: found path ''; accepted: a path"),
        (b"path,label\na.png, \n", "line 2: found label ' '; accepted: a label"),
        (b"path,label\na\0.png,x\n", "line 2: "),
        (b"path,label,split\na.png,x,evil\n", "line 2: found split 'evil'; accepted: train, "),
        (
            b"path,label\na.png,x\nb.png,y\na.png,x\n",
            "line 4: found path 'a.png', which is also on line 2;",
        ),
        (b"path,label\n\xe9.png,x\n", "line 2, byte 11 of the file: not UTF-8; accepted: CSV in"),
        (b'path,label\n"a.png,x\n', "line 2: "),
        (b"path,label\n", "found 0 pictures; accepted: at least 2 classes"),
        (None, "No such file or directory; accepted: a CSV file in image_dir"),
    ],
)
def test_wrong_csv(folder, content, expected):
    if content is not None:
        (folder / "list.csv").write_bytes(content)
    text = message(folder, image_csv="list.csv")
    assert text.startswith(f"{folder / 'list.csv'}: {expected}") and "\n" not in text


def test_no_folder_no_class_one_class(tmp_path):
    folder = tmp_path / "image_folder"
    text = message(folder)
    assert text.startswith(f"{folder}: No such file or directory; accepted: a folder of pictures")
    folder.mkdir()
    assert message(folder).startswith(f"{folder}: found 0 pictures; accepted: at")
    write_picture(folder / "only" / "1.png")
    text = message(folder)
    assert text.startswith(f"{folder}: found 1 picture in 1 class (only); accepted: at")
    assert text.endswith("a label of the CSV file")
    (folder / "other").mkdir()
    (folder / "other" / "bad.png").write_bytes(b"")
    text = message(folder, on_bad_image="skip")
    assert text.startswith(f"{folder}: found 1 picture (and 1 bad) in 1 class (only); accepted:")


def test_pictures_in_no_class_folder(tmp_path):
    folder = tmp_path / "image_folder"
    for number in range(5):
        write_picture(folder / f"{number}.png")
    first, second = message(folder).splitlines()
    assert first.startswith(f"{folder}: ignored files outside the class folders: 0.png, 1.png, 2.p")
    assert second.startswith(f"{folder}: found 0 pictures; accepted: at least 2")


def test_a_folder_around_the_classes_is_known(folder, tmp_path):
    folder.rename(tmp_path / "around")
    folder.mkdir()
    (tmp_path / "around").rename(folder / "pics")
    assert message(folder).endswith("; did you mean 'image_folder/pics' as image_dir?")
    assert len(load(tmp_path, "test", params(image_dir="image_folder/pics"))) == 6


def test_a_split_that_would_be_empty(folder):
    assert "split validation: found 0 examples" in message(
        folder, "validation", validation_fraction=0.01
    )
    assert "split test: found 0 examples (test_fraction 0.01 of 30)" in message(
        folder, "test", test_fraction=0.01
    )


# Bad pictures among good ones


def spoil(folder):
    """Put one file of each bad kind among the red ones; return what is said of each."""
    red = folder / "red"
    outside = folder.parent / "outside.png"
    write_picture(outside)
    (folder.parent / "outside").mkdir()
    (red / "link_out.png").symlink_to(outside)
    (red / "link_relative.png").symlink_to("../../outside.png")
    (red / "link_nowhere.png").symlink_to("absent.png")
    (red / "link_circle.png").symlink_to("link_circle.png")
    (red / "link_folder").symlink_to(folder / "blue")
    (folder / "outer").symlink_to(folder.parent / "outside")
    os.mkfifo(red / "pipe.png")
    (red / "notes.txt").write_text("notes")
    whole = write_picture(folder.parent / "whole.png").read_bytes()
    (red / "cut\noff.png").write_bytes(whole[: len(whole) // 2])
    return {
        "red/link_out.png": "outside the folder of pictures",
        "red/link_relative.png": "outside the folder of pictures",
        "red/link_nowhere.png": "missing",
        "red/link_circle.png": "",
        "red/link_folder": "not a regular file",
        "outer": "outside the folder of pictures",
        "red/pipe.png": "not a regular file",
        "red/notes.txt": "not a picture",
        "red/cut\\noff.png": "a damaged picture",
    }


def test_bad_pictures_of_a_list_have_their_lines(folder):
    rows = ["path,label", "red/0.png,a", "", "absent.png,b", "../outside.png,b"]
    (folder / "list.csv").write_text("\n".join(rows))
    text = message(folder, image_csv="list.csv", on_bad_image="error")
    assert "absent.png (line 4 of the CSV file): missing" in text
    assert "outside.png (line 5 of the CSV file): outside the folder of pictures" in text


def test_bad_pictures_are_all_named_in_one_error(folder):
    reasons = spoil(folder)
    text = message(folder, on_bad_image="error")
    lines = text.splitlines()
    assert len(lines) == len(reasons) + 1
    for name, reason in reasons.items():
        (line,) = [line for line in lines if line.startswith(f"{folder / name}: ")]
        assert reason in line
    assert lines[-1] == (
        f"{folder}: 9 of 39 pictures are bad; accepted: no bad pictures; fix or remove them, or "
        'set "on_bad_image": "skip" to leave them out'
    )


def test_bad_pictures_are_named_and_skipped(folder):
    reasons = spoil(folder)
    data = load_data(params(on_bad_image="skip"), folder.parent)
    splits = data.splits
    assert f"{folder}: 9 of 39 pictures skipped" in data.warnings
    for name in reasons:
        assert any(line.startswith(f"{folder / name}: ") for line in data.warnings)
    assert sum(len(split) for split in splits.values()) == 30
    for split in splits.values():
        assert [split.class_names[label] for label in split.labels] == colour_names(split)
        assert all(image.any() for image in split.images)


def test_only_the_first_bad_pictures_are_named(folder):
    for number in range(30):
        (folder / "red" / f"bad{number:02}.png").write_bytes(b"")
    lines = message(folder).splitlines()
    assert len(lines) == 22
    assert lines[20].startswith("... and 10 more, see ")
    manifest = json.loads(Path(lines[20].rpartition(" ")[2]).read_text())
    assert len(manifest["bad"]) == 30


def test_links_within_the_folder_are_followed(folder):
    (folder / "red" / "link.png").symlink_to("0.png")
    (folder / "red" / "absolute.png").symlink_to(folder / "red" / "1.png")
    assert sum(len(split) for split in load_all(folder).values()) == 32


@pytest.mark.parametrize("path", ["../outside.png", "/etc/passwd", "red/absent.png", "red"])
def test_paths_of_a_csv_are_not_trusted(folder, path):
    write_picture(folder.parent / "outside.png")
    write_csv(folder, [(f"red/{n}.png", "ab"[n % 2]) for n in range(10)] + [(path, "a")])
    text = message(folder, image_csv="list.csv")
    assert (
        text.startswith(f"{folder / path} (line 12 of the CSV file): ")
        and "1 of 11 pictures are bad" in text
    )
    split = load(folder.parent, "test", params(image_csv="list.csv", on_bad_image="skip"))
    assert len(split) == 2


def test_names_that_no_encoding_fits(folder, capsys):
    os.rename(folder / "red", os.fsencode(folder) + b"/r\xe9d")
    os.rename(
        os.fsencode(folder) + b"/r\xe9d/0.png",
        os.fsencode(folder) + b"/r\xe9d/\xff \xe2\x80\xae.png",
    )
    with open(os.fsencode(folder) + b"/r\xe9d/\xfe.png", "wb"):
        pass
    split = load(folder.parent, "train", params(on_bad_image="skip"))
    assert split.class_names == ("blue", "green", "r\\udce9d")
    assert sum(len(s) for s in load_all(folder, on_bad_image="skip").values()) == 30
    assert "r\\udce9d/\\udcfe.png: an empty file" in message(folder)
    message(folder).encode()  # can be printed anywhere


def test_printable():
    assert printable("Käse 1.png") == "Käse 1.png"
    assert printable("a\nb\x1b[31m\udcff") == "a\\nb\\x1b[31m\\udcff"


# The cache


def cache_files(folder):
    return sorted((folder / ".tripletboard").iterdir())


def test_pictures_are_decoded_once(folder, monkeypatch):
    first = load_all(folder)
    assert [path.name for path in cache_files(folder)] == ["RGB-8-scale.npy", "RGB-8-scale.npz"]
    monkeypatch.setattr(picture_files, "decode", None)
    again = load_all(folder)
    for split in SPLITS:
        np.testing.assert_array_equal(first[split].images, again[split].images)


CHANGES = {
    "new file": lambda red: write_picture(red / "new.png", (1, 2, 3)),
    "removed": lambda red: (red / "0.png").unlink(),
    "renamed": lambda red: (red / "0.png").rename(red / "zero.png"),
    "other size": lambda red: write_picture(red / "0.png", (1, 2, 3), size=(90, 90)),
    "other time": lambda red: os.utime(red / "0.png", ns=(1, 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_cache_follows_the_files(folder, change):
    load_all(folder)
    before = cache_files(folder)[1].stat().st_mtime_ns
    CHANGES[change](folder / "red")
    splits = load_all(folder)
    assert cache_files(folder)[1].stat().st_mtime_ns != before
    number = sum(len(split) for split in splits.values())
    assert number == {"new file": 31, "removed": 29}.get(change, 30)
    pixels = {tuple(x[0, 0]) for split in splits.values() for x in split.images}
    assert ((1, 2, 3) in pixels) == (change in ("new file", "other size"))


def test_params_that_matter_have_caches_of_their_own(folder):
    for keys in ({}, {"image_size": 9}, {"image_mode": "L"}, {"image_resize": "pad"}):
        split = load(folder.parent, "train", params(**keys))
        size = keys.get("image_size", 8)
        channels = 1 if keys.get("image_mode") == "L" else 3
        assert split.images.shape[1:] == (size, size, channels)
    assert len(cache_files(folder)) == 8


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def scribble(path):
    content = bytearray(path.read_bytes())
    content[-50:] = bytes(50)
    path.write_bytes(content)


DAMAGES = {
    "images cut off": lambda npy, manifest: cut_off(npy),
    "images written to": lambda npy, manifest: scribble(npy),
    "images empty": lambda npy, manifest: npy.write_bytes(b""),
    "images gone": lambda npy, manifest: npy.unlink(),
    "manifest gone": lambda npy, manifest: manifest.unlink(),
    "manifest cut off": lambda npy, manifest: cut_off(manifest),
    "manifest a list": lambda npy, manifest: manifest.write_text("[]"),
    "manifest without keys": lambda npy, manifest: manifest.write_text("{}"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_built_again(folder, damage):
    before = {name: np.array(split.images) for name, split in load_all(folder).items()}
    manifest, npy = cache_files(folder)
    DAMAGES[damage](npy, manifest)
    for name, split in load_all(folder).items():
        np.testing.assert_array_equal(split.images, before[name])


def test_a_build_that_breaks_off_leaves_nothing(folder, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(picture_files, "decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load(folder.parent, "train", params())
    assert cache_files(folder) == []


def test_the_cache_can_stand_elsewhere_and_serve_two_folders(folder, tmp_path):
    (tmp_path / "other").mkdir()
    for name in ("red", "blue"):
        (folder / name).rename(tmp_path / "other" / name)
        write_picture(folder / name / "1.png")
        write_picture(folder / name / "2.png")
    keys = {"image_cache": "caches", "test_fraction": 0.5}
    for image_dir in ("image_folder", "other", "image_folder"):
        load(tmp_path, "train", params(image_dir=image_dir, **keys))
    assert len(list((tmp_path / "caches").iterdir())) == 4
    assert not (folder / ".tripletboard").exists()


def test_the_cache_can_be_divided_among_folders(folder, tmp_path):
    whole = load(tmp_path, "train", params(test_fraction=0.5))
    keys = {"image_cache": ["caches", str(tmp_path / "disk")], "test_fraction": 0.5}
    divided = load(tmp_path, "train", params(**keys))
    np.testing.assert_array_equal(np.asarray(divided.images), np.asarray(whole.images))
    for name, number in (("caches", 1), ("disk", 2)):
        (path,) = (tmp_path / name).glob("*.npy")
        assert path.name.startswith("RGB-8-scale-") and path.name.endswith(f"-{number}-of-2.npy")
        assert len(np.load(path)) == 15


@pytest.mark.parametrize("cache", ["image_folder", "image_folder/red", "image_folder/new"])
def test_a_cache_among_the_pictures_is_refused_before_it_is_written(folder, cache):
    before = sorted(folder.rglob("*"))
    with pytest.raises(UserError, match=r"image_cache: found .*; accepted: a folder outside "):
        load(folder.parent, "test", params(image_cache=["elsewhere", cache]))
    assert sorted(folder.rglob("*")) == before
    assert not (folder.parent / "elsewhere").exists()
    hidden = params(image_cache="image_folder/.cache")
    assert [len(load(folder.parent, "test", hidden)) for _ in range(2)] == [6, 6]


def test_a_folder_that_cannot_be_written_to(folder):
    (folder / ".tripletboard").write_text("in the way")
    text = message(folder)
    assert text.startswith(f"{folder / '.tripletboard' / 'RGB-8-scale.npy'}: cannot be written: ")
    assert 'to use another folder, set "image_cache"' in text and "\n" not in text
    assert len(load(folder.parent, "test", params(image_cache="elsewhere"))) == 6


def test_a_full_disk_is_known_before_decoding(folder, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(picture_files, "decode", None)
    assert "No space left on device" in message(folder)


# Memory


def test_mapped_images_behave_as_an_array(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (9, 2, 3, 1), dtype=np.uint8)
    rows = np.array([5, 2, 8, 2])
    mapped, plain = MappedImages(array, rows), array[rows]
    assert mapped.shape == plain.shape and mapped.dtype == plain.dtype and len(mapped) == 4
    assert mapped.ndim == plain.ndim
    for key in (1, -1, slice(1, 3), slice(None, None, 2), np.array([3, 0]), [0, 1], rows > 2):
        np.testing.assert_array_equal(mapped[key], plain[key])
        np.testing.assert_array_equal(mapped[key, :1, 1:], plain[key, :1, 1:])
    with pytest.raises(TypeError, match="only slices"):
        mapped[[0, 1], [0, 1]]  # which NumPy would pair
    np.testing.assert_array_equal(np.stack(list(mapped)), plain)
    np.testing.assert_array_equal(np.asarray(mapped), plain)
    taken = mapped.take(np.array([2, 0])).take(np.array([1]))
    np.testing.assert_array_equal(taken, plain[[0]])
    with pytest.raises(IndexError):
        mapped[4]


@pytest.mark.usefixtures("one_figure")
def test_train_and_visualize(folder, make_experiment, capsys, monkeypatch):
    """The programs themselves; the one bad picture is named once."""
    monkeypatch.setitem(sys.modules, "umap", None)  # as if it were not installed: it starts slowly
    (folder / "red" / "bad.png").write_bytes(b"")
    keys = {"dataset": "image_folder", "image_size": 8, "on_bad_image": "skip", "num_epochs": 1}
    model_dir = make_experiment(**keys)
    arguments = ["--model_dir", str(model_dir), "--data_dir", str(folder.parent)]
    train.main(arguments)
    printed = capsys.readouterr()
    assert "image_folder (20 train, 4 validation, 6 test)" in printed.out
    assert (printed.out + printed.err).count("red/bad.png: an empty file") == 1
    visualize.main(arguments)
    lines = (model_dir / "projector" / "test" / "metadata.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == [
        *["blue"] * 2,
        *["green"] * 2,
        *["red"] * 2,
    ]
    make_experiment(**{**keys, "image_size": 9})
    with pytest.raises(UserError, match=r"image_size \(now 9, trained with 8\)"):
        train.main(arguments)


# For each folder of data, a child process trains, evaluates, embeds and writes the projector's
# files. It prints how much memory of its own (pages that no file backs) it takes at the most, and
# how much more while it then copies all images. Both children begin alike, after the imports.
MEMORY = """
import os, sys, threading, time
from pathlib import Path
import numpy as np
from model.training.embedding import embed
from model.training.evaluation import evaluate
from model.training.loop import train_and_evaluate
from src.data.loading import load_data
from src.experiment.experiment import Experiment
from src.params.schema import Params
from src.projector.files import write_projector

peak = 0

def own_memory():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024

def watch():
    global peak
    while True:
        peak = max(peak, own_memory())
        time.sleep(0.002)

def run(folder):
    global peak
    threading.Thread(target=watch, daemon=True).start()
    params = Params(dataset="image_folder", image_size=224, num_blocks=1, num_channels=1,
                    embedding_size=2, batch_size=16, num_epochs=1)
    splits = load_data(params, folder).splits
    experiment = Experiment(folder / "experiment")
    train_and_evaluate(experiment, params, splits)
    evaluate(experiment, params, splits)
    embeddings = embed(experiment, params, splits["train"])
    shown = np.arange(0, len(embeddings), len(embeddings) // 100)
    write_projector(experiment.projector_dir("train"), name="train", embeddings=embeddings[shown],
                    split=splits["train"].take(shown), indices=shown)
    time.sleep(0.05)
    used, before, peak = peak, own_memory(), 0
    copies = [np.asarray(split.images) for split in splits.values()]
    time.sleep(0.05)
    print("memory", used, peak - before, flush=True)

for folder in sys.argv[1:]:
    if os.fork() == 0:
        run(Path(folder))
        os._exit(0)
    _, status = os.wait()
    assert status == 0
"""


@pytest.mark.system
@pytest.mark.skipif(sys.platform != "linux", reason="measured by /proc")
def test_a_data_set_is_never_in_memory_as_a_whole(tmp_path):
    # To train with; 100 to validate and 100 to test. Of fewer, buffers alone would take more with
    # the number.
    sizes = {"few": 500, "many": 1200}
    for name, size in sizes.items():
        splits = np.repeat(SPLITS, [size, 100, 100])
        for number, split in enumerate(splits):
            folder = tmp_path / name / "image_folder" / split / f"class {number % 5}"
            write_picture(folder / f"{number}.bmp", (number % 256, number // 256, 99), (2, 2))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "few", tmp_path / "many"],
        cwd=ROOT,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed is given back
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("memory ")]
    (few, _), (many, used_by_a_copy) = [map(int, numbers) for _, *numbers in lines]
    image = 224 * 224 * 3
    more = (sizes["many"] - sizes["few"]) * image
    assert many - few < more / 2, f"{(many - few) / 1e6:.0f} MB for {more / 1e6:.0f} MB of images"
    assert used_by_a_copy > sizes["many"] * image  # so the measure would have shown it
