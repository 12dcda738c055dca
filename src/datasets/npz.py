"""Loads arrays from an .npz file: vectors, such as other models' embeddings, or images."""

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import as_read, in_order, listed
from src.data.split import SPLITS, Dataset, Split
from src.errors import UserError
from src.printable import printable
from src.system.regular_file import open_regular

if TYPE_CHECKING:
    from src.params.schema import Params

MAX_BYTES = 1 << 32
"""The most bytes of all arrays that are read; they are kept in memory."""

MAX_LENGTH = 1 << 16
"""The most numbers of a vector."""

MAX_SIDE = 1 << 12
"""The most pixels of an image's side."""

# The endings of a split's arrays: x or x_train, ..., as Keras' own mnist.npz has them.
_ENDINGS = {"train": ("", "_train"), "validation": ("_validation", "_val"), "test": ("_test",)}

# Before what is the group of one example: no text that was read begins with it.
_ALONE = "\n"

_ACCEPTED = (
    "float vectors [N, F], or images [N, H, W] or [N, H, W, C] of uint8, in which C is 1 or 3"
)

try:
    import lzma

    _OF_LZMA: tuple[type[Exception], ...] = (lzma.LZMAError,)
except ImportError:  # of a Python that was built without it
    _OF_LZMA = ()

# What reading a damaged file may raise.
_DAMAGED: tuple[type[Exception], ...] = (
    *_OF_LZMA,
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError),
    *(RuntimeError, TypeError, SyntaxError, OverflowError, MemoryError),
)


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load the arrays of `data_dir`/`npz_file`.

    The training examples are `x` and `y`, or `x_train` and `y_train`. Optional are
    `x_validation`, `y_validation` (or `_val`), `x_test` and `y_test`. Each split may have `group`
    (`group_train`, ...). `class_names` names the labels 0, 1, ...; otherwise a class is named by
    its label. Nothing is unpickled.

    Args:
        data_dir: the folder of all datasets.
        params: uses `npz_file`.

    Returns:
        `train` and the other splits of the file. Images are uint8 [N, H, W, C]; vectors are
        float32 [N, 1, F, 1]. Labels are int32 [N]; the class names are sorted, numbers by value.

    Raises:
        UserError: the file is missing or damaged, too large, or its arrays are wrong.
    """
    path = data_dir / params.npz_file
    try:
        with open_regular(path) as file:
            arrays, ignored = _read(file, path)
    except FileNotFoundError:
        raise UserError(
            f"{printable(str(path))}: not found; accepted: an .npz file in data_dir, named by "
            '"npz_file", with arrays x and y'
        ) from None
    origins = {}
    images, names, groups = {}, {}, {}
    for split in SPLITS:
        of_split = {key: _of_split(arrays, key, split, path) for key in ("x", "y", "group")}
        x, y, group = of_split.values()
        if x is None and y is None and group is None and split != "train":
            continue
        for key, found in (("x", x), ("y", y)):
            if found is None:
                ending = " or ".join(f"{key}{ending}" for ending in _ENDINGS[split])
                raise UserError(f"{path}: found no array {ending}; accepted: x and y of each split")
        assert x is not None and y is not None
        name = f"x{next(e for e in _ENDINGS[split] if f'x{e}' in arrays)}"
        images[split] = _images(x, f"{path}: {name}")
        length = len(images[split])
        names[split] = _names(y, length, arrays.get("class_names"), f"{path}: y of {split}")
        if group is not None:
            groups[split] = _groups(group, length, split, path)
        origins[split] = f"the array {name}"
    _check_alike(images, groups, path)
    return Dataset(path, _splits(images, names, groups, path), origins, ignored)


def _splits(
    images: Mapping[str, NDArray[np.uint8]],
    names: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]],
    path: Path,
) -> dict[str, Split]:
    class_names = in_order(name for of_split in names.values() for name in of_split)
    if len(class_names) < 2:
        raise UserError(f"{path}: y: found 1 class; accepted: at least 2 classes")
    label_of = {name: label for label, name in enumerate(class_names)}
    group_names = tuple(dict.fromkeys(name for of_split in groups.values() for name in of_split))
    group_of = {name: number for number, name in enumerate(group_names)}
    return {
        split: Split(
            images[split],
            np.array([label_of[name] for name in names[split]], np.int32),
            class_names,
            groups=np.array([group_of[g] for g in groups[split]], np.int32) if groups else None,
            group_names=tuple(name.removeprefix(_ALONE) for name in group_names),
        )
        for split in images
    }


def _read(file: BinaryIO, path: Path) -> tuple[dict[str, NDArray[np.generic]], tuple[str, ...]]:
    """Return the arrays of an .npz file by name, and a warning about those that mean nothing."""
    known = {f"{key}{e}" for key in ("x", "y", "group") for es in _ENDINGS.values() for e in es}
    known.add("class_names")
    arrays: dict[str, NDArray[np.generic]] = {}
    ignored = []
    budget = MAX_BYTES
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name not in known:
                    ignored.append(printable(name))
                    continue
                if name in arrays:
                    raise UserError(f"{path}: found {name} twice; accepted: each array once")
                budget -= member.file_size
                if budget < 0:
                    raise UserError(
                        f"{path}: {name}: found more than {MAX_BYTES:,} bytes of arrays; accepted: "
                        "at most that, because they are kept in memory"
                    )
                with archive.open(member) as stream:
                    arrays[name] = _array(stream, member.file_size, path, name)
    except UserError:
        raise
    except _DAMAGED as error:
        said = printable(" ".join(str(error).split()))[:120]
        raise UserError(
            f"{path}: not a readable .npz file ({said}); accepted: one as numpy.savez writes it"
        ) from None
    line = f"{path}: arrays that are not used: {listed(ignored)}"
    return arrays, (line,) if ignored else ()


def _array(stream: IO[bytes], num_bytes: int, path: Path, name: str) -> NDArray[np.generic]:
    """Read an array after a check of its header: objects are refused, as is a false size."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name}: another version of NumPy's format")
    reads = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, in_columns, dtype = reads[version](stream)
    if dtype.hasobject or dtype.kind == "V":
        raise UserError(
            f"{path}: {name}: found an array of {'objects' if dtype.hasobject else 'records'}; "
            "accepted: numbers or text, because objects are stored as code"
        )
    size = math.prod(shape) * dtype.itemsize
    if any(side < 0 for side in shape) or size > num_bytes:
        raise ValueError(f"{name}: the header states {size} bytes")
    content = stream.read(size)
    if len(content) != size:
        raise ValueError(f"{name}: the file ends within the array")
    if stream.read(1):  # without reading to the end, no checksum would be compared
        raise ValueError(f"{name}: the file goes on after the array")
    values: NDArray[np.generic] = np.frombuffer(content, dtype)
    return values.reshape(shape, order="F" if in_columns else "C")


def _of_split(
    arrays: Mapping[str, NDArray[np.generic]], key: str, split: str, path: Path
) -> NDArray[np.generic] | None:
    found = [f"{key}{ending}" for ending in _ENDINGS[split] if f"{key}{ending}" in arrays]
    if len(found) > 1:
        raise UserError(f"{path}: found {found[0]} and {found[1]}; accepted: one of them")
    return arrays[found[0]] if found else None


def _images(x: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    """Return images uint8 [N, H, W, C], or vectors float32 [N, 1, F, 1].

    Raises:
        UserError: they are neither, none, too large, or not finite.
    """
    sizes = f"[{', '.join(map(str, x.shape))}]"
    found = f"{where}: found {x.dtype} {sizes}"
    if x.size == 0:
        raise UserError(f"{found}; accepted: at least one example of at least one number")
    if x.dtype == np.uint8 and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3))):
        if max(x.shape[1:3]) > MAX_SIDE:
            raise UserError(f"{found}; accepted: images of at most {MAX_SIDE} pixels a side")
        pixels: NDArray[np.uint8] = np.ascontiguousarray(x, np.uint8)
        return pixels[..., np.newaxis] if x.ndim == 3 else pixels
    if x.ndim != 2 or x.dtype.kind != "f":
        raise UserError(f"{found}; accepted: {_ACCEPTED}")
    if x.shape[1] > MAX_LENGTH:
        raise UserError(f"{found}; accepted: vectors of at most {MAX_LENGTH} numbers")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(x, np.float32)
    is_bad = ~np.isfinite(vectors).all(axis=1)
    if is_bad.any():
        row = int(is_bad.argmax())
        column = int((~np.isfinite(vectors[row])).argmax())
        raise UserError(
            f"{where}: row {row}, column {column}: found {x[row, column]} (and others in "
            f"{int(is_bad.sum())} rows); accepted: finite numbers of float32"
        )
    # An array of another type than images have: `Split.holds_vectors` tells them apart.
    examples: NDArray[Any] = vectors[:, np.newaxis, :, np.newaxis]
    return examples


def _texts(values: NDArray[np.generic], length: int, where: str) -> list[str]:
    """Return whole numbers or text as text, in normal form."""
    if values.shape != (length,) or values.dtype.kind not in "iuUS":
        sizes = f"[{', '.join(map(str, values.shape))}]"
        raise UserError(
            f"{where}: found {values.dtype} {sizes}; accepted: whole numbers or text [{length}]"
        )
    if values.dtype.kind == "S":
        return [as_read(text.decode(errors="backslashreplace")) for text in values.tolist()]
    return [as_read(str(value)) for value in values.tolist()]


def _groups(values: NDArray[np.generic], length: int, split: str, path: Path) -> list[str]:
    """Return the group of each example; one without is a group by itself, as in a CSV file."""
    texts = _texts(values, length, f"{path}: group of {split}")
    return [text or f"{_ALONE}{split}/{row}" for row, text in enumerate(texts)]


def _names(
    y: NDArray[np.generic], length: int, class_names: NDArray[np.generic] | None, where: str
) -> list[str]:
    """Return the class of each example."""
    texts = _texts(y, length, where)
    known = None
    if class_names is not None:
        known = _texts(
            class_names, class_names.size, f"{where.partition(': y of ')[0]}: class_names"
        )
        if y.dtype.kind not in "iu":
            raise UserError(
                f"{where}: found text, and an array class_names; accepted: whole numbers, or no "
                "class_names"
            )
    for row, text in enumerate(texts):
        is_number = y.dtype.kind in "iu"
        is_beyond = is_number and known is not None and int(text) >= len(known)
        if not text or is_beyond or (is_number and text[0] == "-"):
            last = " on" if known is None else f" to {len(known) - 1}, as class_names has names"
            accepted = f"labels from 0{last}" if is_number else "a class"
            raise UserError(f"{where}: row {row}: found '{text}'; accepted: {accepted}")
    if known is None or y.dtype.kind not in "iu":
        return texts
    if len(set(known)) < len(known) or not all(known):
        raise UserError(f"{where}: class_names: found a name twice or blank; accepted: each once")
    return [known[int(text)] for text in texts]


def _check_alike(
    images: Mapping[str, NDArray[np.uint8]], groups: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Refuse splits of examples that differ in shape, and groups of only some splits."""
    train = images["train"]
    for split, others in images.items():
        if others.shape[1:] != train.shape[1:] or others.dtype != train.dtype:
            kinds = [f"{a.dtype} {list(a.shape[1:])}" for a in (others, train)]
            raise UserError(
                f"{path}: x of {split}: found examples of {kinds[0]}; accepted: {kinds[1]}, as in "
                "train"
            )
    if groups and groups.keys() != images.keys():
        missing = next(split for split in images if split not in groups)
        raise UserError(f"{path}: group: found none of {missing}; accepted: of each split, or none")
