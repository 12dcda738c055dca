"""Draws a layout as a scatter plot: points coloured by class, class names, and thumbnails."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from src.data.images import Images
from src.drawing.colors import ClassColors, class_colors, darker
from src.drawing.names import place_names
from src.drawing.style import INK, display_names, figure_image, new_figure, style
from src.drawing.thumbnails import (
    Thumbnails,
    arranged,
    boxes,
    compose,
    one_of_each_class,
    tinted,
    without_overlap,
)

_MAX_NAMES = 100
"""With more classes, only names of the largest are tried, because that takes time."""

MAX_SURELY_NAMED = 20
"""Up to this many classes are always named, even over thumbnails. More may have no room."""

# In an animation, thumbnails stay at their points and have one size, in inches. At most this many.
_STILL_SIDE, _MAX_STILL = 0.24, 200

HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]


def square_limits(layouts: Iterable[NDArray[np.float32]]) -> tuple[float, float, float, float]:
    """Return the square that contains every point of all layouts, with a margin.

    Args:
        layouts: float32 [N, 2] each, in one coordinate frame.

    Returns:
        Left, right, bottom and top of the square.
    """
    corners = [(layout.min(axis=0), layout.max(axis=0)) for layout in layouts]
    low = np.min([corner[0] for corner in corners], axis=0)
    high = np.max([corner[1] for corner in corners], axis=0)
    center = (low + high) / 2
    half = float(max(high - low)) * 0.53 or 1.0  # 1 if all points are equal
    (left, bottom), (right, top) = center - half, center + half
    return float(left), float(right), float(bottom), float(top)


def draw_classes(
    axes: Axes,
    layout: NDArray[np.float32],
    labels: NDArray[np.int32],
    class_names: Sequence[str],
    *,
    coloring: ClassColors | None = None,
    images: Images | None = None,
    is_animated: bool = False,
    limits: tuple[float, float, float, float] | None = None,
    has_ticks: bool = False,
) -> None:
    """Draw a layout into axes with equal scales.

    Points are pixels even in an SVG, because ten thousand circles would make it slow. Thumbnails
    come first; then names are written beside their classes, where they cover no thumbnail. Up to
    20 classes are always named, further ones only where there is room.

    Args:
        axes: to draw into.
        layout: float32 [N, 2].
        labels: int32 [N].
        class_names: by label.
        coloring: the colours of the classes; None for `class_colors` without embeddings.
        images: uint8 [N, H, W, C], for thumbnails; None for no thumbnails.
        is_animated: whether this is one of several figures in a row: thumbnails keep their size and
            stay at their points, and of many classes only those with a colour are named.
        limits: left, right, bottom, top; None for a square that contains all points.
        has_ticks: whether the axes have numbers that show the scale.
    """
    _draw_frame(axes, limits or square_limits([layout]), has_ticks=has_ticks)
    coloring = coloring or class_colors(labels, len(class_names))
    _draw_points(axes, layout, coloring.colors[labels], alpha=0.75 if images is None else 0.5)
    points, taken = _pixels(axes, layout)
    may_be_named = coloring.is_own if is_animated else np.ones(len(class_names), bool)
    if images is None:
        _draw_names(axes, points, labels, class_names, coloring, taken, 0.0, may_be_named)
        return
    thumbnails = _thumbnails(axes, points, labels, taken.shape, is_animated=is_animated)
    for x, y, x_end, y_end in boxes(thumbnails.centers, thumbnails.side):
        taken[y:y_end, x:x_end] = True
    # Names stand beside the thumbnails of their class, or its points if it has none.
    rest = np.flatnonzero(~np.isin(labels, labels[thumbnails.chosen]))
    named = labels[np.concatenate([thumbnails.chosen, rest])]
    places = np.concatenate([thumbnails.centers, points[rest]])
    half = thumbnails.side / 2
    names = _draw_names(axes, places, named, class_names, coloring, taken, half, may_be_named)
    _draw_thumbnails(axes, images, coloring.colors[labels], thumbnails, taken.shape, names)


def _draw_frame(axes: Axes, limits: tuple[float, float, float, float], *, has_ticks: bool) -> None:
    left, right, bottom, top = limits
    axes.set(xlim=(left, right), ylim=(bottom, top))
    if not has_ticks:
        axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="box")
    for spine in axes.spines.values():
        spine.set(visible=True, color="#dddddd")


def _draw_points(
    axes: Axes, layout: NDArray[np.float32], colors: NDArray[np.float64], alpha: float
) -> None:
    """Draw a point for each image, and fix the position of the axes."""
    order = np.random.default_rng(0).permutation(len(layout))  # no class hides another
    axes.scatter(
        layout[order, 0],
        layout[order, 1],
        c=colors[order],
        s=float(np.clip(30_000 / max(1, len(layout)), 3, 30)),
        alpha=alpha,
        linewidths=0,
        rasterized=True,
    )
    _figure(axes).draw_without_rendering()


def _pixels(
    axes: Axes, layout: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return columns and rows of the points, float64 [N, 2], and a map of the axes' pixels."""
    frame = axes.get_window_extent()
    points: NDArray[np.float64] = axes.transData.transform(layout)
    points = (points - [frame.x0, frame.y1]) * [1, -1]
    return points, np.zeros((round(frame.height), round(frame.width)), bool)


def scatter_frame(
    layout: NDArray[np.float32],
    labels: NDArray[np.int32],
    class_names: Sequence[str],
    *,
    title: str,
    limits: tuple[float, float, float, float] | None = None,
    side: float = 5.0,
) -> Image.Image:
    """Return a layout as one frame of an animation.

    Args:
        layout: float32 [N, 2].
        labels: int32 [N].
        class_names: by label.
        title: drawn above the plot, on one line.
        limits: see `draw_classes`. Use `square_limits` of all frames to keep the axes fixed.
        side: inches.

    Returns:
        RGB; the size depends on `side` alone.
    """
    with style():
        figure = new_figure(side, side + 0.3)
        axes = figure.add_subplot()
        axes.set_title(title)
        draw_classes(axes, layout, labels, class_names, is_animated=True, limits=limits)
        return figure_image(figure)


def _draw_names(
    axes: Axes,
    points: NDArray[np.float64],
    labels: NDArray[np.int32],
    class_names: Sequence[str],
    coloring: ClassColors,
    taken: NDArray[np.bool_],
    radius: float,
    may_be_named: NDArray[np.bool_],
) -> NDArray[np.intp]:
    """Write the class names, and return the boxes that they cover in pixels, int [M, 4].

    Args:
        axes: to write into.
        points: float64 [N, 2], column and row of what stands for each image.
        labels: int32 [N].
        class_names: by label.
        coloring: the colours of the classes.
        taken: bool [height, width], pixels that names should not cover.
        radius: of what stands at each point, in pixels.
        may_be_named: bool [C], by label.
    """
    present, sizes = np.unique(labels, return_counts=True)
    largest = present[np.argsort(-sizes, kind="stable")]
    largest = largest[may_be_named[largest]][:_MAX_NAMES]
    texts = _texts(axes, largest, class_names, coloring, taken.shape[1] / _figure(axes).dpi)
    renderer = _figure(axes).canvas.get_renderer()  # type: ignore[attr-defined]
    extents = [text.get_window_extent(renderer) for text in texts]
    found = place_names(
        [(int(extent.width) + 5, int(extent.height) + 5) for extent in extents],
        [labels == label for label in largest],
        points,
        taken,
        radius=radius,
        must=len(largest) <= MAX_SURELY_NAMED,
    )
    frame = axes.get_window_extent()
    for text, box in zip(texts, found, strict=True):
        if box is None:
            text.remove()
            continue
        middle = (box[:2] + box[2:]) / 2
        place = axes.transData.inverted().transform(middle * [1, -1] + [frame.x0, frame.y1])
        text.set_position((float(place[0]), float(place[1])))
    return np.array([box for box in found if box is not None], np.intp).reshape(-1, 4)


def _texts(
    axes: Axes,
    labels: NDArray[np.int32],
    class_names: Sequence[str],
    coloring: ClassColors,
    inches: float,
) -> list[Text]:
    """Write the names of some classes, without a place yet; smaller in narrow axes and if many."""
    drawn = display_names(class_names)
    font_size = float(np.clip(16 - len(labels) / 5, 8, 14) * np.clip(inches / 7, 0.7, 1))
    has_own = bool(coloring.is_own[labels].all())
    corner = axes.transData.inverted().transform(axes.bbox.p0)
    return [
        axes.text(
            float(corner[0]),
            float(corner[1]),
            drawn[label],
            ha="center",
            va="center",
            fontsize=font_size,
            fontweight="bold",
            color=darker(coloring.colors[label]) if has_own else INK,
            path_effects=HALO,
            zorder=4,
        )
        for label in labels
    ]


def _figure(axes: Axes) -> Figure:
    """Return the figure that contains the axes."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def _thumbnails(
    axes: Axes,
    points: NDArray[np.float64],
    labels: NDArray[np.int32],
    shape: tuple[int, ...],
    *,
    is_animated: bool,
) -> Thumbnails:
    """Return which images are shown as thumbnails, and where on a map of this height and width."""
    height, width = shape
    dpi = _figure(axes).dpi
    if not is_animated:
        return arranged(points, labels, width, height, dpi)
    order = one_of_each_class(labels)
    side = round(_STILL_SIDE * dpi)
    centers = np.rint(points[order]).astype(np.intp)
    chosen = without_overlap(centers, side, np.zeros(shape, bool), _MAX_STILL)
    return Thumbnails(order[chosen], centers[chosen], side)


def _draw_thumbnails(
    axes: Axes,
    images: Images,
    colors: NDArray[np.float64],
    thumbnails: Thumbnails,
    shape: tuple[int, ...],
    name_boxes: NDArray[np.intp],
) -> None:
    """Draw the thumbnails that no name covers over the scatter, as one image."""
    left, top, right, bottom = boxes(thumbnails.centers, thumbnails.side).T[:, :, None]
    names = name_boxes.T
    meets = (left < names[2]) & (right > names[0]) & (top < names[3]) & (bottom > names[1])
    free = ~meets.any(axis=1)
    chosen, centers = thumbnails.chosen[free], thumbnails.centers[free]
    in_order = np.argsort(chosen)
    tiles = tinted(images[chosen[in_order]], colors[chosen[in_order]], thumbnails.side)
    height, width = shape
    axes.imshow(
        compose(tiles, centers[in_order], width, height),
        extent=(*axes.get_xlim(), *axes.get_ylim()),
        interpolation="none",  # the canvas has the PNG's resolution
        zorder=2,
        aspect="equal",
    )
