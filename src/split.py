"""A split: the part of a dataset that is trained on, chosen by, or tested on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.params import Params

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Images, their labels, and what the labels are called.

    Attributes:
        images: uint8 [N, H, W, C], pixels 0 to 255; C is 1 (grey) or 3 (colour).
        labels: int32 [N], each the position of its class in `class_names`.
        class_names: the classes of the whole dataset, in the order of their labels.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.intp]) -> "Split":
        """Return the examples at `indices`, int [M], in that order."""
        return Split(self.images[indices], self.labels[indices], self.class_names)


def validation_indices(
    labels: NDArray[np.int32], fraction: float, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Hold a stratified, seeded share of the training examples out for validation.

    Every class gives `fraction` of its examples, rounded such that all of them together are
    `round(fraction * N)`: the classes with the largest remainders give one more.

    Args:
        labels: int32 [N], the labels of all training examples.
        fraction: the share to hold out, 0 <= fraction < 1.
        seed: fixes which examples those are.

    Returns:
        The indices that stay in `train` and those of `validation`, each in ascending order.
    """
    classes, class_sizes = np.unique(labels, return_counts=True)
    exact = fraction * class_sizes
    held_out = np.floor(exact).astype(int)
    missing = round(fraction * len(labels)) - held_out.sum()
    held_out[np.argsort(held_out - exact, kind="stable")[:missing]] += 1

    rng = np.random.default_rng(seed)
    validation = np.zeros(len(labels), dtype=bool)
    for label, count in zip(classes, held_out, strict=True):
        validation[rng.permutation(np.flatnonzero(labels == label))[:count]] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def check_facts(params: Params, splits: Mapping[str, Split], path: Path) -> list[str]:
    """Compare what `params` states about the data with the data.

    Args:
        params: `image_size`, `num_labels`, `train_size`, `eval_size`, `classes_per_batch`, each
            perhaps None.
        splits: every split of the dataset.
        path: the file of the params, for the messages.

    Returns:
        A line for each number that differs and for which the data's is used.

    Raises:
        UserError: the images' size or the number of classes differs, so that these are other data
            than the params were written for.
    """
    train, test = splits["train"], splits["test"]
    image_size = "{} x {}".format(*train.images.shape[1:3])
    if params.image_size and image_size != f"{params.image_size} x {params.image_size}":
        raise UserError(
            f"{path}: image_size: found {params.image_size}; accepted: that of {params.dataset}, "
            f"{image_size}, or no image_size"
        )
    num_labels = len(train.class_names)
    if params.num_labels and num_labels != params.num_labels:
        raise UserError(
            f"{path}: num_labels: found {params.num_labels}; accepted: that of {params.dataset}, "
            f"{num_labels}, or no num_labels"
        )
    _check_classes(train, params.dataset)
    warnings = [
        f"{path}: {key}: found {size}, but the data has {len(split)}, which is used"
        for key, size, split in (
            ("train_size", params.train_size, train),
            ("eval_size", params.eval_size, test),
        )
        if size and size != len(split)
    ]
    num_classes = len(np.unique(train.labels))
    if params.classes_per_batch and params.classes_per_batch > num_classes:
        warnings.append(
            f"{path}: classes_per_batch: found {params.classes_per_batch}, but the data has "
            f"{num_classes} classes, which are used"
        )
    return warnings


def _check_classes(train: Split, dataset: str) -> None:
    """Refuse data without a triplet: an anchor, another example of its class, one of another."""
    counts = np.unique(train.labels, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise UserError(
            f"{dataset}: the train split has {len(counts)} classes, the largest of {counts.max()} "
            "examples; accepted: two classes or more, one of them of two examples or more"
        )
