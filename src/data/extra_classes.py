"""Classes beside those there are: their images, turned or mirrored, to be told apart as well."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from src.params.poses import POSES

if TYPE_CHECKING:
    from src.data.images import Images
    from src.data.split import Split
    from src.params.schema import Params


class PosedImages:
    """Images upright, and once more in each pose; each is turned when it is asked for.

    With N images, position i + p N is image i in the pose p, the first of which is upright. Indexed
    by positions, slices or masks along the first axis, which is all that a training needs.

    Attributes:
        shape: ((1 + poses) N, H, W, C).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, images: "Images", poses: tuple[str, ...]) -> None:
        """Pose `images`, uint8 [N, H, W, C], square where a pose is a quarter turn."""
        self._images = images
        self._poses = poses
        self._positions = np.arange((1 + len(poses)) * len(images))
        self.shape = (len(self._positions), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, key: Any) -> NDArray[np.uint8]:
        poses, rows = np.divmod(self._positions[key], len(self._images))
        images = np.array(self._images[rows])  # [M, H, W, C], not a view
        for number, pose in enumerate(self._poses, start=1):
            mirrored, quarter_turns = POSES[pose]
            chosen = images[poses == number]
            if mirrored:
                chosen = chosen[:, :, ::-1]
            images[poses == number] = np.rot90(chosen, quarter_turns, axes=(1, 2))
        return images


def with_extra_classes(split: "Split", params: "Params") -> "Split":
    """Return a split that has for each class, and each pose of `extra_classes`, one class more.

    That classes of turned images teach embeddings of classes never seen: arXiv:2003.00804.

    Args:
        split: what is trained on; its images are square where a pose is a quarter turn.
        params: `extra_classes`; where there are none, the split comes back.

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
        # All of an array that a training makes use of.
        images=cast("Images", PosedImages(split.images, poses)),
        labels=np.concatenate(labels),
        class_names=(*split.class_names, *names),
    )
