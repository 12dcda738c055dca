"""Draws thumbnails in their class colours and places them over a scatter without overlap."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Grey images have a plain background if their median border pixel (0 to 255) is below the first
# or above the second threshold. Then only the foreground ("ink") is drawn.
_DARK_GROUND, _LIGHT_GROUND = 64, 191

# Width of the coloured frame as a share of the side; for images without a plain background.
_FRAME = 0.06

# Thumbnails are as large as fits if this many are shown, or all images if there are fewer.
_NUM_WANTED = 180

_SHARE_WANTED = 0.75
"""This share of them is enough: some points lie too close together."""

# Their side in inches. Below the smallest, nobody recognises anything.
_SMALLEST, _LARGEST = 0.22, 1.0

# In inches: how far from its point a thumbnail may be moved to a free place.
_REACH = 0.4

# Space between two thumbnails, as a share of their distance.
_GAP = 0.08

# At most this many images are looked at for a free place nearby.
_MAX_MOVED = 2_000


class Thumbnails(NamedTuple):
    """Which images are shown, and where.

    Attributes:
        chosen: int [M], positions of the images.
        centers: int [M, 2], column and row of the middle of each thumbnail.
        side: pixels.
    """

    chosen: NDArray[np.intp]
    centers: NDArray[np.intp]
    side: int


def arranged(
    points: NDArray[np.float64],
    labels: NDArray[np.int32],
    width: int,
    height: int,
    dpi: float,
    num_wanted: int = _NUM_WANTED,
) -> Thumbnails:
    """Choose thumbnails and their places on a grid: as large as fits.

    A cell of the grid shows an image whose point lies in it. If several do, the others may move to
    free cells nearby; so classes whose points lie close together become blocks of thumbnails.

    Args:
        points: float64 [N, 2], column and row of each image's point.
        labels: int32 [N]; an image of each class comes first, then a second one of each, ...
        width: of the map in pixels.
        height: of the map in pixels.
        dpi: pixels per inch.
        num_wanted: the side is the largest with which about this many images are shown.
    """
    order = one_of_each_class(labels)
    wanted = _SHARE_WANTED * min(num_wanted, len(points))
    sides = np.geomspace(_LARGEST, _SMALLEST, 20) * dpi
    for side in sides:
        spacing = max(2, round(float(side)))
        chosen, cells = _cells(points[order], spacing, width, height, _REACH * dpi, num_wanted)
        if len(chosen) >= wanted or side == sides[-1]:
            break
    centers = _origin(spacing, width, height) + cells * spacing + spacing // 2
    return Thumbnails(order[chosen], centers, max(1, round(spacing * (1 - _GAP))))


def one_of_each_class(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the images in random order, but first one of each class, then a second of each, ..."""
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, starts, sizes = np.unique(labels[by_class], return_index=True, return_counts=True)
    turn = np.empty(len(labels), np.intp)
    turn[by_class] = np.arange(len(labels)) - np.repeat(starts, sizes)
    result: NDArray[np.intp] = order[np.argsort(turn[order], kind="stable")]
    return result


def _origin(spacing: int, width: int, height: int) -> NDArray[np.intp]:
    """Return column and row of the grid's corner; the grid is in the middle of the map."""
    return np.array([(width % spacing) // 2, (height % spacing) // 2])


def _cells(
    points: NDArray[np.float64], spacing: int, width: int, height: int, reach: float, limit: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the positions of the images that get a cell, int [M], and their cells, int [M, 2].

    Args:
        points: float64 [N, 2], in order of preference.
        spacing: of the grid, in pixels.
        width: of the map in pixels.
        height: of the map in pixels.
        reach: how far from its point a thumbnail may be, in pixels.
        limit: images move to free cells until this many have a cell.
    """
    shape = np.array([width, height]) // spacing
    if shape.min() == 0:
        return np.empty(0, np.intp), np.empty((0, 2), np.intp)
    scaled = (points - _origin(spacing, width, height)) / spacing
    own = np.clip(np.floor(scaled).astype(np.intp), 0, shape - 1)
    _, first = np.unique(own[:, 0] * shape[1] + own[:, 1], return_index=True)
    first = np.sort(first)
    taken = np.zeros(shape, bool)
    taken[tuple(own[first].T)] = True
    chosen, cells = first.tolist(), own[first].tolist()
    around = int(reach / spacing) + 1
    steps = np.stack(np.meshgrid(*[np.arange(-around, around + 1)] * 2), axis=-1).reshape(-1, 2)
    for position in np.setdiff1d(np.arange(len(points)), first)[:_MAX_MOVED]:
        if len(chosen) >= limit:
            break
        near = own[position] + steps
        near = near[((near >= 0) & (near < shape)).all(axis=1)]
        distances = np.linalg.norm(near + 0.5 - scaled[position], axis=1)
        distances[taken[tuple(near.T)] | (distances * spacing > reach)] = np.inf
        best = int(distances.argmin())
        if np.isfinite(distances[best]):
            taken[tuple(near[best])] = True
            chosen.append(int(position))
            cells.append(near[best].tolist())
    return np.array(chosen, np.intp), np.array(cells, np.intp).reshape(-1, 2)


def tinted(images: NDArray[np.uint8], colors: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Return the images as squares in the colours of their classes.

    Grey images with a plain background: the ink gets the colour, and the background becomes
    transparent. Other images keep their pixels and get a frame in the colour.

    Args:
        images: uint8 [M, H, W, C], C 1 or 3.
        colors: float [M, 3] in 0 to 1.
        side: pixels; the longer side of each image is scaled to it.

    Returns:
        uint8 [M, side, side, 4], RGBA. The area beside an image that is not square is transparent.
    """
    num_images, height, width, num_channels = images.shape
    tiles = np.zeros((num_images, side, side, 4), np.uint8)
    ground = _ground(images)
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    frame = max(1, round(_FRAME * side))
    for tile, image, color in zip(tiles, images, np.rint(255 * colors), strict=True):
        pixels = image[:, :, 0] if num_channels == 1 else image
        resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
        place = tile[top : top + size[1], left : left + size[0]]
        if ground is None:
            place[:, :, :3] = color
            place[:, :, 3] = 255
            inner = resized.reshape(*place.shape[:2], -1)[frame:-frame, frame:-frame]
            place[frame:-frame, frame:-frame, :3] = inner  # of thin images, nothing
        else:
            place[:, :, :3] = color
            place[:, :, 3] = np.abs(resized.astype(np.int16) - ground)
    return tiles


def _ground(images: NDArray[np.uint8]) -> int | None:
    """Return the plain background of grey images, 0 or 255; None if there is none."""
    if images.shape[3] != 1 or len(images) == 0:
        return None
    edges = (images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1])
    median = np.median(np.concatenate([edge.ravel() for edge in edges]))
    if median < _DARK_GROUND:
        return 0
    return 255 if median > _LIGHT_GROUND else None


def compose(
    tiles: NDArray[np.uint8], centers: NDArray[np.intp], width: int, height: int
) -> NDArray[np.uint8]:
    """Place tiles on a transparent canvas.

    Args:
        tiles: uint8 [M, S, S, 4], RGBA.
        centers: int [M, 2], the column and row of each tile's centre; no two tiles overlap.
        width: of the canvas, in pixels.
        height: of the canvas, in pixels.

    Returns:
        uint8 [height, width, 4].
    """
    canvas = np.zeros((height, width, 4), np.uint8)
    for tile, box in zip(tiles, boxes(centers, tiles.shape[1]), strict=True):
        left, top, right, bottom = box
        canvas[top:bottom, left:right] = tile
    return canvas


def boxes(centers: NDArray[np.intp], side: int) -> NDArray[np.intp]:
    """Return the squares of `side` pixels about `centers`: int [M, 4], left, top, right, bottom."""
    corners = centers - side // 2
    return np.concatenate([corners, corners + side], axis=1)


def without_overlap(
    centers: NDArray[np.intp], side: int, taken: NDArray[np.bool_], limit: int
) -> NDArray[np.intp]:
    """Choose squares that overlap neither each other nor occupied pixels, in order of preference.

    Args:
        centers: int [M, 2], column and row, in order of preference.
        side: of a square, in pixels.
        taken: bool [height, width], occupied pixels. The chosen squares are marked in this array.
        limit: maximum number of squares.

    Returns:
        int [<= limit], positions in `centers`. Squares that extend beyond the canvas are skipped.
    """
    height, width = taken.shape
    chosen: list[int] = []
    for position, (left, top, right, bottom) in enumerate(boxes(centers, side)):
        if len(chosen) == limit:
            break
        if left < 0 or top < 0 or right > width or bottom > height:
            continue
        place = taken[top:bottom, left:right]
        if not place.any():
            place[:] = True
            chosen.append(position)
    return np.array(chosen, np.intp)
