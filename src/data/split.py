"""Defines Split, a part of a dataset (train, validation or test), and draws stratified samples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.heat_maps import HeatMaps
from src.data.images import Images, joined
from src.seeds import stream

SPLITS = ("train", "validation", "test")

# The attributes of a split that have a value for each example, if they are not None.
_FACTS = ("paths", "digests", "file_digests", "groups", "is_query", "is_gallery")


@dataclass(frozen=True)
class Split:
    """Images, their labels and the class names.

    Attributes:
        images: uint8 [N, H, W, C], pixels 0 to 255; C is 1 (grey) or 3 (colour). An array, or an
            object that reads from disk and behaves like an array along the first axis. Or
            vectors, float32 [N, 1, F, 1]: see `holds_vectors`.
        labels: int32 [N], the position of each image's class in `class_names`.
        class_names: the classes of the whole dataset, in the order of their labels.
        paths: text [N], the file of each image within the dataset's folder. None if the dataset
            does not store each image in its own file.
        digests: uint64 [N], hashes of each image's pixels; equal pixels have equal digests.
        file_digests: uint64 [N], hashes of the files in `paths`; None without `paths`.
        groups: int32 [N], the position of each image's group in `group_names`. A group is a series
            of images that are alike for a reason other than their class: of one person, one
            camera, one scanned page. None if the dataset states no groups.
        is_query: bool [N], and
        is_gallery: bool [N], which images are queries, and which ones they search, if a split has
            its own queries and gallery. All False in a split that has none. Both None if no split
            of the dataset has any.
        group_names: the groups of the whole dataset, in the order of `groups`.
        num_extra: how many of the last examples are of `extra_data`; only what is trained on has
            any.
    """

    images: Images
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    paths: NDArray[np.object_] | None = None
    digests: NDArray[np.uint64] | None = None
    file_digests: NDArray[np.uint64] | None = None
    groups: NDArray[np.int32] | None = None
    is_query: NDArray[np.bool_] | None = None
    is_gallery: NDArray[np.bool_] | None = None
    group_names: tuple[str, ...] = ()
    num_extra: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def holds_vectors(self) -> bool:
        """Whether the examples are vectors, float32 [N, 1, F, 1], and not images."""
        return self.images.dtype == np.float32

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) of an image, (F,) of a vector."""
        shape = self.images.shape
        return (shape[2],) if self.holds_vectors else shape[1:]

    @cached_property
    def pictures(self) -> Images:
        """The examples as people see them, uint8 [N, H, W, C]: vectors become heat maps."""
        return HeatMaps(self.images) if self.holds_vectors else self.images

    def take(self, indices: NDArray[np.intp]) -> "Split":
        """Return the examples at `indices`, int [M], in that order; images on disk stay there."""
        facts: dict[str, Any] = {n: values[indices] for n, values in self._facts().items()}
        return replace(
            self, images=self.images.take(indices, axis=0), labels=self.labels[indices], **facts
        )

    def joined(self, other: "Split") -> "Split":
        """Return these examples followed by those of another split of the same dataset."""
        others = other._facts()
        facts: dict[str, Any] = {
            name: np.concatenate([values, others[name]]) for name, values in self._facts().items()
        }
        labels = np.concatenate([self.labels, other.labels])
        return replace(self, images=joined(self.images, other.images), labels=labels, **facts)

    def _facts(self) -> dict[str, NDArray[Any]]:
        """Return the optional columns that are not None, by name."""
        return {name: getattr(self, name) for name in _FACTS if getattr(self, name) is not None}


@dataclass(frozen=True)
class Dataset:
    """The content of a dataset's files, before missing splits are drawn.

    Attributes:
        source: the file or folder, for messages.
        splits: `train`, and `validation` and `test` if the dataset defines them. All are
            non-empty and have the same class names.
        origins: where each split comes from, in a few words.
        warnings: what the user should know about how the files were read, a line each.
    """

    source: Path
    splits: Mapping[str, Split]
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()


def stratified_indices(labels: NDArray[np.int32], count: int, seed: int) -> NDArray[np.intp]:
    """Draw a sample, stratified by class.

    Args:
        labels: int32 [N].
        count: the number of examples to draw, at most N. A class of n gives `count * n / N`,
            rounded so that the sum is `count`. The classes with the largest remainders give one
            more; the seed decides ties.
        seed: fixes the choice.

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
    """Draw whole classes with at least two examples each, in an order that the seed fixes.

    Args:
        labels: int32 [N].
        count: the wanted number of examples. A class is drawn if it brings the total closer to
            `count`. If fewer than two are drawn, the smallest other classes are added.
        seed: fixes the choice.

    Returns:
        The drawn examples, int, ascending. At least two classes are drawn, and at least two
        remain, one of them with two examples. Empty if there are too few classes for that.
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


def share_with_positive(
    labels: NDArray[np.int32], groups: NDArray[np.int32] | None = None
) -> float | None:
    """Return the share of examples whose class has another example; None without examples.

    Args:
        labels: int32 [N].
        groups: int32 [N]; if given, the other example must be in another group.
    """
    if not len(labels):
        return None
    own = np.arange(len(labels)) if groups is None else groups
    parts, part_of = np.unique(np.stack([labels, own]), axis=1, return_inverse=True)
    num_parts = np.unique(parts[0], return_counts=True)
    of_class = dict(zip(num_parts[0].tolist(), num_parts[1].tolist(), strict=True))
    has_other = np.array([of_class[label] > 1 for label in parts[0].tolist()])
    return float(has_other[part_of.ravel()].mean())
