"""Finds duplicate images, those with equal pixels, by comparing their hashes."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.split import Dataset, Split
from src.errors import UserError
from src.printable import printable

_MAX_NAMED = 3

# Of equal images, the one in the earliest of these splits is kept, so the test split stays whole.
_KEPT_FIRST = ("test", "validation", "train")


class _Examples(NamedTuple):
    """All examples of some splits, concatenated."""

    digests: NDArray[np.uint64]
    labels: NDArray[np.int32]
    splits: NDArray[np.intp]  # the position of each example's split in `names`
    names: list[tuple[str, Split]]  # the splits
    starts: NDArray[np.intp]  # the row of each split's first example

    def name(self, row: int) -> str:
        """Return a name for an example: its file, or its number within its split."""
        name, split = self.names[self.splits[row]]
        position = row - self.starts[self.splits[row]]
        if split.paths is not None:
            return printable(str(split.paths[position]))
        return f"{name} no. {position}"


def duplicate_warnings(
    splits: Mapping[str, Split], on_duplicates: str, source: Path
) -> tuple[str, ...]:
    """Return warnings that count the duplicate images and name the first few.

    Args:
        splits: these must have `digests`.
        on_duplicates: as in `Params`; "error" refuses equal images in two splits or two classes.
        source: the dataset's file or folder, for messages.

    Returns:
        At most one line each for duplicates across classes, across splits, and within a class
        and split.

    Raises:
        UserError: there are duplicates across classes or splits, and `on_duplicates` is "error".
    """
    examples = _all(splits)
    across_splits, across_classes, within = [], [], []
    for rows in _equal_rows(examples.digests):
        if len(set(examples.labels[rows].tolist())) > 1:
            across_classes.append(rows)
        elif len(set(examples.splits[rows].tolist())) > 1:
            across_splits.append(rows)
        else:
            within.append(rows)
    lines = [
        _line(examples, groups, source, what)
        for groups, what in (
            (across_classes, "in several classes, so that their labels contradict each other"),
            (across_splits, "in several splits, which inflates the metrics"),
        )
        if groups
    ]
    if lines and on_duplicates == "error":
        raise UserError(
            "\n".join(
                f'{line}; accepted: each once, or "on_duplicates": "warn" or "drop"'
                for line in lines
            )
        )
    hint = '; "on_duplicates": "drop" keeps only one of them'
    lines = [f"{line}{hint}" for line in lines]
    if within:
        lines.append(_line(examples, within, source, "in one class and one split"))
    return tuple(lines)


def without_duplicates(dataset: Dataset) -> Dataset:
    """Return the dataset with one image of each group of equal ones, and warnings that say so.

    An image of the test split is kept if the group has one, else one of validation, else one of
    train. Of several in that split, the first is kept.

    Raises:
        UserError: a split would become empty.
    """
    in_order = {n: dataset.splits[n] for n in _KEPT_FIRST if n in dataset.splits}
    examples = _all(in_order)
    _, first, group = np.unique(examples.digests, return_index=True, return_inverse=True)
    kept = first[group.ravel()]  # for each example, the row of the equal image that is kept
    dropped = np.flatnonzero(kept != np.arange(len(kept)))
    if not len(dropped):
        return dataset
    is_kept = np.ones(len(kept), bool)
    is_kept[dropped] = False
    splits = {}
    for position, (name, split) in enumerate(examples.names):
        splits[name] = split.take(np.flatnonzero(is_kept[examples.splits == position]))
        if len(splits[name]) == 0:
            raise UserError(
                f'{dataset.source}: on_duplicates: found "drop", but every image of the {name} '
                f"split is also in another split; accepted: a {name} split with other images"
            )
    contradict = examples.labels[dropped] != examples.labels[kept[dropped]]
    lines = [
        f"{dataset.source}: {len(rows)} images are left out, because {what}: "
        + _first(f"{examples.name(row)} = {examples.name(kept[row])}" for row in rows)
        for rows, what in (
            (dropped[~contradict], "another image has the same pixels"),
            (dropped[contradict], "an image of another class has the same pixels"),
        )
        if len(rows)
    ]
    return replace(
        dataset,
        splits={name: splits[name] for name in dataset.splits},
        warnings=(*dataset.warnings, *lines),
    )


def _all(splits: Mapping[str, Split]) -> _Examples:
    sizes = [len(split) for split in splits.values()]
    digests = [split.digests for split in splits.values() if split.digests is not None]
    assert len(digests) == len(sizes), "digests are made when data are loaded"
    return _Examples(
        np.concatenate(digests),
        np.concatenate([split.labels for split in splits.values()]),
        np.repeat(np.arange(len(sizes)), sizes),
        list(splits.items()),
        np.cumsum([0, *sizes])[:-1],
    )


def _equal_rows(digests: NDArray[np.uint64]) -> list[NDArray[np.intp]]:
    """Return the rows of each digest that occurs several times, in order of the first row."""
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(np.diff(digests[order], prepend=digests[order[:1]] ^ np.uint64(1)))
    sizes = np.diff(np.append(starts, len(order)))
    several = [order[s : s + n] for s, n in zip(starts, sizes, strict=True) if n > 1]
    return sorted(several, key=lambda rows: int(rows[0]))


def _line(examples: _Examples, groups: list[NDArray[np.intp]], source: Path, what: str) -> str:
    """Return a line that counts the images of some groups and names the first few."""
    count = sum(map(len, groups))
    named = _first(" = ".join(map(examples.name, _shown(examples, rows))) for rows in groups)
    return f"{source}: {count} images with equal pixels {what}: {named}"


def _shown(examples: _Examples, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return a few rows of a group: first one of each class and split, then the others."""
    kinds = np.stack([examples.labels[rows], examples.splits[rows]])
    firsts = np.unique(kinds, axis=1, return_index=True)[1]
    order = np.argsort(~np.isin(np.arange(len(rows)), firsts), kind="stable")
    return rows[order[:_MAX_NAMED]]


def _first(names: Iterable[str]) -> str:
    """Return the first few names, followed by "..." if there are more."""
    shown = list(islice(names, _MAX_NAMED + 1))
    return ", ".join([*shown[:_MAX_NAMED], *["..."] * (len(shown) > _MAX_NAMED)])
