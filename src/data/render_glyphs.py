"""Draws glyphs from this machine's fonts, as handwritten digits look: `make data-glyphs`.

Classes for `extra_data`: the more kinds of characters a network has told apart, the better it
embeds characters that it has never seen. No digit is drawn, nor what looks like one.
"""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.written_glyphs import (
    GLYPHS_FILE,
    Font,
    open_fonts,
    plain,
    shapes,
    with_character,
    writings,
)
from src.errors import UserError
from src.printable import printable
from src.system.atomic import atomic_write
from src.system.cli import add_data_dir, program_parser, run, whole_number
from src.system.progress import phase

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

_WRITINGS_OF_A_DIGIT, _WRITINGS_COMPARED = 60, 8
_LOOKS_LIKE_A_DIGIT = 0.84  # correlation of two blurred images
_LOOKS_ALIKE = 0.92

# What people write like a digit, whatever the fonts do: 0, 1, 2, 3, 4, 5, 6, 7, 8 and 9.
WRITTEN_LIKE_DIGITS = frozenset(
    "OoQDCcUuОоΟοՕօIil|JjtZzEeЗзЭэЄєƷʒვYyЧчҮүՎվԿկЏSsςϛʃƩՏᛊᛋGbбСсσЬЪъьTГгΓτB&ВвѲθՖgqPpρаaþÞϼφ"
)


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
        glyphs = draw(args.fonts, args.images_per_class, SYSTEMS)
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


def draw(fonts: Path, images_per_class: int, systems: Sequence[str]) -> Glyphs:
    """Draw every character of some writing systems that no other one looks like.

    The same fonts give the same images.

    Args:
        fonts: a folder of fonts (.ttf, .otf), at any depth.
        images_per_class: K, the images of each character: its fonts in turn, each time with
            another slant, thickness, width, turn and distortion.
        systems: how the names of the characters begin in Unicode.

    Raises:
        UserError: the fonts have fewer than two of these characters, or lack a digit.
    """
    found = open_fonts(fonts)
    digits = [writings(having, d, _WRITINGS_OF_A_DIGIT) for d, having in _digits(found, fonts)]
    of_digits = shapes([image for of_digit in digits for image in of_digit])
    kept: dict[str, list[Font]] = {}
    of_kept = shapes([])
    like_digits, like_others = [], []
    for character in _characters(systems):
        if not (having := with_character(found, character)):
            continue
        own = shapes([plain(having, character)])
        written = shapes(writings(having, character, _WRITINGS_COMPARED))
        likeness = np.median((written @ of_digits.T).max(axis=1, initial=-1))
        if character in WRITTEN_LIKE_DIGITS or likeness > _LOOKS_LIKE_A_DIGIT:
            like_digits.append(character)
        elif (own @ of_kept.T).max(initial=-1) > _LOOKS_ALIKE:
            like_others.append(character)
        else:
            kept[character] = having
            of_kept = np.concatenate([of_kept, own])
    if len(kept) < 2:
        raise UserError(
            f"{printable(str(fonts))}: found fonts for {len(kept)} of the characters to draw; "
            f"accepted: fonts for at least 2, such as those of Debian's packages {PACKAGES}"
        )
    images = [
        image
        for character, having in kept.items()
        for image in writings(having, character, images_per_class)
    ]
    return Glyphs(
        np.stack(images),
        np.repeat(np.arange(len(kept), dtype=np.int32), images_per_class),
        tuple(unicodedata.name(character) for character in kept),
        tuple(like_digits),
        tuple(like_others),
    )


def _digits(found: Sequence[Font], folder: Path) -> list[tuple[str, list[Font]]]:
    """Return the digits, each with fonts; raise UserError if there are none of one.

    What looks like a digit could not be left out then.
    """
    digits = [(digit, with_character(found, digit)) for digit in "0123456789"]
    if missing := "".join(digit for digit, having in digits if not having):
        raise UserError(
            f"{printable(str(folder))}: found no font with {missing}; accepted: fonts with all "
            f"digits, such as those of Debian's packages {PACKAGES}"
        )
    return digits


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


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        "Draw characters of many writing systems, without digits, for extra_data.",
        "  python -m src.data.render_glyphs --fonts ~/.fonts",
        prog="python -m src.data.render_glyphs",
    )
    add_data_dir(parser)
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
