"""Draws rows of images with text, all in one matplotlib axes (the sheet)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray


def prepare(axes: Axes, width: float, height: float) -> None:
    """Make axes a sheet of `width` by `height` images; (0, 0) is the upper left corner."""
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)


def draw_image(
    axes: Axes,
    image: NDArray[np.uint8],
    left: float,
    top: float,
    *,
    side: float = 1.0,
    color: str = "#bbbbbb",
    line_width: float = 0.8,
) -> None:
    """Draw an image with a frame into a square of the sheet.

    Args:
        axes: a sheet.
        image: uint8 [H, W, C]. Its longer side fills the square's side.
        left: left edge of the square.
        top: top edge of the square.
        side: side of the square.
        color: of the frame.
        line_width: of the frame, in points.
    """
    height, width = image.shape[:2]
    half_width, half_height = (side / 2 * length / max(height, width) for length in (width, height))
    x, y = left + side / 2, top + side / 2
    axes.imshow(
        image[:, :, 0] if image.shape[2] == 1 else image,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(x - half_width, x + half_width, y + half_height, y - half_height),
        interpolation="none" if max(height, width) < 100 else "antialiased",
        aspect="equal",
    )
    corner = (x - half_width, y - half_height)
    axes.add_patch(
        Rectangle(
            corner, 2 * half_width, 2 * half_height, fill=False, color=color, linewidth=line_width
        )
    )
