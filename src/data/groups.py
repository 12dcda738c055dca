"""Keeps groups together: images of one series are never on both sides of a split."""

import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.class_names import listed, shortened
from src.data.split import SPLITS, Split
from src.seeds import stream

_MAX_NAMED = 3


def grouped_indices(
    labels: NDArray[np.int32], groups: NDArray[np.int32], count: int, seed: int
) -> NDArray[np.intp]:
    """Draw whole groups, in which the classes are about as frequent as in all examples.

    Groups are drawn one by one: always the one that brings the classes nearest to their shares, per
    image. Nearness is the sum over the classes of (wanted - drawn)^2 / class size. A group is
    passed over if it does not bring the total nearer to `count`.

    Args:
        labels: int32 [N].
        groups: int32 [N].
        count: the wanted number of examples; a class of n should give `count * n / N`.
        seed: decides ties.

    Returns:
        int, ascending. At least one group is drawn, if `count` is not 0, and at least one remains.
        Empty if there is only one group.
    """
    # Long: the cost changes with what has been drawn.
    names, group_of, group_sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if count < 1 or len(names) < 2:
        return np.empty(0, np.intp)
    classes, class_of, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    wanted = count * class_sizes / len(labels)  # less what has been drawn; [C]
    contents = _contents(group_of.ravel(), class_of.ravel())

    def cost(group: int) -> float:
        """Return by how much a group changes the sum, per image; drawing never lowers a cost."""
        of_class, counts = contents[group]
        change = counts * (counts - 2 * wanted[of_class]) / class_sizes[of_class]
        return float(change.sum() / group_sizes[group])

    ties = stream("ties between groups", seed, len(names)).permutation(len(names)).tolist()
    waiting = [(cost(group), ties[group], group) for group in range(len(names))]
    heapq.heapify(waiting)
    drawn: list[int] = []
    left = count
    while waiting:
        _, tie, group = heapq.heappop(waiting)
        if group_sizes[group] >= 2 * left or len(drawn) == len(names) - 1:
            continue  # it would not fit later either
        now = (cost(group), tie, group)
        if waiting and now > waiting[0]:
            heapq.heappush(waiting, now)
            continue
        drawn.append(group)
        left -= int(group_sizes[group])
        of_class, counts = contents[group]
        wanted[of_class] -= counts
    if not drawn:
        drawn = [min(range(len(names)), key=lambda group: (group_sizes[group], ties[group]))]
    return np.flatnonzero(np.isin(group_of.ravel(), drawn))


def _contents(
    group_of: NDArray[np.intp], class_of: NDArray[np.intp]
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the classes in each group, and the number of examples of each of them."""
    pairs, counts = np.unique(np.stack([group_of, class_of]), axis=1, return_counts=True)
    starts = np.flatnonzero(np.diff(pairs[0])) + 1
    return list(zip(np.split(pairs[1], starts), np.split(counts, starts), strict=True))


def linked(labels: NDArray[np.int32], groups: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return a number for each example that is equal if classes or groups link two examples.

    Two classes with images in one group are linked, and so are two groups with images of one class.
    Whole sets of linked examples can be held out without breaking a class or a group.

    Args:
        labels: int32 [N].
        groups: int32 [N].

    Returns:
        int32 [N], the smallest label of each example's set.
    """
    of_label = {label: label for label in np.unique(labels).tolist()}

    def root(label: int) -> int:
        while of_label[label] != label:
            of_label[label] = label = of_label[of_label[label]]
        return label

    first: dict[int, int] = {}
    for label, group in np.unique(np.stack([labels, groups]), axis=1).T.tolist():
        one, other = sorted((root(label), root(first.setdefault(group, label))))
        of_label[other] = one
    return np.array([root(label) for label in labels.tolist()], np.int32)


def join_classes(
    labels: NDArray[np.int32],
    groups: NDArray[np.int32],
    of_train: NDArray[np.bool_],
    of_validation: NDArray[np.bool_],
    fraction: float,
    seed: int,
) -> NDArray[np.bool_]:
    """Return which new examples join a validation split of whole classes, bool [M].

    These are the examples of its classes, and of a share of the new classes. New classes that
    groups link to others count as one with them. If groups link a class of validation to one of
    train, only a group with both is trained on: else new images of many classes of train would
    join validation.

    Args:
        labels: int32 [M], of the new examples.
        groups: int32 [M]; none has an earlier example.
        of_train: bool [M], whether the class has examples in train.
        of_validation: bool [M], whether it has some in validation.
        fraction: the share of the new classes.
        seed: fixes the choice.
    """
    stays = np.isin(groups, groups[of_train])
    joins = ~stays & np.isin(groups, groups[of_validation])
    new = linked(labels, groups)
    stays |= ~joins & np.isin(new, new[stays])
    joins |= ~stays & np.isin(new, new[joins])
    unknown = stream("sample", seed).permutation(np.unique(new[~joins & ~stays]))
    return joins | np.isin(new, unknown[: round(fraction * len(unknown))])


def group_warnings(
    splits: Mapping[str, Split],
    held_out: Sequence[int],
    source: Path,
    *,
    apart: bool = False,
) -> tuple[str, ...]:
    """Return warnings about groups on both sides of a split, with the names of the first few.

    Args:
        splits: the splits, with all classes.
        held_out: the labels of the classes that are later removed from every split.
        source: the dataset's file or folder, for messages.
        apart: whether evaluations leave a query's own group out (exclude_same_group).
    """
    held = [groups[np.isin(split.labels, held_out)] for split, groups in _grouped(splits)]
    seen = {
        name: np.unique(split.groups[~np.isin(split.labels, held_out)])
        for name, split in splits.items()
        if split.groups is not None
    }
    if not seen:
        return ()
    names = next(iter(splits.values())).group_names
    found, in_splits = np.unique(np.concatenate(list(seen.values())), return_counts=True)
    lines = []
    if len(broken := found[in_splits > 1]):
        shown = [
            f"{shortened(names[group])} ({', '.join(n for n in SPLITS if group in seen[n])})"
            for group in broken[:_MAX_NAMED].tolist()
        ]
        effect = ", which inflates the metrics unless exclude_same_group is true"
        lines.append(
            f"{source}: {len(broken)} of {len(found)} groups are in several splits"
            f"{'' if apart else effect}: {', '.join(shown)}" + ", ..." * (len(broken) > _MAX_NAMED)
        )
    if len(both := np.intersect1d(np.concatenate(held), found)):
        lines.append(
            f"{source}: {len(both)} groups have images of held-out classes and of others: "
            + listed([names[group] for group in both.tolist()], _MAX_NAMED)
        )
    return tuple(lines)


def class_warnings(
    splits: Mapping[str, Split], held_out: Sequence[int], source: Path, validation_by: str
) -> tuple[str, ...]:
    """Return a warning if validation by class has classes of train, by groups of new images.

    Args:
        splits: with all classes.
        held_out: as for `group_warnings`.
        source: the dataset's file or folder, for messages.
        validation_by: see `src.data.loading.Data`.
    """
    if validation_by != "class":
        return ()
    train, validation = (np.setdiff1d(splits[n].labels, held_out) for n in ("train", "validation"))
    both = [splits["train"].class_names[label] for label in np.intersect1d(train, validation)]
    if not both:
        return ()
    return (
        f"{source}: validation_by: {len(both)} of its {len(validation)} classes are trained on "
        f"too, because new images keep to their groups: {listed(both, _MAX_NAMED)}",
    )


def _grouped(splits: Mapping[str, Split]) -> list[tuple[Split, NDArray[np.int32]]]:
    return [(split, split.groups) for split in splits.values() if split.groups is not None]
