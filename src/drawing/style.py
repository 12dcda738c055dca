"""Defines the look of all figures and saves them as reproducible PNG and SVG files.

Figures are plain matplotlib `Figure` objects. Pyplot is not imported because it keeps every figure
in global state.
"""

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from PIL import Image

from src.system.atomic import atomic_write

DPI = 150
"""Pixels per inch of a PNG and of the raster parts of an SVG. 9 inches fill a slide's width."""

POSITIVE_COLOR, NEGATIVE_COLOR = "#3f90da", "#e76300"
"""Colours of positive pairs (same class) and negative pairs (different classes)."""

INK, FAINT = "#222222", "#8a8a8a"
"""Colours of text and of background elements."""

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
    "image.composite_image": False,  # an SVG keeps each image's own pixels
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",  # looks the same with any installed fonts
    "svg.hashsalt": "tripletboard",  # makes the ids in the file reproducible
    "text.color": INK,
    "text.parse_math": False,  # a $ in a class name stays a $
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}

# Searched in this order for each character. Fonts that are not installed are skipped.
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
    """Apply the project's style inside the block; afterwards, restore the previous settings.

    Args:
        dpi: pixels per inch of figures created inside the block.
    """
    fonts = list(_installed_fonts())
    with matplotlib.rc_context(
        {**_STYLE, "font.sans-serif": fonts, "figure.dpi": dpi, "savefig.dpi": dpi}
    ):
        yield


def new_figure(width: float, height: float, *, arranges_itself: bool = True) -> Figure:
    """Return an empty figure, sizes in inches; by default it fits its axes to their labels."""
    figure = Figure(figsize=(width, height), layout="constrained" if arranges_itself else None)
    FigureCanvasAgg(figure)
    return figure


def display_names(class_names: Sequence[str], max_length: int = 24) -> list[str]:
    """Return the names in drawable form: one line, limited length, only available characters.

    A name becomes `#` and its label if it is blank or if the installed fonts lack a character.
    Otherwise the figure would show empty boxes. Names that would look the same end with it. The
    HTML page lists the original names.
    """
    lines = []
    for name in class_names:
        line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
        lines.append(line if len(line) <= max_length else line[: max_length - 1].rstrip() + "…")
    times = Counter(lines)
    names = []
    for label, line in enumerate(lines):
        if line and times[line] > 1:
            end = f"… #{label}"
            line = line[: max(0, max_length - len(end))].rstrip("… ") + end
        names.append(line if _can_be_drawn(line) else f"#{label}")
    return names


def display_file(name: str, max_length: int, otherwise: str) -> str:
    """Return a file name in drawable form: limited length, only available characters.

    Args:
        name: on one line. The middle of a long name is omitted, because names differ least there.
        max_length: in characters.
        otherwise: returned if the installed fonts lack a character of the name.
    """
    if len(name) > max_length:
        end = (max_length - 1) * 2 // 3
        name = f"{name[: max_length - 1 - end]}…{name[-end:]}"
    return name if _can_be_drawn(name) else otherwise


def _can_be_drawn(line: str) -> bool:
    """Return whether the line is not empty and the fonts have a glyph for each character."""
    return bool(line) and all(ord(character) in _glyphs() for character in line)


def figure_image(figure: Figure) -> Image.Image:
    """Return the figure as an RGB image."""
    canvas = FigureCanvasAgg(figure)
    with _no_warning_of_glyphs():
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels).convert("RGB")


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.png and `path`.svg without dates: equal figures give equal files.

    Returns:
        The two paths.
    """
    paths = []
    for ending, metadata in (
        ("png", {"Software": None}),
        ("svg", {"Date": None, "Creator": None}),
    ):
        content = io.BytesIO()
        with _no_warning_of_glyphs():
            figure.savefig(content, format=ending, metadata=metadata)
        paths.append(path.with_name(f"{path.name}.{ending}"))
        with atomic_write(paths[-1]) as file:
            file.write(content.getvalue())
    return paths


@cache
def _installed_fonts() -> tuple[str, ...]:
    """Return the installed fonts of `_FONTS`. Matplotlib logs each missing font for each text."""
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
def _no_warning_of_glyphs() -> Iterator[None]:
    """Suppress matplotlib's warning of a missing glyph; it repeats for each character drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        yield
