"""Writes the characters of fonts as people write them: small images, each a little different."""

import contextlib
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE, BOX = 28, 20
"""Pixels of an image's side, and of the box that a glyph fits into, as MNIST has them."""

GLYPHS_FILE = Path("glyphs") / "glyphs.npz"
"""The file of the dataset, in the folder of all datasets."""

MOST_FONTS = 12
"""The most fonts that a character is taken from."""

_SIZE = 64  # pixels of the letters as fonts draw them, before they are made small
_CANVAS = 3 * _SIZE


class Font:
    """A font, and the knowledge which characters it has."""

    def __init__(self, path: Path) -> None:
        """Open a font; raises OSError if it is none."""
        layout = ImageFont.Layout.BASIC
        self.font = ImageFont.truetype(str(path), _SIZE, layout_engine=layout)
        self._small = ImageFont.truetype(str(path), 16, layout_engine=layout)
        self._missing = self._drawn("\uffff")

    def has(self, character: str) -> bool:
        """Return whether the font draws a character, and not the sign for a missing one."""
        drawn = self._drawn(character)
        return any(drawn[1]) and drawn != self._missing

    def _drawn(self, character: str) -> tuple[tuple[int, int], bytes]:
        mask = self._small.getmask(character)
        return mask.size, bytes(mask)


def open_fonts(folder: Path) -> list[Font]:
    """Return the fonts of a folder, at any depth: by file name, those of usual weight first."""
    paths = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")),
        key=lambda path: ("Regular" not in path.name, path.name),
    )
    fonts = []
    for path in paths:
        with contextlib.suppress(OSError):  # not a font, or a damaged one
            fonts.append(Font(path))
    return fonts


def with_character(fonts: Sequence[Font], character: str) -> list[Font]:
    """Return the first fonts that have a character, at most 12."""
    return list(islice((font for font in fonts if font.has(character)), MOST_FONTS))


def plain(fonts: Sequence[Font], character: str) -> NDArray[np.uint8]:
    """Return the mean of a character as at least one font draws it, uint8 [28, 28]."""
    drawn = [_in_box(_large(font.font, character, 0)) for font in fonts]
    mean: NDArray[np.uint8] = np.mean(drawn, axis=0).round().astype(np.uint8)
    return mean


def writings(fonts: Sequence[Font], character: str, count: int) -> list[NDArray[np.uint8]]:
    """Return a character as if written several times, each uint8 [28, 28].

    The fonts take turns. Each time, slant, thickness, width, turn and distortion are others.
    """
    return [
        _written(font.font, character, number)
        for number, font in enumerate(islice(cycle(fonts), count))
    ]


def shapes(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return images, each uint8 [28, 28], blurred and scaled to be compared: float32 [N, 784].

    With mean 0 and length 1, their products are correlations.
    """
    rows = []
    for image in images:
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.2))
        row = np.asarray(blurred, np.float32).ravel()
        row = row - row.mean()
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows) if rows else np.zeros((0, SIDE * SIDE), np.float32)


def _large(font: ImageFont.FreeTypeFont, character: str, stroke: int) -> Image.Image:
    """Return a character in the middle of a large image; `stroke` pixels make it bolder."""
    image = Image.new("L", (_CANVAS, _CANVAS))
    middle = (_CANVAS // 2, _CANVAS // 2)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox(middle, character, font=font, stroke_width=stroke)
    place = (middle[0] - (left + right) / 2 + middle[0], middle[1] - (top + bottom) / 2 + middle[1])
    draw.text(place, character, font=font, fill=255, stroke_width=stroke, stroke_fill=255)
    return image


def _written(font: ImageFont.FreeTypeFont, character: str, number: int) -> NDArray[np.uint8]:
    """Return a character as if written, uint8 [28, 28]; each `number` is another writing."""
    rng = np.random.default_rng([ord(character), number])
    image = _large(font, character, int(rng.integers(0, 3)))
    if rng.random() < 0.3:  # thinner
        image = image.filter(ImageFilter.MinFilter(3))
        if image.getbbox() is None:
            image = _large(font, character, 0)
    image = _distorted(image, rng)
    slant, turn = rng.normal(0.1, 0.2), np.deg2rad(rng.normal(0, 6))
    width, height = np.exp(rng.normal(0, 0.12, 2))
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ [[width, slant], [0, height]]
    middle = np.full(2, _CANVAS / 2)
    offset = middle - matrix @ middle
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    image = image.transform(
        image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return _in_box(image)


def _distorted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return an image whose parts are displaced a little, smoothly: a mesh of 6 x 6 patches."""
    patches = 6
    grid = np.linspace(0, _CANVAS, patches + 1)
    moved = np.stack(np.meshgrid(grid, grid), axis=-1)  # [7, 7, 2], axes y x
    moved += rng.normal(0, 0.05 * _SIZE, moved.shape)
    mesh = []
    for y in range(patches):
        for x in range(patches):
            box = tuple(int(grid[n]) for n in (x, y, x + 1, y + 1))
            corners = (moved[y, x], moved[y + 1, x], moved[y + 1, x + 1], moved[y, x + 1])
            mesh.append((box, tuple(float(value) for corner in corners for value in corner)))
    return image.transform(image.size, Image.Transform.MESH, mesh, Image.Resampling.BILINEAR)


def _in_box(image: Image.Image) -> NDArray[np.uint8]:
    """Return the drawing in a box of 20 x 20 pixels, its centre of mass in the middle of 28 x 28.

    That is how MNIST was made from pictures of any size.
    """
    box = image.getbbox()
    assert box is not None
    image = image.crop(box)
    scale = BOX / max(image.size)
    width, height = (max(1, round(scale * side)) for side in image.size)
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BOX), np.float32)
    pixels = np.minimum(255, pixels * (255 / max(1.0, pixels.max())))
    mass = pixels.sum()
    top = SIDE / 2 - (pixels.sum(1) @ (np.arange(height) + 0.5)) / mass
    left = SIDE / 2 - (pixels.sum(0) @ (np.arange(width) + 0.5)) / mass
    row = int(np.clip(round(top), 0, SIDE - height))
    column = int(np.clip(round(left), 0, SIDE - width))
    whole = np.zeros((SIDE, SIDE), np.uint8)
    whole[row : row + height, column : column + width] = pixels.round()
    return whole
