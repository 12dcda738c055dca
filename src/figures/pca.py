"""Draws the PCA layout (first two principal components) as a scatter plot."""

from src.drawing.layout_figure import layout_figure
from src.figures import CaptionedFigure, FigureData


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw PCA coloured by class, with thumbnails; None if the layout is missing."""
    if "pca" not in data.layouts:
        return None
    variance = data.embeddings.var(axis=0, dtype="float64").sum()
    share = data.layouts["pca"].var(axis=0, dtype="float64").sum() / max(variance, 1e-300)
    return layout_figure(
        data,
        "pca",
        f"PCA projects the embeddings onto the plane of their largest variance: {share:.0%} of the "
        "total. Classes that overlap here may be separate in the other dimensions.",
    )
