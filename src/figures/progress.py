"""Draws the state of a running training: the PCA layout beside the loss curve so far."""

import math

from src.drawing.scatter import draw_classes
from src.drawing.style import new_figure
from src.figures import FigureData, Picture
from src.figures.curves import draw_curve


def draw(data: FigureData) -> Picture | None:
    """Draw the layout `pca` and, on its right, the loss curve; None if there is no such layout.

    From one picture to the next only the points move. The axes have fixed positions. The limits of
    the plane are powers of 10^(1/10), so they rarely change.
    """
    if "pca" not in data.layouts:
        return None
    layout = data.layouts["pca"]
    farthest = float(abs(layout).max()) or 1.0
    limit = 10 ** (math.ceil(10 * math.log10(farthest)) / 10)
    figure = new_figure(10, 5.2, arranges_itself=False)
    of_layout = figure.add_axes((0.01, 0.02, 0.475, 0.9))
    of_loss = figure.add_axes((0.555, 0.12, 0.43, 0.8))
    draw_classes(
        of_layout,
        layout,
        data.split.labels,
        data.split.class_names,
        limits=(-limit, limit, -limit, limit),
    )
    of_layout.set_title(f"PCA of {len(data.split)} {data.split_name} images at step {data.step}")
    draw_curve(of_loss, data, "loss")
    of_loss.set_title("loss")
    return Picture(
        figure,
        "Progress",
        f"The embeddings of {len(data.split)} images of the {data.split_name} split in the plane "
        "of their first two principal components, turned so that it does not jump from one picture "
        "to the next, and the loss up to here.",
        f"A scatter plot coloured by class, at step {data.step}, and the curve of the loss.",
    )
