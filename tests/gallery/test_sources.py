"""Pictures that a user gives become the images that training would have made of them."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import raw_pictures
from PIL import Image

from src.data.decode import decode
from src.errors import UserError
from src.gallery.sources import (
    THUMBNAIL_SIDE,
    BadPicture,
    GivenPicture,
    Place,
    Preparation,
    from_file,
    labelled_by_csv,
    labelled_by_folder,
    preparation,
    read,
    thumbnail_of,
    unlabelled,
)
from src.params.schema import Params

GREY = Preparation(28, "L", "scale")


def write(path, size=(40, 30), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], len(mode)) if len(mode) > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_faulty_metadata_in_memory_and_on_disk_are_passed_over_alike(tmp_path):
    path = write(tmp_path / "a.png")
    start, idat, rest = path.read_bytes().partition(b"IDAT")
    faulty = start[:-4] + raw_pictures.chunk(b"iTXt", b"no text") + start[-4:] + idat + rest
    path.write_bytes(faulty)
    (on_disk,) = read([Place(path)], GREY)
    in_memory = from_file(io.BytesIO(faulty), Place(None), GREY)
    np.testing.assert_array_equal(in_memory.image, on_disk.image)


def shown(png):
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize(
    "params, shape, expected",
    [
        ({}, (28, 28, 1), Preparation(28, "L", "scale")),
        ({"dataset": "cifar10"}, (32, 32, 3), Preparation(32, "RGB", "scale")),
        (
            {"dataset": "image_folder", "image_dir": "x", "image_size": 16, "image_resize": "pad"},
            (16, 16, 3),
            Preparation(16, "RGB", "pad"),
        ),
    ],
)
def test_prepared_as_in_training(params, shape, expected):
    assert preparation(Params(**params), shape) == expected


def test_images_that_are_not_square_are_refused():
    with pytest.raises(UserError, match="20 x 30 pixels"):
        preparation(Params(), (20, 30, 1))


@pytest.mark.parametrize("resize", ["scale", "pad"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_same_pixels_as_the_dataset(tmp_path, mode, resize):
    path = write(tmp_path / "a.png")
    (given,) = read([Place(path)], Preparation(16, mode, resize))
    np.testing.assert_array_equal(given.image, decode(path, size=16, mode=mode, resize=resize))


def test_an_image_saved_as_png_comes_back_as_it_was(tmp_path):
    image = np.random.default_rng(0).integers(256, size=(28, 28, 1), dtype=np.uint8)
    Image.fromarray(image[:, :, 0]).save(tmp_path / "a.png")
    (given,) = read([Place(tmp_path / "a.png")], GREY)
    np.testing.assert_array_equal(given.image, image)


def test_orientation_and_transparency(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (given,) = read(
        [Place(tmp_path / "a.png")], Preparation(4, "RGB", "scale"), with_thumbnails=True
    )
    assert given.image[0, 3].tolist() == [255, 0, 0]
    assert given.image[0, 0].tolist() == [255, 255, 255]
    assert shown(given.thumbnail).getpixel((3, 0)) == (255, 0, 0)


def test_thumbnails_keep_the_form_and_are_small(tmp_path):
    (given,) = read([Place(write(tmp_path / "a.png", (400, 200)))], GREY, with_thumbnails=True)
    assert shown(given.thumbnail).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)
    image = np.zeros((200, 200, 3), np.uint8)
    assert shown(thumbnail_of(image)).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    assert shown(thumbnail_of(np.zeros((8, 8, 1), np.uint8))).size == (8, 8)


def test_many_come_in_order(tmp_path):
    paths = [write(tmp_path / f"{i}.png", (8, 8), seed=i) for i in range(300)]
    given = list(read([Place(path) for path in paths], GREY))
    assert [picture.place.path for picture in given] == paths


def test_what_is_named(tmp_path):
    for name in ("f/b.png", "f/deep/c.png", "f/a.png", "f/.hidden.png", "f/Thumbs.db"):
        write(tmp_path / "x.png").rename(
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True) or tmp_path / name
        )
    places = unlabelled([str(tmp_path / "missing.png"), str(tmp_path / "f"), "-"])
    names = [None if p.path is None else str(p.path.relative_to(tmp_path)) for p in places]
    assert names == ["missing.png", "f/a.png", "f/b.png", "f/deep/c.png", None]
    with pytest.raises(UserError, match="no file in it"):
        (tmp_path / "empty").mkdir()
        unlabelled([str(tmp_path / "empty")])


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    for name in ("f/a.png", "f/shut/b.png"):
        write(tmp_path / "x.png").rename(
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True) or tmp_path / name
        )
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "shut":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="f/shut: Permission denied; accepted: a folder that can"):
        unlabelled([str(tmp_path / "f")])


def test_classes_come_from_folders_or_a_csv_file(tmp_path):
    for name in ("cat/a.png", "dog/b.png"):
        write(tmp_path / name)
    (tmp_path / "list.csv").write_text("path,label\ndog/b.png,hound\n")
    found = labelled_by_folder(tmp_path)
    assert [(place.path.name, place.class_name) for place in found] == [
        ("a.png", "cat"),
        ("b.png", "dog"),
    ]
    assert labelled_by_csv(tmp_path / "list.csv") == [Place(tmp_path / "dog/b.png", "hound")]


@pytest.mark.parametrize("text", ["path\ndog/b.png\n", "path,label\ndog/b.png,\n"])
def test_a_csv_file_of_queries_needs_no_label(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    assert unlabelled([str(tmp_path / "list.csv")]) == [Place(tmp_path / "dog/b.png")]


def test_bad_ones_are_named_and_the_others_read(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    good = write(tmp_path / "good.png")
    places = [Place(tmp_path / "text.png"), Place(good), Place(tmp_path / "missing.png")]
    places.append(Place(tmp_path))
    text, fine, missing, folder = read(places, GREY)
    assert isinstance(fine, GivenPicture)
    for bad, name in ((text, "text.png"), (missing, "missing.png"), (folder, tmp_path.name)):
        assert isinstance(bad, BadPicture)
        assert name in bad.message and "\n" not in bad.message and "accepted: " in bad.message


def test_standard_input(tmp_path):
    path = write(tmp_path / "a.png")
    code = (
        "from src.gallery.sources import *\n"
        "(given,) = read(unlabelled(['-']), Preparation(28, 'L', 'scale'))\n"
        "print(given.place.name, given.image.sum())"
    )
    with path.open("rb") as file:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=file,
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
    expected = decode(path, size=28, mode="L", resize="scale").sum()
    assert done.stdout == f"standard input {expected}\n"
