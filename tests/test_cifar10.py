"""CIFAR-10 in its binary version: the archive or its files, whole, damaged or hostile."""

import io
import tarfile

import numpy as np
import pytest

from src.data import load_splits
from src.datasets import cifar10
from src.errors import UserError
from src.params import Params

PARAMS = Params(dataset="cifar10", validation_fraction=0.2)
NAMES = [*cifar10.TRAIN_FILES, *cifar10.TEST_FILES]
RECORD = 3073


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", 20)


def batch(seed, labels=None):
    """The bytes of a file, and the images and labels that it holds, from the definition."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(20) % 10 if labels is None else labels
    content = b""
    for image, label in zip(images, labels, strict=True):
        content += bytes([label])
        for channel in range(3):  # all of red, then green, then blue, each row by row
            for row in range(32):
                content += bytes(image[row, :, channel].tolist())
    return content, images, labels


BATCHES = {name: batch(seed) for seed, name in enumerate(NAMES)}


def write_archive(path, contents=None, prefix="cifar-10-batches-bin/"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents or [(name, BATCHES[name][0]) for name in NAMES]:
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_files(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / name).write_bytes(BATCHES[name][0])


PLACES = {
    "archive": lambda data_dir: write_archive(data_dir / "cifar10" / cifar10.ARCHIVE),
    "archive in data_dir": lambda data_dir: write_archive(data_dir / cifar10.ARCHIVE),
    "extracted": lambda data_dir: write_files(data_dir / "cifar10" / "cifar-10-batches-bin"),
    "files": lambda data_dir: write_files(data_dir / "cifar10"),
}


@pytest.mark.parametrize("place", PLACES)
def test_splits(tmp_path, place):
    PLACES[place](tmp_path)
    train, validation, test = load_splits(PARAMS, tmp_path).values()
    assert (len(train), len(validation), len(test)) == (80, 20, 20)
    np.testing.assert_array_equal(test.images, BATCHES["test_batch.bin"][1])
    np.testing.assert_array_equal(test.labels, np.arange(20) % 10)
    assert test.images.dtype == np.uint8 and test.labels.dtype == np.int32
    assert np.bincount(validation.labels).tolist() == [2] * 10
    everything = np.concatenate([BATCHES[name][1] for name in cifar10.TRAIN_FILES])
    held = {image.tobytes() for image in [*train.images, *validation.images]}
    assert held == {image.tobytes() for image in everything}
    assert train.class_names[3] == "cat" and len(train.class_names) == 10


def test_nothing_is_extracted(tmp_path):
    write_archive(tmp_path / "cifar10" / cifar10.ARCHIVE, prefix="../../up/")
    dataset = cifar10.load(tmp_path, PARAMS)
    assert dataset.source == tmp_path / "cifar10" / cifar10.ARCHIVE
    assert dataset.origins == {
        "train": "data_batch_1.bin to data_batch_5.bin",
        "test": "test_batch.bin",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]
    assert [path.name for path in (tmp_path / "cifar10").iterdir()] == [cifar10.ARCHIVE]


def message(data_dir):
    with pytest.raises(UserError) as caught:
        cifar10.load(data_dir, PARAMS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing(tmp_path):
    text = message(tmp_path)
    assert text.startswith(f"{tmp_path / 'cifar10'}, {tmp_path}: cifar-10-binary.tar.gz missing")
    assert f"`python -m src.download cifar10 --data_dir {tmp_path}`" in text and "170 MB" in text


def link(name):
    member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


def with_label(position, label):
    labels = np.arange(20) % 10
    labels[position] = label
    return batch(0, labels)[0]


GOOD = BATCHES["test_batch.bin"][0]
WRONG = {
    "truncated": (GOOD[:-1], f"byte {20 * RECORD - 1}: truncated: {20 * RECORD - 1} bytes; 61460"),
    "a record less": (GOOD[:-RECORD], f"byte {19 * RECORD}: truncated: {19 * RECORD} bytes;"),
    "longer": (GOOD + b"\0", f"byte {20 * RECORD}: trailing bytes: {20 * RECORD + 1} bytes;"),
    "empty": (b"", "byte 0: truncated: 0 bytes;"),
    "label": (with_label(7, 10), f"byte {7 * RECORD}: image 7 has label 10; 0 to 9 are accepted"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("place", ["archive", "files"])
def test_wrong_content(tmp_path, name, place):
    content, expected = WRONG[name]
    folder = tmp_path / "cifar10"
    if place == "archive":
        folder = folder / cifar10.ARCHIVE
        others = [(name, BATCHES[name][0]) for name in cifar10.TRAIN_FILES]
        write_archive(folder, [*others, ("test_batch.bin", content)])
    else:
        write_files(folder)
        (folder / "test_batch.bin").write_bytes(content)
    assert message(tmp_path).startswith(f"{folder / 'test_batch.bin'}: {expected}")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ([("x", link("test_batch.bin"))], "test_batch.bin: not a regular file; one file is"),
        ([("test_batch.bin", GOOD)] * 2, "test_batch.bin: there twice; one file is accepted"),
        (
            [(name, BATCHES[name][0]) for name in cifar10.TRAIN_FILES] + [("readme.html", b"")],
            "test_batch.bin missing; cifar-10-binary.tar.gz has data_batch_1.bin, ",
        ),
    ],
)
def test_wrong_members(tmp_path, contents, expected):
    path = tmp_path / "cifar10" / cifar10.ARCHIVE
    write_archive(path, contents)
    assert message(tmp_path).startswith(f"{path}: {expected}")


@pytest.mark.parametrize("damage", ["text", "empty", "cut off", "flipped"])
def test_damaged_archive(tmp_path, damage):
    path = tmp_path / "cifar10" / cifar10.ARCHIVE
    write_archive(path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[100_000] ^= 1  # in an image, where only the sum at the end can tell
    path.write_bytes(
        {"text": b"hello", "empty": b"", "cut off": content[:9000], "flipped": content}[damage]
    )
    assert message(tmp_path).startswith(f"{path}: damaged archive (")
