"""Draws the UMAP layout as a scatter plot."""

from src.drawing.layout_figure import layout_figure
from src.figures import CaptionedFigure, FigureData


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw UMAP coloured by class, with thumbnails; None if the layout is missing."""
    return layout_figure(
        data,
        "umap",
        "UMAP places images with similar embeddings next to each other. The distance between two "
        "groups means a little more than with t-SNE.",
    )
