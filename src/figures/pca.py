"""Draws the PCA layout (first two principal components) as a scatter plot."""

from src.drawing.scatter import layout_picture
from src.figures import FigureData, Picture


def draw(data: FigureData) -> Picture | None:
    """Draw PCA coloured by class, with thumbnails; None if the layout is missing."""
    if "pca" not in data.layouts:
        return None
    variance = data.embeddings.var(axis=0, dtype="float64").sum()
    share = data.layouts["pca"].var(axis=0, dtype="float64").sum() / max(variance, 1e-300)
    return layout_picture(
        data,
        "pca",
        f"The plane in which the embeddings spread the most, with {share:.0%} of their variance: a "
        "straight look at them. Classes that lie over each other here may be apart in the other "
        "dimensions.",
    )
