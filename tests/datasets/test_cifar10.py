"""CIFAR-10 in its binary version: the archive or its files, whole, damaged or hostile."""

import gzip
import io
import tarfile
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from src.datasets import cifar10
from src.errors import UserError

PARAMS = SimpleNamespace(validation_fraction=0.2, seed=0)
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


TRAIN_MEMBERS = [(name, BATCHES[name][0]) for name in cifar10.TRAIN_FILES]


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
    splits = cifar10.load(tmp_path, PARAMS).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 100, "test": 20}
    train, test = splits["train"], splits["test"]
    np.testing.assert_array_equal(test.images, BATCHES["test_batch.bin"][1])
    np.testing.assert_array_equal(test.labels, np.arange(20) % 10)
    assert test.images.dtype == np.uint8 and test.labels.dtype == np.int32
    everything = np.concatenate([BATCHES[name][1] for name in cifar10.TRAIN_FILES])
    np.testing.assert_array_equal(train.images, everything)
    assert train.class_names[3] == "cat" and len(train.class_names) == 10


def test_nothing_is_extracted(tmp_path):
    write_archive(tmp_path / "cifar10" / cifar10.ARCHIVE, prefix="../../up/")
    cifar10.load(tmp_path, PARAMS)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar10"]
    assert [path.name for path in (tmp_path / "cifar10").iterdir()] == [cifar10.ARCHIVE]


def message(data_dir):
    with pytest.raises(UserError) as caught:
        cifar10.load(data_dir, PARAMS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing(tmp_path):
    text = message(tmp_path)
    assert text.startswith(
        f"{tmp_path / 'cifar10'}, {tmp_path}: found neither cifar-10-binary.tar.gz"
    )
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
    "truncated": (
        GOOD[:-1],
        f"byte {20 * RECORD - 1}: truncated: found {20 * RECORD - 1} bytes; accepted: 61460",
    ),
    "a record less": (GOOD[:-RECORD], f"byte {19 * RECORD}: truncated: found {19 * RECORD} bytes;"),
    "longer": (GOOD + b"\0", f"byte {20 * RECORD}: trailing bytes: found {20 * RECORD + 1} bytes;"),
    "empty": (b"", "byte 0: truncated: found 0 bytes;"),
    "label": (with_label(7, 10), f"byte {7 * RECORD}: image 7: found label 10; accepted: 0 to 9"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("place", ["archive", "files"])
def test_wrong_content(tmp_path, name, place):
    content, expected = WRONG[name]
    folder = tmp_path / "cifar10"
    if place == "archive":
        folder = folder / cifar10.ARCHIVE
        write_archive(folder, [*TRAIN_MEMBERS, ("test_batch.bin", content)])
    else:
        write_files(folder)
        (folder / "test_batch.bin").write_bytes(content)
    assert message(tmp_path).startswith(f"{folder / 'test_batch.bin'}: {expected}")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ([("x", link("test_batch.bin"))], "test_batch.bin: not a regular file; accepted: one"),
        ([("test_batch.bin", GOOD)] * 2, "test_batch.bin: found twice; accepted: one regular"),
        ([("readme.html", b"")], "missing: test_batch.bin; accepted: an archive with data_batch_1"),
    ],
)
def test_wrong_members(tmp_path, contents, expected):
    path = tmp_path / "cifar10" / cifar10.ARCHIVE
    write_archive(path, [*TRAIN_MEMBERS, *contents])
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


def hostile(path, *headers, tail=b""):
    """Write an archive of the training files and these headers, each with what follows it."""
    headers = [(header(name, SIZE), BATCHES[name][0]) for name in cifar10.TRAIN_FILES] + [*headers]
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = b"".join(
        header.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
        for header, content in headers
    )
    path.write_bytes(gzip.compress(blocks + tail + bytes(1024), mtime=0))


def header(name="test_batch.bin", size=0, kind=tarfile.REGTYPE, **keys):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    for key, value in keys.items():
        setattr(info, key, value)
    return info


def pax(**records):
    """Return a pax header of these records, and its content."""
    lines = b""
    for key, value in records.items():
        record = f" {key.replace('_', '.')}={value}\n".encode()
        length = next(n for n in range(999) if n == len(str(n)) + len(record))
        lines += str(length).encode() + record
    return header("pax", len(lines), tarfile.XHDTYPE), lines


SIZE = 20 * RECORD
HOSTILE = {
    "a sparse map of no numbers": [
        pax(GNU_sparse_major=1, GNU_sparse_minor=0, GNU_sparse_realsize=SIZE),
        (header(size=512), b"x\ny\n"),
    ],
    "a sparse map without an end": [
        pax(GNU_sparse_major=1, GNU_sparse_minor=0, GNU_sparse_realsize=SIZE),
        (header(size=512), b"99999999999\n1\n1\n"),
    ],
    "a sparse map in the header": [
        pax(GNU_sparse_map="0,x,1", GNU_sparse_size=SIZE),
        (header(size=512), bytes(512)),
    ],
    "a sparse size that is no number": [
        pax(GNU_sparse_major=1, GNU_sparse_minor=0, GNU_sparse_realsize="much"),
        (header(size=512), bytes(512)),
    ],
    "an old sparse header": [(header(size=512, kind=tarfile.GNUTYPE_SPARSE), bytes(512))],
    "a pax header of 8 GB": [(header("pax", 2**33, tarfile.XHDTYPE), b"9 a=b\n")],
    "a pax record of no length": [(header("pax", 6, tarfile.XHDTYPE), b"0 a=b\n")],
    "a pax size that is no number": [pax(size="many"), (header(size=SIZE), bytes(SIZE))],
    "a pax size of 2^80": [pax(size=2**80), (header(size=SIZE), bytes(SIZE))],
    "a negative pax size": [pax(size=-512), (header(size=SIZE), bytes(SIZE))],
    "a long name of 8 GB": [(header("long", 2**33, tarfile.GNUTYPE_LONGNAME), b"name")],
    "a gap of 2^60 bytes": [(header("other", 2**60), b"")],
    "long names without an end": [(header("long", 9, tarfile.GNUTYPE_LONGNAME), b"name")] * 3000,
    "a pipe": [(header(kind=tarfile.FIFOTYPE), b"")],
    "a device": [(header(kind=tarfile.CHRTYPE), b"")],
    "a hard link to itself": [(header(kind=tarfile.LNKTYPE, linkname="test_batch.bin"), b"")],
    "a name with controls": [(header("\x1b[2J/test_batch.bin", 2**20), b"")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members(tmp_path, kind):
    path = tmp_path / "cifar10" / cifar10.ARCHIVE
    hostile(path, *HOSTILE[kind])
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            cifar10.load(tmp_path, PARAMS)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.startswith(f"{path}: ") or text.startswith(f"{path}/test_batch.bin: "), text
    assert "accepted" in text or "missing" in text
    assert text.isprintable() and len(text) < 400


def test_a_sparse_member_of_the_right_size(tmp_path):
    """GNU tar makes such of a file of zeros (`tar -S`): it may state any size for nothing."""
    path = tmp_path / "cifar10" / cifar10.ARCHIVE
    sparse = b"1\n0\n512\n"
    hostile(
        path,
        pax(GNU_sparse_major=1, GNU_sparse_minor=0, GNU_sparse_realsize=SIZE),
        (header(size=1024), sparse + bytes(1024 - len(sparse))),
    )
    with pytest.raises(UserError, match=r"test_batch.bin: (not a regular file|byte)"):
        cifar10.load(tmp_path, PARAMS)


def test_an_archive_that_unpacks_to_much(tmp_path):
    path = tmp_path / "cifar10" / cifar10.ARCHIVE
    hostile(path, (header("other", 20 << 20), b""), tail=bytes(20 << 20))
    with pytest.raises(UserError, match=r"damaged archive \(unpacks to more than \d+ bytes\); "):
        cifar10.load(tmp_path, PARAMS)


def test_files_that_are_too_large_are_not_read(tmp_path):
    write_files(tmp_path / "cifar10")
    with open(tmp_path / "cifar10" / "test_batch.bin", "r+b") as file:
        file.truncate(10**13)
    with pytest.raises(
        UserError, match=f"batch.bin: byte {SIZE}: trailing bytes: found 10000000000"
    ):
        cifar10.load(tmp_path, PARAMS)
