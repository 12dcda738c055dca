"""Places the names of classes on a map: beside their own points, where they cover nothing."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Candidates lie on rings around the middle of a class, half a name's height apart.
_NUM_ANGLES = 32

# A name is at most this many of its heights away from the points of its class.
_REACH = 1.5

# At most this many points decide whose point is the nearest to a name.
_MAX_COMPARED = 2_000


class Space:
    """The pixels of a map that are taken."""

    def __init__(self, taken: NDArray[np.bool_]) -> None:
        """Take some pixels, bool [height, width], rows from the top."""
        # All pixels above and left of each corner: four of these sums give a box's number.
        self._sums = np.pad(taken.cumsum(0, np.int32).cumsum(1, np.int32), ((1, 0), (1, 0)))

    def covered(self, boxes: NDArray[np.intp]) -> NDArray[np.int32]:
        """Return the number of taken pixels in each box, int32 [B].

        Args:
            boxes: int [B, 4], left, top, right, bottom; within the map.
        """
        left, top, right, bottom = boxes.T
        of = self._sums
        found: NDArray[np.int32] = (
            of[bottom, right] - of[top, right] - of[bottom, left] + of[top, left]
        )
        return found


def _apart(boxes: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return whether each box, int [B, 4], overlaps none of the others, int [M, 4]; bool [B]."""
    begin, end = boxes[:, None, :2], boxes[:, None, 2:]
    overlaps = np.all((begin < others[:, 2:]) & (others[:, :2] < end), axis=2)
    found: NDArray[np.bool_] = ~np.any(overlaps, axis=1)
    return found


def place_names(
    sizes: Sequence[tuple[int, int]],
    members: Sequence[NDArray[np.bool_]],
    points: NDArray[np.float64],
    taken: NDArray[np.bool_],
    *,
    radius: float = 0,
    must: bool,
) -> list[NDArray[np.intp] | None]:
    """Find a place for each name, in order.

    A name lies within the map, covers neither taken pixels nor another name, and the point nearest
    to its middle is of its class. The place nearest to the middle of its class wins.

    Args:
        sizes: width and height of each name in pixels.
        members: for each name, whether each point is of its class, bool [N].
        points: float64 [N, 2], column and row.
        taken: bool [height, width], pixels that names should not cover.
        radius: of what stands at a point, in pixels.
        must: whether a name for which there is no such place gets the one that covers least. Names
            never cover each other, unless the map has no room at all for a name.

    Returns:
        The box of each name, int [4]: left, top, right, bottom; None if it has no place.
    """
    some = np.random.default_rng(0).permutation(len(points))[:_MAX_COMPARED]
    pixels, names = Space(taken), np.empty((0, 4), np.intp)
    found: list[NDArray[np.intp] | None] = []
    for size, is_own in zip(sizes, members, strict=True):
        boxes = _candidates(np.array(size), points[is_own], radius, taken.shape)
        boxes = boxes[_apart(boxes, names)]
        box = None
        if len(boxes):
            covered = pixels.covered(boxes)
            free = boxes[covered == 0]
            free = _beside(free, points[some], is_own[some], points[is_own], radius)
            if len(free):
                box = free[0]
            elif must:
                box = boxes[covered.argmin()]
        if box is not None:
            names = np.concatenate([names, box[None]])
        found.append(box)
    return found


def _candidates(
    size: NDArray[np.intp], own: NDArray[np.float64], radius: float, shape: tuple[int, ...]
) -> NDArray[np.intp]:
    """Return boxes within the map around a class, those nearest to its middle first, int [B, 4].

    The middle is the class's point nearest to the median of its points, float64 [n, 2]. Between the
    halves of a class there may be none of its points.
    """
    height, width = shape
    if size[0] > width or size[1] > height:
        return np.empty((0, 4), np.intp)
    from_median = own - np.median(own, axis=0)
    middle = own[np.argmin(np.einsum("nd,nd->n", from_median, from_median))]
    spread = np.quantile(np.linalg.norm(own - middle, axis=1), 0.95)
    farthest = spread + radius + _REACH * size[1] + size[0] / 2
    radii = np.arange(0, max(farthest, 12 * size[1]), 0.5 * size[1])[:, None]
    angles = np.linspace(0, 2 * np.pi, _NUM_ANGLES, endpoint=False)
    steps = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1).reshape(-1, 2)
    corners = np.rint(middle + steps - size / 2).astype(np.intp)
    corners = np.clip(corners, 0, np.array([width, height]) - size)
    order = np.argsort(np.linalg.norm(corners + size / 2 - middle, axis=1), kind="stable")
    return np.concatenate([corners, corners + size], axis=1)[order]


def _beside(
    boxes: NDArray[np.intp],
    points: NDArray[np.float64],
    is_own: NDArray[np.bool_],
    own: NDArray[np.float64],
    radius: float,
) -> NDArray[np.intp]:
    """Return the boxes within reach of a class and nearer to it than to all others.

    Those that are twice as near come first.

    Args:
        boxes: int [B, 4].
        points: float64 [N, 2], some points of all classes.
        is_own: bool [N], which of these are of the class.
        own: float64 [n, 2], all points of the class.
        radius: of what stands at a point, in pixels.
    """

    def distance(to: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of each box to the nearest of some points; 0 if one is inside."""
        beyond = np.maximum(boxes[:, None, :2] - to, to - boxes[:, None, 2:]).clip(min=0)
        nearest = np.linalg.norm(beyond, axis=2).min(axis=1, initial=np.inf)
        found: NDArray[np.float64] = np.maximum(nearest - radius, 0)
        return found

    if len(boxes) == 0:
        return boxes
    to_own = distance(own[:_MAX_COMPARED])
    is_near = to_own <= _REACH * (boxes[0, 3] - boxes[0, 1])
    boxes, to_own = boxes[is_near], to_own[is_near]  # few are compared with the many other points
    to_others = distance(points[~is_own])
    is_clear = 2 * to_own <= to_others
    return np.concatenate([boxes[is_clear], boxes[(to_own <= to_others) & ~is_clear]])
