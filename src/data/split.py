"""A split: the part of a dataset that is trained on, chosen by, or tested on."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.images import Images, joined
from src.seeds import stream

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
        digests: uint64 [N], of each image's pixels: equal where they are.
        file_digests: uint64 [N], of the files that `paths` names; None without `paths`.
    """

    images: Images
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    paths: NDArray[np.object_] | None = None
    digests: NDArray[np.uint64] | None = None
    file_digests: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.intp]) -> "Split":
        """Return the examples at `indices`, int [M], in that order; images on disk stay there."""
        facts: dict[str, Any] = {n: values[indices] for n, values in self._facts().items()}
        return replace(
            self, images=self.images.take(indices, axis=0), labels=self.labels[indices], **facts
        )

    def joined(self, other: "Split") -> "Split":
        """Return these examples and, behind them, those of another split of the same dataset."""
        others = other._facts()
        facts: dict[str, Any] = {
            name: np.concatenate([values, others[name]]) for name, values in self._facts().items()
        }
        labels = np.concatenate([self.labels, other.labels])
        return replace(self, images=joined(self.images, other.images), labels=labels, **facts)

    def _facts(self) -> dict[str, NDArray[Any]]:
        """Return what else is known of each image, by the attribute's name."""
        names = [field.name for field in fields(self)][3:]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class Dataset:
    """What the files of a dataset hold, before the splits that they do not have are drawn.

    Attributes:
        source: the file or folder, for messages.
        splits: `train`, and `validation` and `test` where the dataset has them itself; none of
            them empty, all of the same class names.
        origins: where each is from, in a few words.
        warnings: what a user should know of how the files were understood, a line each.
    """

    source: Path
    splits: Mapping[str, Split]
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def stratified_indices(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.intp]:
    """Draw examples such that every class has its share.

    Args:
        labels: int32 [N].
        count: how many, at most N. Of a class of n come `count * n / N`, rounded such that the sum
            is `count`: the classes with the largest remainders give one more, of equal ones those
            that the seed draws.
        seed: fixes which.

    Returns:
        int [count], ascending.
    """
    if len(labels) == 0:
        return np.empty(0, np.intp)
    classes, class_sizes = np.unique(labels, return_counts=True)
    num_drawn, remainders = np.divmod(count * class_sizes, len(labels))
    missing = count - num_drawn.sum()
    ties = stream("ties between classes", seed, len(classes)).permutation(len(classes))
    num_drawn[np.lexsort((ties, -remainders))[:missing]] += 1

    rng = stream("sample", seed)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(class_sizes)[:-1])
    drawn = [rng.permutation(m)[:num] for m, num in zip(members, num_drawn, strict=True)]
    return np.sort(np.concatenate(drawn))


def class_indices(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.intp]:
    """Draw whole classes, of those that have two examples or more, in an order that is the seed's.

    Args:
        labels: int32 [N].
        count: how many examples are wanted. A class joins if that brings the number nearer to it;
            if fewer than two do, the smallest ones join.
        seed: fixes which.

    Returns:
        int, the examples drawn, ascending: of at least two classes, and such that two are left, one
        of them of two examples. None at all where there are too few classes for that.
    """
    classes, class_sizes = np.unique(labels, return_counts=True)
    candidates = np.flatnonzero(class_sizes > 1)
    most = min(len(candidates) - 1, len(classes) - 2)
    if most < 2:
        return np.empty(0, np.intp)
    drawn: list[int] = []
    wanted = count
    rng = stream("order of classes held out", seed, len(classes))
    others = rng.permutation(candidates).tolist()
    for position in others:
        if len(drawn) < most and class_sizes[position] < 2 * wanted:
            drawn.append(position)
            wanted -= class_sizes[position]
    if len(drawn) < 2:
        rest = [position for position in others if position not in drawn]
        drawn += sorted(rest, key=class_sizes.__getitem__)[: 2 - len(drawn)]
    return np.flatnonzero(np.isin(labels, classes[drawn]))


def share_with_positive(labels: NDArray[np.int32]) -> float | None:
    """Return the share of examples that have another of their class; None where there is none."""
    counts = np.unique(labels, return_counts=True)[1]
    return float(counts[counts > 1].sum() / len(labels)) if len(labels) else None
