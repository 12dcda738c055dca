"""Draws a layout as a scatter plot: points coloured by class, class names, and thumbnails."""

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from src.data.images import Images
from src.drawing.style import INK, class_colors, display_names, figure_image, new_figure, style
from src.drawing.thumbnails import compose, tinted, without_overlap
from src.embeddings.layouts import TITLES
from src.figures import CaptionedFigure, FigureData

# Side of a thumbnail in inches, and their maximum number, so that they do not hide the map.
_THUMBNAIL_SIDE = 0.27
_MAX_THUMBNAILS = 500

_MAX_NAMES = 100
"""With more classes, only the largest are named, because names would hide the map."""

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
    images: Images | None = None,
    limits: tuple[float, float, float, float] | None = None,
    has_ticks: bool = False,
) -> None:
    """Draw a layout into axes, which become a square frame.

    Points are pixels even in an SVG, because ten thousand circles would make it slow. Each class
    name stands at the class's point nearest to its median. If another name occupies that place, the
    name moves and a line leads to the point.

    Args:
        axes: to draw into.
        layout: float32 [N, 2].
        labels: int32 [N].
        class_names: by label.
        images: uint8 [N, H, W, C], for thumbnails; None for no thumbnails.
        limits: left, right, bottom, top; None for a square that contains all points.
        has_ticks: whether the axes have numbers that show the scale.
    """
    left, right, bottom, top = limits or square_limits([layout])
    axes.set(xlim=(left, right), ylim=(bottom, top))
    if not has_ticks:
        axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="box")
    for spine in axes.spines.values():
        spine.set(visible=True, color="#dddddd")
    colors = class_colors(len(class_names))
    order = np.random.default_rng(0).permutation(len(layout))  # no class hides another
    axes.scatter(
        layout[order, 0],
        layout[order, 1],
        c=colors[labels[order]],
        s=float(np.clip(30_000 / max(1, len(layout)), 3, 30)),
        alpha=0.35 if images is not None else 0.75,
        linewidths=0,
        rasterized=True,
    )
    _figure(axes).draw_without_rendering()  # fixes the position of the axes
    name_boxes = _draw_names(axes, layout, labels, class_names)
    if images is not None:
        _draw_thumbnails(axes, layout, images, colors[labels], order, name_boxes)


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
        draw_classes(axes, layout, labels, class_names, limits=limits)
        return figure_image(figure)


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
    figure = new_figure(9, 9.3)
    axes = figure.add_subplot()
    axes.set_title(f"{title}, {data.split_name} split")
    draw_classes(
        axes,
        data.layouts[name],
        data.split.labels,
        data.split.class_names,
        images=data.split.images,
    )
    num_classes = len(np.unique(data.split.labels))
    named = "Each class name stands"
    if num_classes > _MAX_NAMES:
        named = (
            f"Only the {_MAX_NAMES} largest of the {num_classes} classes are named. A name stands"
        )
    return CaptionedFigure(
        figure,
        title,
        f"{len(data.split)} images of the {data.split_name} split. Each point is an image, in the "
        "colour of its class. Thumbnails are drawn if there is room. "
        f"{named} at the point nearest to the middle of its class. {reading} A point among points "
        "of another colour is an image that the network may confuse with that class.",
        f"A scatter plot of {len(data.split)} points of {num_classes} classes, coloured by class.",
    )


def _draw_names(
    axes: Axes, layout: NDArray[np.float32], labels: NDArray[np.int32], class_names: Sequence[str]
) -> list[Bbox]:
    """Draw the class names, and return the boxes they cover, in pixels."""
    renderer = _figure(axes).canvas.get_renderer()  # type: ignore[attr-defined]
    drawn = display_names(class_names)
    present, sizes = np.unique(labels, return_counts=True)
    font_size = float(np.clip(16 - len(present) / 10, 7, 14))
    frame = axes.get_window_extent()
    taken: list[Bbox] = []
    largest = np.argsort(-sizes, kind="stable")[:_MAX_NAMES]
    for label in present[largest]:  # large classes first
        points = layout[labels == label]
        from_median = points - np.median(points, axis=0)
        anchor = points[np.argmin(np.einsum("nd,nd->n", from_median, from_median))]
        text = axes.text(
            float(anchor[0]),
            float(anchor[1]),
            drawn[label],
            ha="center",
            va="center",
            fontsize=font_size,
            fontweight="bold",
            path_effects=HALO,
            zorder=4,
            clip_on=True,
        )
        size = text.get_window_extent(renderer).padded(1.5)
        center = _free_place(axes.transData.transform(anchor), size, taken, frame)
        taken.append(
            Bbox.from_bounds(
                center[0] - size.width / 2, center[1] - size.height / 2, size.width, size.height
            )
        )
        _move(axes, text, anchor, center, size)
    return taken


def _free_place(
    wanted: NDArray[np.float64], size: Bbox, taken: Sequence[Bbox], frame: Bbox
) -> NDArray[np.float64]:
    """Return the centre nearest to `wanted` for a box in the frame that overlaps no other box."""
    half = np.array([size.width, size.height]) / 2
    corners = np.array([box.extents for box in taken]).reshape(-1, 4)
    radii = np.arange(0, 12, 0.5)[:, None] * size.height
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    steps = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=-1).reshape(-1, 2)
    centers = np.clip(wanted + steps, frame.p0 + half, frame.p1 - half)
    low, high = centers - half, centers + half  # [places, 2]
    meets = (low[:, None] < corners[:, 2:]) & (high[:, None] > corners[:, :2])  # [places, T, 2]
    overlaps = np.any(np.all(meets, axis=-1), axis=1)
    distances = np.linalg.norm(centers - wanted, axis=1) + np.where(overlaps, 1e9, 0)
    best: NDArray[np.float64] = centers[distances.argmin()]
    return best


def _move(
    axes: Axes, text: Text, anchor: NDArray[np.float32], center: NDArray[np.float64], size: Bbox
) -> None:
    """Move a name to its place; draw a line to its class if the name no longer covers it."""
    place = axes.transData.inverted().transform(center)
    text.set_position((float(place[0]), float(place[1])))
    moved = center - axes.transData.transform(anchor)
    if np.abs(moved)[0] > size.width / 2 or np.abs(moved)[1] > size.height / 2:
        axes.plot(*np.stack([anchor, place]).T, color=INK, linewidth=0.6, zorder=3)


def _figure(axes: Axes) -> Figure:
    """Return the figure that contains the axes."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def _draw_thumbnails(
    axes: Axes,
    layout: NDArray[np.float32],
    images: Images,
    colors: NDArray[np.float64],
    order: NDArray[np.intp],
    name_boxes: Sequence[Bbox],
) -> None:
    """Draw the thumbnails for which there is room over the scatter, as one image."""
    frame = axes.get_window_extent()
    width, height = round(frame.width), round(frame.height)

    def pixels(points: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return columns and rows on the canvas; rows count from the top."""
        rounded: NDArray[np.float64] = np.rint((points - [frame.x0, frame.y1]) * [1, -1])
        return rounded.astype(np.intp)

    taken = np.zeros((height, width), bool)
    for box in name_boxes:
        (left, bottom), (right, top) = pixels(box.get_points())
        taken[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    side = round(_THUMBNAIL_SIDE * _figure(axes).dpi)
    centers = pixels(axes.transData.transform(layout[order]))
    chosen = without_overlap(centers, side, taken, _MAX_THUMBNAILS)
    shown = order[chosen]
    canvas = compose(tinted(images[shown], colors[shown], side), centers[chosen], width, height)
    axes.imshow(
        canvas,
        extent=(*axes.get_xlim(), *axes.get_ylim()),
        interpolation="none",  # the canvas has the PNG's resolution
        zorder=2,
        aspect="equal",
    )
