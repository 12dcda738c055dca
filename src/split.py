"""A split: the part of a dataset that is trained on, chosen by, or tested on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.errors import UserError
from src.mapped_images import Images, MappedImages
from src.params import Params
from src.poses import POSES, changes_shape
from src.registry import DATASETS, look_up

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Images, their labels, and what the labels are called.

    Attributes:
        images: uint8 [N, H, W, C], pixels 0 to 255; C is 1 (grey) or 3 (colour). An array, or what
            stays on disk and behaves as one along the first axis.
        labels: int32 [N], each the position of its class in `class_names`.
        class_names: the classes of the whole dataset, in the order of their labels.
        paths: text [N], the file of each image within the dataset's folder; None where a dataset
            does not keep its images in files of their own.
    """

    images: Images
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    paths: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.intp]) -> "Split":
        """Return the examples at `indices`, int [M], in that order; images on disk stay there."""
        images = self.images
        taken = images.take(indices) if isinstance(images, MappedImages) else images[indices]
        paths = None if self.paths is None else self.paths[indices]
        return Split(taken, self.labels[indices], self.class_names, paths)


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
    validation = np.zeros(len(labels), dtype=bool)
    validation[stratified_indices(labels, round(fraction * len(labels)), seed)] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def stratified_indices(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.intp]:
    """Draw examples such that every class has its share.

    Args:
        labels: int32 [N].
        count: how many, at most N. Of a class of n come `count * n / N`, rounded such that the sum
            is `count`: the classes with the largest remainders give one more.
        seed: fixes which.

    Returns:
        int [count], ascending.
    """
    classes, class_sizes = np.unique(labels, return_counts=True)
    exact = count / max(len(labels), 1) * class_sizes
    num_drawn = np.floor(exact).astype(int)
    missing = count - num_drawn.sum()
    num_drawn[np.argsort(num_drawn - exact, kind="stable")[:missing]] += 1

    rng = np.random.default_rng(seed)
    drawn = [
        rng.permutation(np.flatnonzero(labels == label))[:num]
        for label, num in zip(classes, num_drawn, strict=True)
    ]
    return np.sort(np.concatenate([np.empty(0, np.intp), *drawn]))


def hold_out_validation(examples: Split, split: str, params: Params, source: Path) -> Split:
    """Return the part of a dataset's training examples that is `split`.

    Args:
        examples: all that the dataset has to train with.
        split: "train" or "validation".
        params: `validation_fraction` and `seed` say which examples are held out.
        source: the file or folder that they are from, for the message.

    Returns:
        The examples that stay, or those held out, in their order; at least one.

    Raises:
        UserError: there would be none.
    """
    train, validation = validation_indices(examples.labels, params.validation_fraction, params.seed)
    indices = train if split == "train" else validation
    if len(indices) == 0:
        raise UserError(
            f"{source}: split {split}: 0 of {len(examples)} examples with "
            f"validation_fraction {params.validation_fraction}; at least 1 is needed"
        )
    return examples.take(indices)


def load_splits(params: Params, data_dir: Path, names: Iterable[str] = SPLITS) -> dict[str, Split]:
    """Load the splits called `names` of the dataset that `params` name.

    Raises:
        UserError: the data are missing, or not what they should be.
    """
    load = look_up(DATASETS, params.dataset)
    return {name: load(data_dir, name, params) for name in names}


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
    turned = [pose for pose in params.extra_classes if changes_shape(pose)]
    if turned and train.images.shape[1] != train.images.shape[2]:
        kept = " or ".join(f"'{pose}'" for pose in POSES if not changes_shape(pose))
        raise UserError(
            f'{path}: extra_classes: found "{turned[0]}", for images of {image_size} pixels; '
            f"accepted: {kept}, for those that are not square"
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
    num_classes = len(np.unique(train.labels)) * (1 + len(params.extra_classes))
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
