"""Draws glyphs from this machine's fonts, as handwritten digits look: `make data-glyphs`.

Classes for `extra_data`: the more kinds of characters a network has told apart, the better it
embeds characters that it has never seen. No digit is drawn, nor what looks like one.
"""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from src.datasets.glyphs import GLYPHS_FILE
from src.errors import UserError
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.cli import run, whole_number
from src.system.progress import phase

SIDE, BOX = 28, 20
"""Pixels of an image's side, and of the box that a glyph fits into, as MNIST has them."""

IMAGES_PER_CLASS = 32

FONT_FOLDER = Path("/usr/share/fonts")
PACKAGES = "fonts-noto-core fonts-dejavu-core fonts-freefont-ttf fonts-liberation"

# Writing systems, by the first words of their characters' names in Unicode, in this order: of two
# characters that look alike, only the first is drawn.
SYSTEMS = (
    *("LATIN CAPITAL LETTER", "LATIN SMALL LETTER", "GREEK CAPITAL LETTER", "GREEK SMALL LETTER"),
    *("CYRILLIC CAPITAL LETTER", "CYRILLIC SMALL LETTER", "HEBREW LETTER"),
    *("ARMENIAN CAPITAL LETTER", "ARMENIAN SMALL LETTER", "GEORGIAN LETTER"),
    *("CHEROKEE LETTER", "TIFINAGH LETTER", "RUNIC LETTER", "GLAGOLITIC CAPITAL LETTER"),
    *("COPTIC CAPITAL LETTER", "GOTHIC LETTER", "CANADIAN SYLLABICS", "ETHIOPIC SYLLABLE"),
    *("VAI SYLLABLE", "LISU LETTER", "NKO LETTER", "THAI CHARACTER", "LAO LETTER"),
    *("DEVANAGARI LETTER", "BENGALI LETTER", "GURMUKHI LETTER", "GUJARATI LETTER"),
    *("TAMIL LETTER", "TELUGU LETTER", "KANNADA LETTER", "MALAYALAM LETTER", "SINHALA LETTER"),
    *("DESERET CAPITAL LETTER", "OLD ITALIC LETTER", "LYCIAN LETTER", "CARIAN LETTER"),
    *("PHOENICIAN LETTER", "OSMANYA LETTER", "SHAVIAN LETTER", "OL CHIKI LETTER"),
)
MOST_OF_A_SYSTEM = 60

_SIZE = 96  # pixels of the letters as fonts draw them, before they are made small
_CANVAS = 3 * _SIZE
_MOST_FONTS = 12
_WRITINGS_OF_A_DIGIT = 60
_LOOKS_LIKE_A_DIGIT = 0.855  # correlation of two blurred images
_LOOKS_ALIKE = 0.92

# What people write like a digit, whatever the fonts do: 0, 1, 2, 3, 4, 5, 6, 7, 8 and 9.
WRITTEN_LIKE_DIGITS = frozenset("OoQDCcUuIil|JjtZzEeЗзЭэЄє3YyЧчUSsGbбСсσTГгΓτB&ВвgqPpρаaОоΟοᛊᛋ")


@dataclass(frozen=True)
class Glyphs:
    """Drawn characters, and those that were left out.

    Attributes:
        images: uint8 [N, 28, 28], white on black.
        labels: int32 [N], positions in `names`.
        names: the characters' names in Unicode.
        like_digits: characters that were not drawn because they look like a digit.
        like_others: characters that were not drawn because they look like one that is.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    names: tuple[str, ...]
    like_digits: tuple[str, ...]
    like_others: tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv`, by default sys.argv[1:]."""
    args = _parser().parse_args(argv)
    path = args.data_dir / GLYPHS_FILE
    with phase("drawing glyphs"):
        glyphs = draw(args.fonts, args.images_per_class)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            names = np.array(glyphs.names)
            np.savez_compressed(file, x=glyphs.images, y=glyphs.labels, class_names=names)
    except OSError as error:
        raise UserError(
            f"{printable(str(path))}: {error.strerror}; accepted: a folder to write to"
        ) from None
    print(f"{path}: {len(glyphs.images)} images of {len(glyphs.names)} classes")
    for what, left_out in (
        ("a digit", glyphs.like_digits),
        ("one that is drawn", glyphs.like_others),
    ):
        print(f"not drawn, because they look like {what} ({len(left_out)}): {''.join(left_out)}")


def draw(fonts: Path, images_per_class: int, systems: Sequence[str] = SYSTEMS) -> Glyphs:
    """Draw every character of some writing systems that no other one looks like.

    The same fonts give the same images.

    Args:
        fonts: a folder of fonts (.ttf, .otf), at any depth.
        images_per_class: K, the images of each character: its fonts in turn, each time with
            another slant, thickness, width, turn and distortion.
        systems: how the names of the characters begin in Unicode.

    Raises:
        UserError: the fonts have fewer than two of these characters.
    """
    found = _open_fonts(fonts)
    digits = [_writings(found, digit, _WRITINGS_OF_A_DIGIT) for digit in "0123456789"]
    known = np.concatenate(digits)
    kept: list[str] = []
    like_digits, like_others = [], []
    seen: NDArray[np.float32] = np.zeros((0, SIDE * SIDE), np.float32)
    fonts_of: dict[str, list[str]] = {}
    for character in _characters(systems):
        named = _with_character(found, character)
        shapes = _shapes({name: found[name] for name in named}, character)
        if not len(shapes):
            continue
        likeness = (_writings(found, character, 8) @ known.T).max(axis=1, initial=-1)  # [8]
        if character in WRITTEN_LIKE_DIGITS or np.median(likeness) > _LOOKS_LIKE_A_DIGIT:
            like_digits.append(character)
        elif _alike(shapes, seen) > _LOOKS_ALIKE:
            like_others.append(character)
        else:
            kept.append(character)
            fonts_of[character] = named
            seen = np.concatenate([seen, shapes])
    if len(kept) < 2:
        raise UserError(
            f"{printable(str(fonts))}: found fonts for {len(kept)} of the characters to draw; "
            f"accepted: fonts for at least 2, such as those of Debian's packages {PACKAGES}"
        )
    images = [
        _written(
            found[fonts_of[character][number % len(fonts_of[character])]].font, character, number
        )
        for character in kept
        for number in range(images_per_class)
    ]
    return Glyphs(
        np.stack(images),
        np.repeat(np.arange(len(kept), dtype=np.int32), images_per_class),
        tuple(unicodedata.name(character) for character in kept),
        tuple(like_digits),
        tuple(like_others),
    )


def _characters(systems: Sequence[str]) -> Iterator[str]:
    """Yield the letters of each writing system, without accents, digits and combining signs."""
    by_system: dict[str, list[str]] = {system: [] for system in systems}
    for code in range(0x20000):
        character = chr(code)
        name = unicodedata.name(character, "")
        system = next((system for system in systems if name.startswith(f"{system} ")), None)
        is_letter = unicodedata.category(character)[0] == "L"
        is_plain = " WITH " not in name and not unicodedata.decomposition(character)
        if system and is_letter and is_plain and len(by_system[system]) < MOST_OF_A_SYSTEM:
            by_system[system].append(character)
    for characters in by_system.values():
        yield from characters


def _open_fonts(folder: Path) -> Mapping[str, "_Font"]:
    """Return the fonts of a folder by file name, upright ones of usual weight first."""
    paths = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf")),
        key=lambda path: ("Regular" not in path.name, path.name),
    )
    fonts = {}
    for path in paths:
        try:
            fonts[path.name] = _Font(path)
        except OSError:  # not a font, or a damaged one
            continue
    return fonts


def _with_character(fonts: Mapping[str, "_Font"], character: str) -> list[str]:
    """Return the names of the first fonts that have a character, at most 12."""
    named = (name for name, font in fonts.items() if font.has(character))
    return list(islice(named, _MOST_FONTS))


def _shapes(fonts: Mapping[str, "_Font"], characters: str) -> NDArray[np.float32]:
    """Return the blurred mean of each character's drawings, float32 [<= len(characters), 784].

    Of length 1 and with mean 0: products are correlations. Characters that no font has are missing.
    """
    shapes = []
    for character in characters:
        drawn = [
            _in_box(_large(fonts[name].font, character, 0))
            for name in _with_character(fonts, character)
        ]
        if drawn:
            shapes.append(np.mean(drawn, axis=0).round().astype(np.uint8))
    return _blurred(shapes)


def _writings(fonts: Mapping[str, "_Font"], character: str, count: int) -> NDArray[np.float32]:
    """Return blurred writings of a character, float32 [count, 784], as `_shapes` returns means."""
    named = _with_character(fonts, character)
    if not named:
        return np.zeros((0, SIDE * SIDE), np.float32)
    fonts_in_turn = islice(cycle(named), count)
    return _blurred(
        [_written(fonts[name].font, character, number) for number, name in enumerate(fonts_in_turn)]
    )


def _blurred(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return images, each uint8 [28, 28], blurred, with mean 0 and length 1: float32 [N, 784]."""
    shapes = []
    for image in images:
        blurred = Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.2))
        shape = np.asarray(blurred, np.float32).ravel()
        shape = shape - shape.mean()
        shapes.append(shape / np.linalg.norm(shape))
    return np.stack(shapes) if shapes else np.zeros((0, SIDE * SIDE), np.float32)


def _alike(shapes: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """Return the largest correlation of two shapes."""
    return float((shapes @ others.T).max(initial=-1))


class _Font:
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
    image = _large(font, character, int(rng.integers(0, 4)))
    if rng.random() < 0.3:  # thinner
        image = image.filter(ImageFilter.MinFilter(5))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m src.data.render_glyphs",
        description="Draw characters of many writing systems, without digits, for extra_data.",
    )
    parser.add_argument(
        "--data_dir", type=Path, default=Path("data"), help="the folder of datasets (default: data)"
    )
    parser.add_argument(
        "--fonts",
        type=Path,
        default=FONT_FOLDER,
        help=f"a folder of fonts (default: {FONT_FOLDER})",
    )
    parser.add_argument(
        "--images_per_class",
        type=whole_number(2, 1000),
        default=IMAGES_PER_CLASS,
        metavar="N",
        help=f"images of each character (default: {IMAGES_PER_CLASS})",
    )
    return parser


if __name__ == "__main__":
    run(main)
