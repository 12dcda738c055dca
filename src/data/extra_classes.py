"""Adds training classes: the images of existing classes, rotated or mirrored."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from src.data.images import PosedImages

if TYPE_CHECKING:
    from src.data.split import Split
    from src.params.schema import Params


def with_extra_classes(split: "Split", params: "Params") -> "Split":
    """Return a split with one additional class for each class and each pose of `extra_classes`.

    Classes of rotated images improve the embeddings of unseen classes.

    Args:
        split: the training split. Its images must be square if a pose is a quarter turn.
        params: uses `extra_classes`; if it is empty, the split itself is returned.

    Returns:
        The split's N examples, then N examples in each pose. With C original classes, the labels
        of the additional ones start at C.

    Source: arXiv:2003.00804
    """
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
