"""Draws the state of a running training: the PCA layout beside the loss curve so far."""

import math

from src.drawing.colors import class_colors
from src.drawing.scatter import draw_classes
from src.drawing.style import new_figure
from src.figures import CaptionedFigure, FigureData
from src.figures.curves import draw_curve


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw the layout `pca` and, on its right, the loss curve; None if there is no such layout.

    From one figure to the next, only the points move: the axes have fixed positions, and the limits
    of the plane are powers of 10^(1/20), so they rarely change.
    """
    if "pca" not in data.layouts:
        return None
    layout = data.layouts["pca"]
    farthest = float(abs(layout).max()) or 1.0
    limit = 10 ** (math.ceil(20 * math.log10(farthest)) / 20)
    figure = new_figure(10, 5.2, arranges_itself=False)
    # Groups by embeddings would change from one figure to the next.
    coloring = class_colors(data.split.labels, len(data.split.class_names))
    of_layout = figure.add_axes((0.01, 0.02, 0.475, 0.9))
    of_loss = figure.add_axes((0.555, 0.12, 0.43, 0.8))
    draw_classes(
        of_layout,
        layout,
        data.split.labels,
        data.split.class_names,
        coloring=coloring,
        images=data.split.pictures,
        is_animated=True,
        limits=(-limit, limit, -limit, limit),
    )
    of_layout.set_title(f"PCA of {len(data.split)} {data.split_name} images at step {data.step}")
    draw_curve(of_loss, data, "loss")
    of_loss.set_title("loss")
    return CaptionedFigure(
        figure,
        "Progress",
        f"Left: the embeddings of {len(data.split)} images of the {data.split_name} split, "
        "projected onto their first two principal components and aligned with the figure before. "
        f"{coloring.said} Right: the loss so far.",
        f"A scatter plot at step {data.step}, and the loss curve.",
    )
