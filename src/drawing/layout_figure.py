"""Draws a layout of a split as a figure with a caption, cropped to its points."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from src.drawing.scatter import MAX_SURELY_NAMED, draw_classes, square_limits
from src.drawing.style import new_figure
from src.embeddings.layouts import TITLES
from src.figures import CaptionedFigure, FigureData

# The width of a map in inches, and its smallest and largest height as shares of it.
_WIDTH, _LOWEST, _HIGHEST = 9.0, 0.5, 1.05

# Space around the points as a share of the longer side.
_BORDER = 0.03


def layout_figure(data: FigureData, name: str, reading: str) -> CaptionedFigure | None:
    """Return the scatter plot of a layout with thumbnails.

    Args:
        data: of the experiment.
        name: of the layout.
        reading: the part of the caption that says how to interpret such a layout.

    Returns:
        The figure; None if there is no such layout.
    """
    if name not in data.layouts:
        return None
    title = f"{TITLES[name]} of the embeddings"
    layout, labels = data.layouts[name], data.split.labels
    limits, height = cropped(layout)
    figure = new_figure(_WIDTH + 0.1, height + 0.38, arranges_itself=False)
    axes = figure.add_axes(
        (0.05 / (_WIDTH + 0.1), 0.05 / (height + 0.38), *_shares(figure, _WIDTH, height))
    )
    axes.set_title(f"{title}, {data.split_name} split")
    draw_classes(
        axes,
        layout,
        labels,
        data.split.class_names,
        coloring=data.coloring,
        images=data.split.pictures,
        limits=limits,
    )
    num_classes = len(np.unique(labels))
    stray = "A point among points of another colour"
    if not data.coloring.is_own[labels].all():
        stray = "An image among images of another class"
    named = "" if num_classes <= MAX_SURELY_NAMED else " A class is named where there is room."
    return CaptionedFigure(
        figure,
        title,
        f"{len(data.split)} images of the {data.split_name} split. Each point is an image. "
        f"{data.coloring.said} Thumbnails stand at their points, or at the nearest free place."
        f"{named} {reading} {stray} is one that the network may confuse with that class.",
        f"A scatter plot of {len(data.split)} points of {num_classes} classes.",
    )


def cropped(layout: NDArray[np.float32]) -> tuple[tuple[float, float, float, float], float]:
    """Return the rectangle around all points, and the height of its figure.

    Args:
        layout: float32 [N, 2].

    Returns:
        Left, right, bottom and top; and the height in inches of a figure of the usual width.
    """
    low, high = layout.min(axis=0).astype(np.float64), layout.max(axis=0).astype(np.float64)
    sides = high - low
    if sides.max() == 0:
        return square_limits([layout]), _WIDTH * _LOWEST
    sides = sides + 2 * _BORDER * sides.max()
    share = float(np.clip(sides[1] / sides[0], _LOWEST, _HIGHEST))
    width = max(sides[0], sides[1] / share)
    half = np.array([width, width * share]) / 2
    (left, bottom), (right, top) = (low + high) / 2 - half, (low + high) / 2 + half
    return (float(left), float(right), float(bottom), float(top)), _WIDTH * share


def _shares(figure: Figure, width: float, height: float) -> tuple[float, float]:
    """Return a width and a height in inches as shares of the figure's."""
    whole = figure.get_size_inches()
    return width / float(whole[0]), height / float(whole[1])
