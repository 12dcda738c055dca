"""Draws the embeddings before and after training, side by side."""

import numpy as np
from numpy.typing import NDArray

from src.drawing.scatter import draw_classes
from src.drawing.style import new_figure
from src.embeddings.layouts import pca
from src.embeddings.search import nearest_neighbors
from src.figures import CaptionedFigure, FigureData


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw PCA of the untrained and of the trained network; None if either cannot be shown.

    Each has its own plane and scale, because the dimensions of the two networks are unrelated.
    Untrained embeddings may also be many times shorter or longer. The axis ticks show the scales.
    Recall@1 compares the two.
    """
    if data.untrained is None:
        return None
    layouts = pca(data.untrained), pca(data.embeddings)
    if not np.isfinite(layouts).all():
        return None
    figure = new_figure(11, 5.6)
    recalls = []
    for axes, title, embeddings, layout, nearest in zip(
        figure.subplots(1, 2),
        ("before training", f"after {data.step} steps"),
        (data.untrained, data.embeddings),
        layouts,
        (nearest_neighbors(data.untrained), data.nearest),
        strict=True,
    ):
        draw_classes(
            axes,
            layout,
            data.split.labels,
            data.split.class_names,
            coloring=data.coloring,
            has_ticks=True,
        )
        recalls.append(_recall_at_1(data, nearest))
        axes.set_title(f"{title}: recall@1 {recalls[-1]}")
        first, second = _shares_of_variance(embeddings, layout)
        axes.set_xlabel(f"first principal component, {first:.0%} of the variance")
        axes.set_ylabel(f"second, {second:.0%}")
    return CaptionedFigure(
        figure,
        "Before and after training",
        f"{len(data.split)} images of the {data.split_name} split, embedded by the network with "
        "its initial weights (left) and by the trained network (right). Each panel shows the first "
        "two principal components of its own embeddings, at its own scale. "
        f"{data.coloring.said} Recall@1 in the titles "
        "is the share of images whose nearest neighbour has the same class. Neighbours are "
        f"searched in all dimensions among {data.among}.{data.unanswerable}",
        f"Two scatter plots. Recall@1 is {recalls[0]} before training and {recalls[1]} after it.",
    )


def _recall_at_1(data: FigureData, nearest: NDArray[np.intp]) -> str:
    """Return recall@1 over images with another image of their class; "-" if there are none."""
    labels = data.split.labels
    is_right = (labels[nearest] == labels)[data.is_answerable]
    return f"{is_right.mean():.4f}" if len(is_right) else "-"


def _shares_of_variance(
    embeddings: NDArray[np.float32], layout: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return each layout axis's share of the embeddings' variance, [2]."""
    variance = embeddings.var(axis=0, dtype=np.float64).sum()
    shares: NDArray[np.float64] = layout.var(axis=0, dtype=np.float64) / max(variance, 1e-300)
    return shares
