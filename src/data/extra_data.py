"""Loads `extra_data`: other datasets, whose classes join the training split and no other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import listed
from src.data.decode import fitted
from src.data.digests import digests_of
from src.data.duplicates import duplicate_warnings, without_duplicates
from src.data.images import ChainedImages, Images
from src.data.split import Dataset, Split
from src.errors import UserError
from src.registry import DATASETS, PICTURE_DATASETS, look_up

if TYPE_CHECKING:
    from src.params.schema import ExtraDataset, Params


def load_extra_data(
    params: "Params", data_dir: Path, splits: Mapping[str, Split], params_path: Path
) -> tuple[Split | None, tuple[str, ...]]:
    """Load the datasets that `extra_data` names, in the shape of the experiment's own.

    Of each, the training split of its own files is used, whole. Pictures are decoded to the size
    and channels of the experiment's dataset; images of other datasets are resized and turned grey
    or coloured as pictures are.

    Args:
        params: uses `extra_data` and `on_duplicates`.
        data_dir: the folder of all datasets.
        splits: the splits of the experiment's own dataset, all with digests.
        params_path: the params file, for messages.

    Returns:
        The examples of all these datasets, None if there is none, and what the user should know,
        a line each. Class names are `letters/A`: the dataset's name, then the class.
        `file_digests` are of the files or the pixels as they were before they got their new shape.
        If an image is also in `splits`, or in an earlier dataset of these, or in two classes of one
        of them, `on_duplicates` says what happens.

    Raises:
        UserError: a dataset is missing or invalid, or has vectors and the other images.
    """
    parts: list[Split] = []
    lines: list[str] = []
    for number, entry in enumerate(params.extra_data):
        where = f"{params_path}: extra_data[{number}]"
        dataset = _load(entry, params, data_dir, splits["train"], where)
        if params.on_duplicates == "drop":
            dataset = without_duplicates(dataset)
        lines += dataset.warnings
        lines += duplicate_warnings(dataset.splits, params.on_duplicates, dataset.source)
        known = [*splits.values(), *parts]
        part, repeated = _without_known(dataset.splits["train"], known, params.on_duplicates, where)
        parts.append(part)
        lines += repeated
        lines += _same_names(part, entry, splits["train"].class_names, where)
    return (reduce(_chained, parts) if parts else None), tuple(lines)


def _same_names(part: Split, entry: "ExtraDataset", own: Sequence[str], where: str) -> list[str]:
    """Return a warning if classes have names, but no numbers, of the experiment's own."""
    names = {part.class_names[label] for label in np.unique(part.labels)}
    same = {name.removeprefix(entry.prefix) for name in names} & set(own)
    same = {name for name in same if not name.isdecimal()}
    if not same:
        return []
    return [
        f"{where}: {len(same)} classes have names of the experiment's own: {listed(sorted(same))}; "
        "they count as other classes, and metrics of such a class that is held out flatter"
    ]


def _load(
    entry: "ExtraDataset", params: "Params", data_dir: Path, own: Split, where: str
) -> Dataset:
    """Return a dataset's training split, and no other; the images are like those of `own`.

    `digests` are of the pixels, `file_digests` of what the record keeps.
    """
    height, width, channels = own.images.shape[1:]
    takes_pictures = not own.holds_vectors and height == width and channels in (1, 3)
    keys = entry.model_dump() | {
        "image_size": height if takes_pictures else None,
        "image_mode": "L" if channels == 1 else "RGB",
        "extra_data": (),
    }
    if not takes_pictures and entry.dataset in PICTURE_DATASETS:
        found = "vectors" if own.holds_vectors else f"images of {height} x {width} pixels"
        raise UserError(
            f'{where}.dataset: found "{entry.dataset}"; accepted: a dataset of arrays, because '
            f"{params.dataset} has {found}, and pictures are decoded to squares"
        )
    try:
        dataset: Dataset = look_up(DATASETS, entry.dataset)(
            data_dir, params.model_copy(update=keys)
        )
    except UserError as error:
        lines = [f"{where}: {line}" for line in str(error).split("\n")]
        raise UserError("\n".join(lines)) from None
    train = dataset.splits["train"]
    before = train.digests if train.file_digests is None else train.file_digests
    if before is None:
        before = digests_of(train.images)
    images = _alike(train, own, entry, params, where)
    is_same = images is train.images and train.digests is not None
    split = Split(
        images,
        train.labels,
        tuple(f"{entry.prefix}{name}" for name in train.class_names),
        digests=train.digests if is_same else digests_of(images),
        file_digests=before,
    )
    return replace(dataset, splits={"train": split})


def _alike(train: Split, own: Split, entry: "ExtraDataset", params: "Params", where: str) -> Images:
    """Return the images in the shape of the experiment's own; the very images if they have it."""
    if train.holds_vectors != own.holds_vectors or (
        own.holds_vectors and train.example_shape != own.example_shape
    ):
        found, accepted = (
            f"vectors of {split.example_shape[0]} numbers" if split.holds_vectors else "images"
            for split in (train, own)
        )
        raise UserError(
            f'{where}.dataset: found "{entry.dataset}" with {found}; accepted: {accepted}, as '
            f"{params.dataset} has"
        )
    if train.example_shape == own.example_shape:
        return train.images
    height, width, channels = own.images.shape[1:]
    images: NDArray[np.uint8] = np.stack(
        [fitted(image, height, width, channels) for image in train.images]
    )
    return images


def _without_known(
    part: Split, splits: Sequence[Split], on_duplicates: str, where: str
) -> tuple[Split, list[str]]:
    """Return the examples that are not in other splits too, or all and a warning."""
    known = [split.digests for split in splits if split.digests is not None]
    assert part.digests is not None
    is_known = np.isin(part.digests, np.concatenate(known))
    if not is_known.any():
        return part, []
    what = (
        f"{where}: found {int(is_known.sum())} of {len(part)} images with the pixels of images in "
        "the experiment's own dataset or before it in extra_data"
    )
    if on_duplicates == "drop":
        if is_known.all():
            raise UserError(f"{what}; accepted: at least one other image")
        return part.take(np.flatnonzero(~is_known)), [f"{what}; they are left out"]
    if on_duplicates == "error":
        raise UserError(f'{what}; accepted: other images, or "on_duplicates": "drop" or "warn"')
    return part, [f'{what}; "on_duplicates": "drop" leaves them out']


def _chained(first: Split, second: Split) -> Split:
    """Return the examples of one dataset, then those of another; images on disk stay there."""
    digests, file_digests = (
        np.concatenate([getattr(split, name) for split in (first, second)])
        for name in ("digests", "file_digests")
    )
    return Split(
        ChainedImages([first.images, second.images]),
        np.concatenate([first.labels, second.labels + len(first.class_names)], dtype=np.int32),
        (*first.class_names, *second.class_names),
        digests=digests,
        file_digests=file_digests,
    )
