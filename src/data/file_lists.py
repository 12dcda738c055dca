"""Reads the file lists that datasets of pictures are published with, and halves their classes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from src.errors import UserError
from src.printable import printable
from src.system.regular_file import read_regular

_MAX_DIGITS = 18  # of a number
_MAX_BYTES = 1 << 26  # ten times the longest list of these datasets


def find_folder(data_dir: Path, name: str, inner: Sequence[str], files: Sequence[str]) -> Path:
    """Return the folder that has all of a dataset's file lists.

    Args:
        data_dir: the folder of all datasets, or the dataset's own.
        name: the dataset's key in `DATASETS`, and the name of its folder.
        inner: the folders that its archive unpacks to; they are searched too.
        files: the lists, as paths within the folder.

    Raises:
        UserError: no folder has all of them.
    """
    tops = [data_dir / name, data_dir]
    places = [place for top in tops for place in (top, *(top / folder for folder in inner))]
    for place in places:
        if all((place / file).is_file() for file in files):
            return place
    raise UserError(
        f"{tops[0]}: found no folder with {', '.join(files)}; accepted: the dataset as published, "
        f"unpacked there; data/README.md says where it comes from"
    )


def read_fields(path: Path, count: int) -> list[tuple[int, list[str]]]:
    """Return the lines of a list, each as its number and its fields, which spaces separate.

    Args:
        path: the list.
        count: the number of fields; the last one may have spaces.

    Raises:
        UserError: the list cannot be read, or a line has fewer fields; the message names the line.
    """
    try:
        text = read_regular(path, _MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; accepted: UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; accepted: a list of files") from None
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split(maxsplit=count - 1)
        if len(fields) < count:
            raise UserError(
                f"{path}: line {number}: found '{printable(line)[:80]}'; accepted: {count} fields, "
                "separated by spaces"
            )
        found.append((number, [field.strip() for field in fields]))
    return found


def whole(text: str, where: str) -> int:
    """Return the number that a field holds; raise UserError, which names `where`, if none."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise UserError(f"{where}: found '{printable(text)[:80]}'; accepted: a whole number")
    return int(text)


def halves(classes: Iterable[int]) -> dict[int, str]:
    """Return for each class number its split: the first half is `train`, the others are `test`.

    This is the protocol of metric learning, in which no test class is trained on. The official
    division into training and test images is not used.

    Source: arXiv:1511.06452, section 5.
    """
    ordered = sorted(set(classes))
    return {
        number: "train" if position < len(ordered) // 2 else "test"
        for position, number in enumerate(ordered)
    }
