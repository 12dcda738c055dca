"""Creates the projector's sprite sheet: the images of all points as tiles of one large image."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.data.images import Images
from src.projector.legend import PALETTE
from src.system.atomic import atomic_write
from src.system.progress import phase, progress_bar

MAX_SHEET_SIDE = 8192
"""Pixels. With a larger sheet the projector shows an error and no points."""

READABLE_TILE_SIDE = 28
"""Pixels. Smaller images are enlarged, because the projector never enlarges smoothly."""

DARK_BACKGROUND = 64
"""If a grey split's median border pixel (0 to 255) is below this, its images are light on dark."""


_LEVELS = 23
"""Grey levels of a tinted image. For each of ten colours and white: 253 palette entries."""


def sprite_sheet(images: Images) -> tuple[Image.Image, tuple[int, int]]:
    """Arrange images in the square grid that the projector expects.

    The grid has ceil(sqrt(N)) rows and columns, filled row by row. Unused tiles are white. Tiles
    are square, because the projector would distort any other shape. An image that is not square is
    centred on white.

    If the sheet would exceed 8192 pixels a side, images are shrunk to fit. If images are smaller
    than 28 pixels, they are enlarged by an integer factor, as far as the sheet has room. Other
    images keep their size.

    The projector multiplies tiles by the point's colour, so only dark ink on white is visible. Grey
    images with a dark background (the median of the border pixels) are therefore inverted. Colour
    images, and grey ones with a lighter background, are not changed.

    Args:
        images: uint8 [N, H, W, C], pixels 0 to 255, N >= 1; C is 1 (grey) or 3 (colour).

    Returns:
        The sheet, and the width and height of one tile in pixels.
    """
    num_images, height, width, num_channels = images.shape
    grid_side = math.isqrt(num_images - 1) + 1
    size = _size_on_sheet(width, height, max_side=MAX_SHEET_SIDE // grid_side)
    tile_side = max(size)
    left, top = ((tile_side - side) // 2 for side in size)
    enlarges = size[0] > width
    resampling = Image.Resampling.NEAREST if enlarges else Image.Resampling.LANCZOS
    inverts = num_channels == 1 and _has_dark_background(images)

    # Images are pasted one at a time, which avoids a second array of the sheet's size.
    mode = {1: "L", 3: "RGB"}[num_channels]
    sheet = Image.new(mode, (grid_side * tile_side, grid_side * tile_side), "white")
    with progress_bar("sprite sheet", num_images, "images") as bar:
        for index, image in enumerate(images):
            row, column = divmod(index, grid_side)
            pixels = image[:, :, 0] if num_channels == 1 else image
            tile = Image.fromarray(255 - pixels if inverts else pixels)
            if tile.size != size:
                tile = tile.resize(size, resampling)
            sheet.paste(tile, (column * tile_side + left, row * tile_side + top))
            bar.update(1)
    return sheet, (tile_side, tile_side)


def tint_sheet(sheet: Image.Image, tile_side: int, colors: NDArray[np.intp]) -> Image.Image:
    """Colour the tiles of a sheet, for a view in which the projector does not colour points.

    Grey tiles are multiplied by a paler version of their colour. The projector's own colours then
    remain distinguishable on top. Colour images are not changed, but get a frame.

    Args:
        sheet: from `sprite_sheet`.
        tile_side: the width and height of one tile in pixels.
        colors: int [N], positions in `src.projector.legend.PALETTE`.

    Returns:
        A sheet of the same size.
    """
    grid_side = sheet.width // tile_side
    white = len(PALETTE)
    of_tiles = np.full((grid_side, grid_side), white, np.uint8)
    of_tiles.flat[: len(colors)] = colors
    pixels = np.asarray(sheet)
    if sheet.mode == "RGB":
        frame = np.array([*PALETTE, (255, 255, 255)], np.uint8)[of_tiles]
        width = max(1, tile_side // 10)
        framed = pixels.reshape(grid_side, tile_side, grid_side, tile_side, 3).copy()
        for edge in (slice(None, width), slice(-width, None)):
            framed[:, edge] = frame[:, None, :, None]
            framed[:, :, :, edge] = frame[:, None, :, None]
        return Image.fromarray(framed.reshape(pixels.shape))
    pale = (np.array(PALETTE) + 255) / 2
    levels = np.linspace(0, 1, _LEVELS)
    palette = np.concatenate([pale, [[255, 255, 255]]])[:, None] * levels[:, None]
    greys = (pixels.astype(np.uint16) * (_LEVELS - 1) // 255).astype(np.uint8)
    greys += (of_tiles * _LEVELS).repeat(tile_side, axis=0).repeat(tile_side, axis=1)
    tinted = Image.fromarray(greys)
    tinted.putpalette(palette.round().astype(np.uint8).tobytes())
    return tinted


def write_sheet(path: Path, sheet: Image.Image) -> None:
    """Write a sprite sheet as a PNG file."""
    with phase(f"writing {path.name}"), atomic_write(path) as file:
        sheet.save(file, format="PNG")


def _size_on_sheet(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Return the width and height of an image on the sheet, in pixels."""
    longest = max(width, height)
    if longest > max_side:
        return max(1, width * max_side // longest), max(1, height * max_side // longest)
    factor = max(1, min(math.ceil(READABLE_TILE_SIDE / longest), max_side // longest))
    return width * factor, height * factor


def _has_dark_background(images: Images) -> bool:
    """Return whether most border pixels are dark, in a sample of about a thousand images."""
    some = images[:: max(1, len(images) // 1000)]
    edges = (some[:, 0], some[:, -1], some[:, :, 0], some[:, :, -1])
    return bool(np.median(np.concatenate([edge.ravel() for edge in edges])) < DARK_BACKGROUND)
