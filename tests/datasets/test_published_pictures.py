"""CUB-200, Cars196 and Stanford Online Products, on small copies of their layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from src.data.file_lists import halves, whole
from src.data.loading import load_data
from src.datasets import cars196, sop
from src.errors import UserError
from src.params.schema import Params

SPECIES = ("Albatross", "Auklet", "Blackbird", "Bobolink", "Bunting", "Cardinal")


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 12), (shade, 255 - shade, 30)).save(path)


def params(name, **keys):
    return Params(**{"dataset": name, "image_size": 8, "validation_by": "class", **keys})


def write_cub(data_dir, inner="CUB_200_2011"):
    folder = data_dir / "cub200" / inner
    names = [f"{number:03}.{name}" for number, name in enumerate(SPECIES, start=1)]
    paths = [f"{name}/{name[4:]}_{number:04}.jpg" for name in names for number in range(4)]
    for number, path in enumerate(paths):
        picture(folder / "images" / path, 10 * number)
    lists = {
        "images.txt": paths,
        "image_class_labels.txt": [names.index(path[: path.index("/")]) + 1 for path in paths],
        "classes.txt": names,
        "train_test_split.txt": [number % 2 for number in range(len(paths))],
        "bounding_boxes.txt": ["1.0 2.0 3.0 4.0"] * len(paths),
    }
    for name, lines in lists.items():
        text = "".join(f"{number} {line}\n" for number, line in enumerate(lines, start=1))
        (folder / name).write_text(text)
    return folder


def write_cars(data_dir, layout):
    """Write six models of four pictures, in one of the two published layouts."""
    folder = data_dir / "cars196"
    models = [f"AM General Hummer {letter} 2000" for letter in "FEDCBA"]
    entries = [(1 + number // 4, number % 4 > 1) for number in range(24)]
    names = np.array(models, object)
    if layout == "all in one":
        rows = []
        for number, (label, is_test) in enumerate(entries, start=1):
            path = f"car_ims/{number:06}.jpg"
            picture(folder / path, number)
            rows.append((path, 1, 2, 3, 4, np.uint8(label), np.uint8(is_test)))
        kinds = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
        table = np.array([tuple(row) for row in rows], [(kind, object) for kind in kinds])
        savemat(folder / "cars_annos.mat", {"annotations": table[None], "class_names": names[None]})
        return folder
    (folder / "devkit").mkdir(parents=True)
    savemat(folder / "devkit/cars_meta.mat", {"class_names": names[None]})
    for file, part in cars196.DEVKIT.items():
        rows = []
        for number, (label, is_test) in enumerate(entries, start=1):
            if is_test == (part == "cars_test"):
                picture(folder / part / f"{number:05}.jpg", number)
                rows.append((1, 2, 3, 4, np.uint8(label), f"{number:05}.jpg"))
        kinds = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
        table = np.array(rows, [(kind, object) for kind in kinds])
        savemat(folder / file, {"annotations": table[None]})
    return folder


def write_sop(data_dir):
    folder = data_dir / "sop" / "Stanford_Online_Products"
    image = 0
    for split, first in (("train", 1), ("test", 7)):
        lines = ["image_id class_id super_class_id path"]
        for number in range(first, first + 6):
            for copy in range(2 + number % 3):
                image += 1
                path = f"bicycle_final/{110000 + number}_{copy}.JPG"
                picture(folder / path.replace(".JPG", ".jpg"), image)
                (folder / path.replace(".JPG", ".jpg")).rename(folder / path)
                lines.append(f"{image} {number} {1 + number % 2} {path}")
        (folder / sop.LISTS[split]).write_text("\n".join(lines) + "\n")
    return folder


def classes(split):
    return {split.class_names[label] for label in split.labels.tolist()}


def check_halves(data, first, second, num_test):
    """Check that test has the second half of the classes, whole, and train and validation none."""
    assert classes(data.splits["test"]) == second and len(data.splits["test"]) == num_test
    seen = {name: classes(data.splits[name]) for name in ("train", "validation")}
    assert seen["train"] | seen["validation"] == first
    assert not seen["train"] & seen["validation"] or data.validation_by == "image"
    for split in data.splits.values():
        assert split.images.shape[1:] == (8, 8, 3) and split.paths is not None


@pytest.mark.parametrize("inner", ["CUB_200_2011", "."])
def test_cub(tmp_path, inner):
    write_cub(tmp_path, inner)
    data = load_data(params("cub200", validation_by="image"), tmp_path)
    names = [f"{number:03}.{name}" for number, name in enumerate(SPECIES, start=1)]
    check_halves(data, set(names[:3]), set(names[3:]), 12)
    assert data.splits["test"].paths[0] == "images/004.Bobolink/Bobolink_0000.jpg"
    assert data.origins["test"] == "the second half"


@pytest.mark.parametrize("layout", ["all in one", "devkit"])
def test_cars(tmp_path, layout):
    write_cars(tmp_path, layout)
    data = load_data(params("cars196", validation_by="image"), tmp_path)
    first, second = (
        {f"AM General Hummer {letter} 2000" for letter in letters} for letters in ("FED", "CBA")
    )
    check_halves(data, first, second, 12)  # by class number, not by name


def test_sop(tmp_path):
    write_sop(tmp_path)
    data = load_data(params("sop"), tmp_path)
    check_halves(data, set("123456"), {"7", "8", "9", "10", "11", "12"}, 18)
    assert data.validation_by == "class" and data.origins["train"] == "Ebay_train.txt"


def test_halves():
    found = halves(range(1, 201))
    assert [found[1], found[100], found[101], found[200]] == ["train", "train", "test", "test"]
    assert list(halves([7, 5, 9]).values()) == ["train", "test", "test"]


@pytest.mark.parametrize(
    ("name", "file"),
    [("cub200", "images.txt"), ("cars196", "cars_annos.mat"), ("sop", "Ebay_train.txt")],
)
def test_nothing_there(tmp_path, name, file):
    text = refusal(tmp_path, name)
    assert text.startswith(f"{tmp_path / name}: found no folder with ") and file in text
    assert text.endswith("data/README.md says where it comes from")


def refusal(data_dir, name):
    with pytest.raises(UserError) as caught:
        load_data(params(name, validation_by="image"), data_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        ("images.txt", "x a.jpg", "images.txt: line 1: found 'x'; accepted: a whole number"),
        ("images.txt", "1", "images.txt: line 1: found '1'; accepted: 2 fields, separated by"),
        ("images.txt", "2 a.jpg", "images.txt: line 2: found 2 again; accepted: each number once"),
        ("images.txt", "99 a.jpg", "image_class_labels.txt: found no class of image 99 of images"),
        ("image_class_labels.txt", "1 9", "image 1: found class 9; accepted: a class of classes"),
        ("image_class_labels.txt", "1 b", "image 1: found 'b'; accepted: a whole number"),
        (
            "images.txt",
            "1 002.Auklet/Auklet_0000.jpg",
            "images.txt: found images/002.Auklet/Auklet_0000.jpg twice; accepted: each",
        ),
        ("classes.txt", "1 002.Auklet", "classes.txt: found a name twice or blank; acc"),
        ("classes.txt", "\xff", "classes.txt: byte 0: not UTF-8; accepted: UTF-8 text"),
    ],
)
def test_wrong_lists_of_cub(tmp_path, file, line, expected):
    path = write_cub(tmp_path) / file
    lines = path.read_text().splitlines()
    path.write_bytes("\n".join([line, *lines[1:]]).encode("latin-1"))
    assert expected in refusal(tmp_path, "cub200")


@pytest.mark.parametrize(
    ("file", "lines", "expected"),
    [
        ("Ebay_train.txt", ["1 1 1 a.JPG"], "line 1: found no header; accepted: image_id class_id"),
        ("Ebay_train.txt", [], "line 1: found no header"),
        (
            "Ebay_test.txt",
            [" ".join(sop.HEADER), "1 3 1 a.JPG"],
            "line 2: found class 3, which is ",
        ),
        ("Ebay_test.txt", [" ".join(sop.HEADER), "1 c 1 a.JPG"], "line 2: found 'c'; accepted: a"),
    ],
)
def test_wrong_lists_of_sop(tmp_path, file, lines, expected):
    (write_sop(tmp_path) / file).write_text("\n".join(lines))
    assert expected in refusal(tmp_path, "sop")


def test_a_devkit_that_is_incomplete_is_not_taken_for_another_archive(tmp_path):
    folder = write_cars(tmp_path, "devkit")
    missing = next(iter(set(cars196.DEVKIT) - {cars196.META}))
    next(folder.rglob(Path(missing).name)).unlink()
    assert Path(missing).name in refusal(tmp_path, "cars196")


@pytest.mark.parametrize("digits", [19, 5000])
def test_a_number_of_too_many_digits(digits):
    with pytest.raises(UserError, match="x: found '9{19,80}'; accepted: a whole number"):
        whole(digits * "9", "x")
    assert whole("0123", "x") == 123


def test_wrong_lists_of_cars(tmp_path):
    path = write_cars(tmp_path, "all in one") / "cars_annos.mat"
    good = path.read_bytes()
    for content in (b"", b"no MATLAB file" * 40, good[:200], good[: len(good) // 2]):
        path.write_bytes(content)
        text = refusal(tmp_path, "cars196")
        assert text.startswith(f"{path}: ")
        assert text.endswith("as published") or text.endswith(
            "no variable class_names; accepted: one"
        )
    savemat(path, {"annotations": np.zeros((1, 3))})
    assert refusal(tmp_path, "cars196") == f"{path}: found no variable class_names; accepted: one"
    names = np.array(["a", "b"], object)[None]
    savemat(path, {"annotations": np.zeros((1, 3)), "class_names": names})
    assert "annotations: found no struct; accepted: one of each image" in refusal(
        tmp_path, "cars196"
    )
    table = np.array([("a.jpg", 3)], [("relative_im_path", object), ("class", object)])
    savemat(path, {"annotations": table[None], "class_names": names})
    assert "annotation 0: found class 3; accepted: 1 to 2" in refusal(tmp_path, "cars196")
