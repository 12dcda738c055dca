"""How the pictures look, and how they become files: PNG and SVG whose bytes repeat.

Figures are matplotlib's `Figure` alone; pyplot, which keeps every figure in global state, is not
imported.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colors, font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image

from src.system.atomic import atomic_write

DPI = 150
"""Pixels an inch, of a PNG and of what is pixels in an SVG: a slide's width at 9 inches."""

# Told apart with normal vision and with each common colour blindness, and apart in lightness:
# M. A. Petroff, arXiv:2107.02270, the ten-colour sequence.
_TEN_COLORS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)

POSITIVE_COLOR, NEGATIVE_COLOR = "#3f90da", "#e76300"
"""Of pairs of the same class, and of two classes."""

INK, FAINT = "#222222", "#8a8a8a"
"""Of text, and of what stays in the background."""

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "figure.titlesize": 13,
    "font.family": "sans-serif",
    "font.size": 10,
    "image.composite_image": False,  # an SVG has each image with its own pixels
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # the same letters whatever fonts the reader has
    "svg.hashsalt": "tripletboard",  # ids in the file come from this, not from chance
    "text.color": INK,
    "text.parse_math": False,  # a $ in a class name is a $
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}

# Asked in this order for a letter; those of other scripts are used where they are installed.
_FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "WenQuanYi Zen Hei",
    "Unifont",
)


@contextmanager
def style(dpi: int = DPI) -> Iterator[None]:
    """Draw and save in the project's look; the settings before come back at the end.

    Args:
        dpi: pixels an inch of the figures that are made meanwhile.
    """
    fonts = list(_installed_fonts())
    with matplotlib.rc_context(
        {**_STYLE, "font.sans-serif": fonts, "figure.dpi": dpi, "savefig.dpi": dpi}
    ):
        yield


def new_figure(width: float, height: float, *, arranges_itself: bool = True) -> Figure:
    """Return an empty figure of so many inches, which fits its axes to what is written at them."""
    figure = Figure(figsize=(width, height), layout="constrained" if arranges_itself else None)
    FigureCanvasAgg(figure)
    return figure


def class_colors(num_classes: int) -> NDArray[np.float64]:
    """Return a colour for each class, float64 [C, 3] in 0 to 1.

    The first ten can be told apart by anyone. After them the same ten come lighter, then darker,
    and so on: no thirty can be told apart, so pictures of many classes also have to name them.
    """
    ten = np.array([colors.to_rgb(color) for color in _TEN_COLORS])
    shades = np.stack([ten, ten + 0.45 * (1 - ten), 0.55 * ten]).reshape(-1, 3)
    return np.resize(shades, (num_classes, 3))


def display_names(class_names: Sequence[str], max_length: int = 24) -> list[str]:
    """Return the names as they can be drawn: on one line, not too long, of letters that exist.

    A name that no installed font can write, or with nothing to see, becomes `#` and its label, as
    empty boxes would tell nothing. The page of the pictures has all names as they are.
    """
    names = []
    for label, name in enumerate(class_names):
        line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
        if len(line) > max_length:
            line = line[: max_length - 1].rstrip() + "…"
        names.append(line if _can_be_drawn(line) else f"#{label}")
    return names


def display_file(name: str, max_length: int, otherwise: str) -> str:
    """Return the name of a file as it can be drawn: not too long, of letters that exist.

    Args:
        name: on one line. Of a long one the middle, where names differ the least, is left out.
        max_length: in characters.
        otherwise: what is drawn if no installed font can write the name.
    """
    if len(name) > max_length:
        end = (max_length - 1) * 2 // 3
        name = f"{name[: max_length - 1 - end]}…{name[-end:]}"
    return name if _can_be_drawn(name) else otherwise


def _can_be_drawn(line: str) -> bool:
    """Return whether there is something to see, and a glyph for each character."""
    return bool(line) and all(ord(character) in _glyphs() for character in line)


def figure_image(figure: Figure) -> Image.Image:
    """Return the figure as an RGB image."""
    canvas = FigureCanvasAgg(figure)
    with _no_word_of_glyphs():
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels).convert("RGB")


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg, without dates, so that equal figures give equal files.

    Returns:
        The two paths.
    """
    paths = []
    for ending, metadata in (
        ("png", {"Software": None}),
        ("svg", {"Date": None, "Creator": None}),
    ):
        content = io.BytesIO()
        with _no_word_of_glyphs():
            figure.savefig(content, format=ending, metadata=metadata)
        paths.append(path.with_name(f"{path.name}.{ending}"))
        with atomic_write(paths[-1]) as file:
            file.write(content.getvalue())
    return paths


@cache
def _installed_fonts() -> tuple[str, ...]:
    """Return those of `_FONTS` that are there: each missing one would be logged at each text."""
    installed = set(font_manager.fontManager.get_font_names())
    return tuple(font for font in _FONTS if font in installed)


@cache
def _glyphs() -> frozenset[int]:
    """Return the code points that the installed fonts can draw."""
    found: set[int] = set()
    for font in _installed_fonts():
        found.update(FT2Font(font_manager.findfont(font)).get_charmap())
    return frozenset(found)


@contextmanager
def _no_word_of_glyphs() -> Iterator[None]:
    """Silence the warning of a missing glyph, a line for each letter each time it is drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield
