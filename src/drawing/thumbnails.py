"""Draws thumbnails in their class colours and places them over a scatter without overlap."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Grey images have a plain background if their median border pixel (0 to 255) is below the first
# or above the second threshold. Then only the foreground ("ink") is drawn.
_DARK_GROUND, _LIGHT_GROUND = 64, 191

# Width of the coloured frame as a share of the side; for images without a plain background.
_FRAME = 0.06


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
            inner = resized[frame:-frame, frame:-frame]
            place[frame:-frame, frame:-frame, :3] = inner.reshape(*inner.shape[:2], -1)
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
