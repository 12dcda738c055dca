"""The t-SNE layout as a map."""

from src.figures import FigureData, Picture
from src.scatter import layout_picture


def draw(data: FigureData) -> Picture | None:
    """Draw t-SNE coloured by class, with thumbnails; None where it is not laid out."""
    return layout_picture(
        data,
        "tsne",
        "What t-SNE draws together are neighbours among the embeddings. How far apart two groups "
        "stand, and how large they are, means little.",
    )
