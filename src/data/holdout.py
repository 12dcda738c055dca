"""Holds classes out of training, to measure embeddings on unseen classes."""

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

import numpy as np

from src.data.class_names import find_classes
from src.data.split import Split
from src.errors import UserError
from src.params.schema import Params
from src.seeds import stream

UNSEEN = "unseen"


def held_out_labels(params: Params, class_names: Sequence[str], path: Path) -> list[int]:
    """Return the labels of the classes that `holdout_classes` names, or draws; [] if it is None.

    A share of C classes is `round(share * C)` of them, drawn by `seed`.

    Args:
        params: uses `holdout_classes` and `seed`.
        class_names: the dataset's classes, in the order of their labels.
        path: the params file, for messages.

    Raises:
        UserError: a class does not exist or is given twice, or the share leaves, or holds out,
            fewer than two classes.
    """
    wanted = params.holdout_classes
    if wanted is None:
        return []
    if not isinstance(wanted, float):
        return find_classes(wanted, class_names, path)
    count = round(wanted * len(class_names))
    if not 2 <= count <= len(class_names) - 2:
        raise UserError(
            f"{path}: holdout_classes: found {wanted:.4g}, which is {count} of {len(class_names)} "
            "classes; accepted: a share that holds out at least 2 classes and leaves at least 2"
        )
    rng = stream("classes held out", params.seed, len(class_names))
    return sorted(rng.permutation(len(class_names))[:count].tolist())


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
        UserError: see `held_out_labels`; or a split has its own queries and gallery, fewer than two
            classes left in it, or fewer than two held-out classes have images.
    """
    if params.holdout_classes is None:
        return dict(splits)
    for name, split in splits.items():
        if split.is_query is not None and split.is_query.any():
            raise UserError(
                f"{path}: holdout_classes: found classes to hold out, but the {name} split has its "
                "own queries and gallery (is_query, is_gallery); accepted: null, or a list of "
                "images without these columns"
            )
    held_out = held_out_labels(params, splits["train"].class_names, path)
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
