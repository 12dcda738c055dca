"""Draws the t-SNE layout as a scatter plot."""

from src.drawing.scatter import layout_picture
from src.figures import FigureData, Picture


def draw(data: FigureData) -> Picture | None:
    """Draw t-SNE coloured by class, with thumbnails; None if the layout is missing."""
    return layout_picture(
        data,
        "tsne",
        "What t-SNE draws together are neighbours among the embeddings. How far apart two groups "
        "stand, and how large they are, means little.",
    )
