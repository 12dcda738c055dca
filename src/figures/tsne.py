"""Draws the t-SNE layout as a scatter plot."""

from src.drawing.layout_figure import layout_figure
from src.figures import CaptionedFigure, FigureData


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw t-SNE coloured by class, with thumbnails; None if the layout is missing."""
    return layout_figure(
        data,
        "tsne",
        "t-SNE places images with similar embeddings next to each other. The size of a group and "
        "the distance between two groups mean little.",
    )
