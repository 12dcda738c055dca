"""More classes to train on: the images of those there are, turned or mirrored."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from src.data.images import PosedImages

if TYPE_CHECKING:
    from src.data.split import Split
    from src.params.schema import Params


def with_extra_classes(split: "Split", params: "Params") -> "Split":
    """Return a split that has for each class, and each pose of `extra_classes`, one class more.

    That classes of turned images teach embeddings of classes never seen: arXiv:2003.00804.

    Args:
        split: what is trained on; its images are square if a pose is a quarter turn.
        params: `extra_classes`; if there are none, the split itself is returned.

    Returns:
        The split's N examples, and behind them N in each pose, with labels from C upwards for C
        class names.
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
