"""Loads CIFAR-10, colour pictures of ten classes, from the binary version (plain bytes)."""

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from src.data.remote import RemoteFile
from src.data.split import Dataset, Split
from src.datasets.mnist import dataset_folders
from src.errors import UserError
from src.printable import printable
from src.system.regular_file import open_regular, read_regular

if TYPE_CHECKING:
    from src.params.schema import Params

# As in the archive's batches.meta.txt.
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILES = ("test_batch.bin",)

IMAGES_PER_FILE = 10_000
IMAGE_SHAPE = (3, 32, 32)  # channels first: red, then green, then blue
_CHUNK = 1 << 20
RECORD_SIZE = 1 + 3 * 32 * 32  # the label, then the image

# md5: the authors' page. sha256 and size: TensorFlow Datasets, url_checksums/cifar10.txt.
REMOTE_FILES = (
    RemoteFile(
        url=f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}",
        size=170_052_171,
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
)


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load CIFAR-10.

    Args:
        data_dir: the folder that holds `cifar10/`, or `cifar10/` itself. It contains the archive or
            its extracted files.
        params: not used.

    Returns:
        `train`, from the five training files, and `test`: images uint8 [N, 32, 32, 3], labels
        int32 [N], the class names.

    Raises:
        UserError: a file is missing or damaged.

    Source: the section "Binary version" of https://www.cs.toronto.edu/~kriz/cifar.html
    """
    names = (*TRAIN_FILES, *TEST_FILES)
    folder, contents = _read(dataset_folders("cifar10", data_dir), names, data_dir)
    batches = {
        name: _parse(folder / name, content) for name, content in zip(names, contents, strict=True)
    }
    splits = {
        split: Split(
            np.concatenate([batches[name][0] for name in of_split]),
            np.concatenate([batches[name][1] for name in of_split]),
            CLASS_NAMES,
        )
        for split, of_split in (("train", TRAIN_FILES), ("test", TEST_FILES))
    }
    origins = {"train": "data_batch_1.bin to data_batch_5.bin", "test": TEST_FILES[0]}
    return Dataset(folder, splits, origins)


# The errors of gzip and tarfile. On false headers, tarfile raises many types, because it converts
# and computes with the values without checking them.
_DAMAGED = (
    *(tarfile.TarError, EOFError, OSError, zlib.error),
    *(ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError),
)


class _Bounded(gzip.GzipFile):
    """A gzip reader with limits on the size of one read and on the total unpacked size.

    The limits are needed because a tar header can state any length of a name or of a gap before
    the next header. Also, a few megabytes can unpack to any size.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Unpack `file`."""
        super().__init__(fileobj=file, mode="rb")
        self._largest = max(IMAGES_PER_FILE * RECORD_SIZE, _CHUNK)
        self._end = 16 * self._largest

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes."""
        if size is None or not 0 <= size <= self._largest:
            raise tarfile.ReadError("a header longer than any file in it")
        self._check_end(self.tell() + size)
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Unpack up to `offset`."""
        self._check_end(offset)
        return super().seek(offset, whence)

    def _check_end(self, position: int) -> None:
        if position > self._end:
            raise tarfile.ReadError(f"unpacks to more than {self._end} bytes")


def _read(
    folders: Sequence[Path], names: Sequence[str], data_dir: Path
) -> tuple[Path, list[bytes]]:
    """Return the folder or archive that has all files, and their content."""
    for folder in folders:
        for place in (folder, folder / ARCHIVE_FOLDER):
            if all((place / name).is_file() for name in names):
                return place, [_read_file(place / name) for name in names]
        if (folder / ARCHIVE).is_file():
            return folder / ARCHIVE, _read_archive(folder / ARCHIVE, names)
    megabytes = round(REMOTE_FILES[0].size / 1e6)
    raise UserError(
        f"{', '.join(map(str, folders))}: found neither {ARCHIVE} nor all of {', '.join(names)}; "
        f"accepted: either; `python -m src.download cifar10 --data_dir {data_dir}` downloads the "
        f"archive ({megabytes} MB)"
    )


def _read_file(path: Path) -> bytes:
    _check_size(path, path.stat().st_size)
    return read_regular(path, IMAGES_PER_FILE * RECORD_SIZE)


def _read_archive(path: Path, names: Sequence[str]) -> list[bytes]:
    """Return the content of members of the archive; nothing is extracted to disk.

    For safety, a member's folder is ignored: only the last part of its name counts. A member is
    read only if its header states the expected size.
    """
    contents: dict[str, bytes] = {}
    try:
        with (
            open_regular(path) as file,
            _Bounded(file) as stream,
            tarfile.open(fileobj=stream, mode="r:") as archive,
        ):
            for member in archive:
                name = os.path.basename(member.name)
                if name not in names:
                    continue
                if not member.isfile() or member.issparse() or name in contents:
                    fault = "found twice" if name in contents else "not a regular file"
                    raise UserError(f"{path}: {name}: {fault}; accepted: one regular file")
                _check_size(path / name, member.size)
                content = archive.extractfile(member)
                contents[name] = content.read() if content else b""
            while stream.read(_CHUNK):  # read to the end, where gzip verifies its checksum
                pass
    except UserError:
        raise
    except _DAMAGED as error:
        reason = printable(f"{error}" or type(error).__name__)
        raise UserError(
            f"{path}: damaged archive ({reason:.100}); accepted: {ARCHIVE} as published"
        ) from error
    if missing := [name for name in names if name not in contents]:
        raise UserError(
            f"{path}: missing: {', '.join(missing)}; accepted: an archive with {', '.join(names)}"
        )
    return [contents[name] for name in names]


def _check_size(path: Path, size: int) -> None:
    expected = IMAGES_PER_FILE * RECORD_SIZE
    if size != expected:
        fault = "truncated" if size < expected else "trailing bytes"
        raise UserError(
            f"{path}: byte {min(size, expected)}: {fault}: found {size} bytes; accepted: "
            f"{expected}, {IMAGES_PER_FILE} images of {RECORD_SIZE}"
        )


def _parse(path: Path, content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return the images uint8 [N, 32, 32, 3] and labels int32 [N] of a file."""
    _check_size(path, len(content))
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_SIZE)
    labels = records[:, 0]
    wrong = np.flatnonzero(labels >= len(CLASS_NAMES))
    if len(wrong):
        raise UserError(
            f"{path}: byte {wrong[0] * RECORD_SIZE}: image {wrong[0]}: found label "
            f"{labels[wrong[0]]}; accepted: 0 to {len(CLASS_NAMES) - 1}"
        )
    images = records[:, 1:].reshape(-1, *IMAGE_SHAPE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int32)
