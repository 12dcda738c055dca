"""Holds classes out of training, to measure embeddings on unseen classes."""

from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import numpy as np

from src.data.class_names import find_classes
from src.data.split import Split
from src.errors import UserError
from src.params.schema import Params

UNSEEN = "unseen"


def hold_out(splits: Mapping[str, Split], params: Params, path: Path) -> dict[str, Split]:
    """Move the classes of `holdout_classes` from every split to a new split, `unseen`.

    Args:
        splits: `train`, `validation` and `test`.
        params: uses `holdout_classes`; if it is None, the splits are returned unchanged.
        path: the params file, for messages.

    Returns:
        The splits without these classes, and `unseen` with all images of these classes, in the
        order of the splits. Labels do not change.

    Raises:
        UserError: a class is unknown or named twice, a split has fewer than two classes left, or
            fewer than two held-out classes have images.
    """
    if params.holdout_classes is None:
        return dict(splits)
    held_out = find_classes(params.holdout_classes, splits["train"].class_names, path)
    seen = {name: _choose(split, held_out, are_in=False) for name, split in splits.items()}
    for name, split in seen.items():
        if (left := len(np.unique(split.labels))) < 2:
            raise UserError(
                f"{path}: holdout_classes: found {len(held_out)} classes, which leave {left} in "
                f"the {name} split; accepted: fewer, so that at least 2 are left"
            )
    parts = [_choose(split, held_out, are_in=True) for split in splits.values()]
    unseen = reduce(Split.joined, [part for part in parts if len(part)] or parts[:1])
    if (num_unseen := len(np.unique(unseen.labels))) < 2:
        raise UserError(
            f"{path}: holdout_classes: found {len(held_out)} classes, of which {num_unseen} have "
            "images; accepted: at least 2 with images"
        )
    return {**seen, UNSEEN: unseen}


def _choose(split: Split, labels: list[int], *, are_in: bool) -> Split:
    """Return the examples whose label is, or is not, one of `labels`."""
    return split.take(np.flatnonzero(np.isin(split.labels, labels) == are_in))
