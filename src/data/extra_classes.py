"""Adds training classes: those of other datasets, and existing ones, rotated or mirrored."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from src.data.images import ChainedImages, PosedImages

if TYPE_CHECKING:
    from src.data.split import Split
    from src.params.schema import Params


def with_extra_classes(
    split: "Split", params: "Params", extra_data: "Split | None" = None
) -> "Split":
    """Return what is trained on: a split, its classes in the poses of `extra_classes`, other data.

    There is one additional class for each class of the split and each pose. More classes improve
    the embeddings of unseen classes. The other data have no poses: turned by a quarter, a plus
    sign is the same, and many letters are another letter.

    Args:
        split: the training split. Its images must be square if a pose is a quarter turn.
        params: uses `extra_classes`.
        extra_data: the examples of `extra_data`; None if there are none.

    Returns:
        The split's N examples, then N examples in each pose, then `extra_data`. With C original
        classes, the labels of the additional ones start at C. The split itself if nothing is added.

    Source: arXiv:2003.00804
    """
    posed = _with_poses(split, params)
    if extra_data is None:
        return posed
    digests = [part.digests for part in (posed, extra_data) if part.digests is not None]
    return replace(
        posed,
        images=ChainedImages([posed.images, extra_data.images]),
        labels=np.concatenate(
            [posed.labels, extra_data.labels + len(posed.class_names)], dtype=np.int32
        ),
        class_names=(*posed.class_names, *extra_data.class_names),
        digests=np.concatenate(digests) if digests else None,
        num_extra=len(extra_data),
    )


def _with_poses(split: "Split", params: "Params") -> "Split":
    poses = params.extra_classes
    if not poses:
        return split
    num_classes = len(split.class_names)
    labels = [split.labels + num_classes * number for number in range(1 + len(poses))]
    names = [f"{name} {pose}" for pose in poses for name in split.class_names]
    return replace(
        split,
        images=PosedImages(split.images, poses),
        labels=np.concatenate(labels),
        class_names=(*split.class_names, *names),
    )
