"""Classes left out of training, to see what embeddings make of classes they never saw."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from src.errors import UserError
from src.params import Params
from src.registry import did_you_mean
from src.split import Split

UNSEEN = "unseen"


def hold_out(splits: Mapping[str, Split], params: Params, path: Path) -> dict[str, Split]:
    """Take the classes of `holdout_classes` out of every split.

    Args:
        splits: `train`, `validation` and `test`.
        params: `holdout_classes`; where it is None, the splits stay as they are.
        path: the file of the params, for the messages.

    Returns:
        The splits without these classes, all labels as before, and `unseen`: the test split's
        images of them.

    Raises:
        UserError: a class is unknown or named twice, fewer than two are left to train on, or the
            test split has fewer than two of those held out.
    """
    if params.holdout_classes is None:
        return dict(splits)
    class_names = splits["train"].class_names
    held_out = [_label(given, class_names, path) for given in params.holdout_classes]
    if len(set(held_out)) < len(held_out):
        raise UserError(
            f"{path}: holdout_classes: found {params.holdout_classes}, of which two are the same "
            "class; accepted: each class once"
        )
    unseen = _choose(splits["test"], held_out, are_in=True)
    seen = {name: _choose(split, held_out, are_in=False) for name, split in splits.items()}
    for name, split in seen.items():
        if (left := len(np.unique(split.labels))) < 2:
            raise UserError(
                f"{path}: holdout_classes: found {len(held_out)} classes, which leave {left} in "
                f"the {name} split; accepted: so few that at least 2 are left"
            )
    if (num_unseen := len(np.unique(unseen.labels))) < 2:
        raise UserError(
            f"{path}: holdout_classes: found {params.holdout_classes}, of which the test split has "
            f"{num_unseen}; accepted: at least 2 that it has"
        )
    return {**seen, UNSEEN: unseen}


def _label(given: int | str, class_names: tuple[str, ...], path: Path) -> int:
    """Return the label of a class given by label or by name."""
    if isinstance(given, int) and given < len(class_names):
        return given
    if given in class_names:
        return class_names.index(str(given))
    hint = did_you_mean(str(given), class_names)
    raise UserError(
        f"{path}: holdout_classes: found {given!r}; accepted: labels 0 to {len(class_names) - 1}, "
        f"or names: {', '.join(class_names[:20])}{', ...' if len(class_names) > 20 else ''}{hint}"
    )


def _choose(split: Split, labels: list[int], *, are_in: bool) -> Split:
    """Return the examples whose label is, or is not, one of `labels`."""
    return split.take(np.flatnonzero(np.isin(split.labels, labels) == are_in))
