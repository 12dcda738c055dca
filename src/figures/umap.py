"""Draws the UMAP layout as a scatter plot."""

from src.drawing.scatter import layout_picture
from src.figures import FigureData, Picture


def draw(data: FigureData) -> Picture | None:
    """Draw UMAP coloured by class, with thumbnails; None if the layout is missing."""
    return layout_picture(
        data,
        "umap",
        "What UMAP draws together are neighbours among the embeddings. Distances between groups "
        "mean more than t-SNE's, but not much.",
    )
