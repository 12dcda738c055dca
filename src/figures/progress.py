"""A running training at a glance: where the classes lie by now, beside the loss so far."""

from src.drawing import new_figure
from src.figures import FigureData, Picture
from src.figures.curves import draw_curve
from src.scatter import draw_classes


def draw(data: FigureData) -> Picture | None:
    """Draw the layout `pca` on the left and the curve of the loss on the right."""
    figure = new_figure(10, 5.2)
    of_layout, of_loss = figure.subplots(1, 2)
    draw_classes(
        of_layout,
        data.layouts["pca"],
        data.split.labels,
        data.split.class_names,
        has_ticks=True,
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
