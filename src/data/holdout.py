"""Classes left out of training, to see what embeddings make of classes they never saw."""

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
    """Take the classes of `holdout_classes` out of every split.

    Args:
        splits: `train`, `validation` and `test`.
        params: `holdout_classes`; where it is None, the splits stay as they are.
        path: the file of the params, for the messages.

    Returns:
        The splits without these classes, all labels as before, and `unseen`: all their images, in
        the order of the splits.

    Raises:
        UserError: a class is unknown or named twice, or fewer than two are left in a split.
    """
    if params.holdout_classes is None:
        return dict(splits)
    held_out = find_classes(params.holdout_classes, splits["train"].class_names, path)
    seen = {name: _choose(split, held_out, are_in=False) for name, split in splits.items()}
    for name, split in seen.items():
        if (left := len(np.unique(split.labels))) < 2:
            raise UserError(
                f"{path}: holdout_classes: found {len(held_out)} classes, which leave {left} in "
                f"the {name} split; accepted: so few that at least 2 are left"
            )
    parts = [_choose(split, held_out, are_in=True) for split in splits.values()]
    unseen = reduce(Split.joined, [part for part in parts if len(part)] or parts[:1])
    if (num_unseen := len(np.unique(unseen.labels))) < 2:
        raise UserError(
            f"{path}: holdout_classes: found {len(held_out)} classes, of which {num_unseen} have "
            "images; accepted: at least 2 that have"
        )
    return {**seen, UNSEEN: unseen}


def _choose(split: Split, labels: list[int], *, are_in: bool) -> Split:
    """Return the examples whose label is, or is not, one of `labels`."""
    return split.take(np.flatnonzero(np.isin(split.labels, labels) == are_in))
