"""Finds the pretrained weights from which training starts."""

from pathlib import Path
from typing import Literal

from src.errors import UserError
from src.system.regular_file import open_regular

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def find_weights(weights: str | None, data_dir: Path) -> Path | Literal["imagenet"] | None:
    """Return the file that the param `weights` names; "imagenet" and None are returned as given.

    Args:
        weights: an absolute path, a path relative to `data_dir`, "imagenet", or None.
        data_dir: the folder of all datasets.

    Raises:
        UserError: the file is missing, or is not an HDF5 file.
    """
    if weights is None or weights == "imagenet":
        return weights  # type: ignore[return-value]  # mypy does not narrow to the literal
    path = data_dir / weights
    accepted = 'accepted: a file of weights (.h5) in data_dir, or "imagenet"'
    try:
        with open_regular(path) as file:
            is_hdf5 = file.read(len(HDF5_MAGIC)) == HDF5_MAGIC
    except FileNotFoundError as error:
        raise UserError(f"{path}: weights: {error.strerror}; {accepted}") from None
    except UserError as error:
        fault = str(error).removeprefix(f"{path}: ").partition("; ")[0]
        raise UserError(f"{path}: weights: {fault}; {accepted}") from None
    if not is_hdf5:
        raise UserError(f"{path}: weights: not an HDF5 file; {accepted}")
    return path
