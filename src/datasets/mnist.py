"""Loads MNIST, handwritten digits, and any dataset in the same four IDX files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from src.data.idx import read_idx
from src.data.split import Dataset, Split
from src.errors import UserError
from src.registry import DATASETS

if TYPE_CHECKING:
    from src.params.schema import Params

CLASS_NAMES = tuple("0123456789")


def load(data_dir: Path, params: "Params") -> Dataset:
    """Load MNIST.

    Args:
        data_dir: the folder that holds `mnist/`, or `mnist/` itself.
        params: not used.

    Returns:
        `train` and `test`: images uint8 [N, 28, 28, 1], labels int32 [N]; the class names are the
        digits.

    Raises:
        UserError: a file is missing or damaged.
    """
    return load_mnist_layout(
        dataset_folders("mnist", data_dir),
        class_names=CLASS_NAMES,
        advice="MNIST is part of the repository: `git checkout data/mnist` restores it",
    )


def dataset_folders(dataset: str, data_dir: Path) -> list[Path]:
    """Return the folders that may hold the files of `dataset`, in search order.

    `data_dir` itself is included unless its name is that of another dataset. The files of MNIST
    and Fashion-MNIST have the same names and must not be confused.
    """
    own_name = Path(os.path.abspath(data_dir)).name.replace("-", "_")
    if own_name != dataset and own_name in DATASETS:
        return [data_dir / dataset]
    return [data_dir / dataset, data_dir]


def load_mnist_layout(
    folders: Sequence[Path], *, class_names: tuple[str, ...], advice: str
) -> Dataset:
    """Load a dataset that consists of MNIST's four files.

    The files are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same two with
    `t10k-`, raw or as `.gz`. The spelling `train-images.idx3-ubyte` is also accepted. Images and
    labels are always read from the same folder.

    Args:
        folders: the folders to search, in this order.
        class_names: the names of labels 0, 1, ...
        advice: how to get the files, for the message if they are missing.

    Returns:
        `train` and `test`: images uint8 [N, H, W, 1], labels int32 [N], N at least 1.

    Raises:
        UserError: a file is missing or damaged, or images and labels do not belong together.
    """
    splits, origins = {}, {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images_path, labels_path = _find_pair(folders, prefix, advice)
        images, labels = _read_pair(images_path, labels_path, len(class_names))
        splits[split] = Split(images[..., np.newaxis], labels, class_names)
        origins[split] = images_path.name
    if splits["train"].images.shape[1:] != splits["test"].images.shape[1:]:
        height, width = splits["train"].images.shape[1:3]
        raise UserError(
            f"{images_path}: found images of {images.shape[1]} x {images.shape[2]} pixels; "
            f"accepted: {height} x {width}, the size of the training images"
        )
    return Dataset(images_path.parent, splits, origins)


def _find_pair(folders: Sequence[Path], prefix: str, advice: str) -> tuple[Path, Path]:
    """Return the image file and the label file from the first folder that has both."""
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    missing = set(names)
    for folder in folders:
        images_path, labels_path = (_find_file(folder, name) for name in names)
        if images_path and labels_path:
            return images_path, labels_path
        missing -= {
            name for name, path in zip(names, (images_path, labels_path), strict=True) if path
        }
    what = f"{' and '.join(sorted(missing))} missing" if missing else "no folder has both files"
    raise UserError(
        f"{', '.join(map(str, folders))}: {what}; accepted: images and labels in one folder, raw "
        f"or as .gz; {advice}"
    )


def _find_file(folder: Path, name: str) -> Path | None:
    """Return the file `name` in one of its spellings, or None if there is none."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for suffix in (".gz", ""):
            path = folder / (spelling + suffix)
            if path.is_file():
                return path
    return None


def _read_pair(
    images_path: Path, labels_path: Path, num_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return images uint8 [N, H, W] and their labels int32 [N]; raise UserError on a mismatch."""
    images, labels = read_idx(images_path), read_idx(labels_path)
    for path, array, axes in ((images_path, images, "N x H x W"), (labels_path, labels, "N")):
        if array.ndim != len(axes.split(" x ")):
            sizes = " x ".join(map(str, array.shape))
            raise UserError(f"{path}: found sizes {sizes}; accepted: {axes}")
    if len(images) != len(labels):
        raise UserError(
            f"{labels_path}: found {len(labels)} labels; accepted: {len(images)}, one for each "
            f"image of {images_path}"
        )
    unknown = np.flatnonzero(labels >= num_classes)
    if len(unknown):
        raise UserError(
            f"{labels_path}: label {unknown[0]}: found {labels[unknown[0]]}; accepted: 0 to "
            f"{num_classes - 1}"
        )
    return images, labels.astype(np.int32)
