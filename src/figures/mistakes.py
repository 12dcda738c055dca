"""Draws the images with the worst nearest-neighbour errors, each with its neighbours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from src.drawing.strips import draw_image, prepare
from src.drawing.style import (
    FAINT,
    NEGATIVE_COLOR,
    POSITIVE_COLOR,
    display_file,
    display_names,
    new_figure,
)
from src.figures import CaptionedFigure, FigureData
from src.mining.distances import paired_distances

_NUM_MISTAKES = 10
_NUM_NEIGHBORS = 7

# In image sides: spacing of rows and of neighbours, left edge of the neighbours, top margin.
_ROW, _COLUMN, _NEIGHBORS_LEFT, _TOP = 1.5, 1.25, 2.1, 0.55


class Mistake(NamedTuple):
    """An image whose nearest neighbour is of another class.

    Attributes:
        image: its position among the images shown.
        neighbors: int [K], the positions of its nearest neighbours, nearest first.
        distances: float64 [K], Euclidean distances to the neighbours.
        excess: distance to the nearest image of its own class, minus the distance to its nearest
            neighbour.
    """

    image: int
    neighbors: NDArray[np.intp]
    distances: NDArray[np.float64]
    excess: float


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw a row for each of the worst mistakes; None if no image is mistaken."""
    mistaken = all_mistaken(data)
    if len(mistaken) == 0:
        return None
    found = most_mistaken(data, mistaken, _NUM_MISTAKES, _NUM_NEIGHBORS)
    labels = data.split.labels
    names = display_names(data.split.class_names, max_length=11)
    height = _ROW * len(found) + _TOP
    width = _NEIGHBORS_LEFT + _NUM_NEIGHBORS * _COLUMN
    figure = new_figure(10.5, 10.5 * height / width + 0.4)
    axes = figure.add_subplot()
    prepare(axes, width, height)
    axes.text(0.5, 0.3, "image", ha="center", fontweight="bold")
    axes.text(_NEIGHBORS_LEFT, 0.3, "nearest neighbours and distances", fontweight="bold")
    for row, mistake in enumerate(found):
        _draw_row(axes, data, mistake, names, row * _ROW + _TOP)
    figure.suptitle(f"The worst mistakes of the {data.split_name} split")
    num_asking = int(data.is_answerable.sum())
    named_by = "file" if data.split.paths is not None else "number in the split"
    return CaptionedFigure(
        figure,
        "The worst mistakes",
        f"{len(mistaken)} of {num_asking} images ({len(mistaken) / num_asking:.2%}) have a nearest "
        f"neighbour of another class, among {data.among}.{data.unanswerable} The {len(found)} "
        "worst are shown: those whose nearest image of the same class is the farthest beyond that "
        f"neighbour. Each row has an image with its {named_by}, then its nearest neighbours with "
        "their Euclidean distances. ✓ and blue: the same class. ✗ and orange: another class. Some "
        "have a wrong label, some are unreadable, and some the network has not learnt. The column "
        "prediction in the projector may differ, because it searches the split that the column "
        "compared_with names.",
        f"{len(found)} rows of images: a mistaken image and its {_NUM_NEIGHBORS} nearest "
        "neighbours. "
        + " ".join(
            f"{data.name_of(m.image)}, {names[labels[m.image]]}, is nearest to "
            f"{data.name_of(m.neighbors[0])}, {names[labels[m.neighbors[0]]]}."
            for m in found
        ),
    )


def _draw_row(
    axes: Axes, data: FigureData, mistake: Mistake, names: Sequence[str], top: float
) -> None:
    """Draw a mistaken image and its neighbours, each with its class below it."""
    labels = data.split.labels
    own = labels[mistake.image]
    draw_image(axes, data.split.pictures[mistake.image], 0, top)
    axes.text(0.5, top + 1.17, names[own], ha="center", va="center", fontweight="bold")
    number = f"no. {data.index(mistake.image)}"
    drawn = display_file(data.name_of(mistake.image), 30, number)
    axes.text(0.5, top + 1.36, drawn, ha="center", va="center", fontsize=6.5, color=FAINT)
    for column, (neighbor, distance) in enumerate(
        zip(mistake.neighbors, mistake.distances, strict=True)
    ):
        left = _NEIGHBORS_LEFT + _COLUMN * column
        is_right = labels[neighbor] == own
        color = POSITIVE_COLOR if is_right else NEGATIVE_COLOR
        draw_image(axes, data.split.pictures[neighbor], left, top, color=color, line_width=2.2)
        name = f"{'✓' if is_right else '✗'} {names[labels[neighbor]]}"
        axes.text(left + 0.5, top + 1.17, name, ha="center", va="center", color=color)
        place = (left + 0.5, top + 1.36)
        axes.text(*place, f"{distance:.3g}", ha="center", va="center", fontsize=7.5, color=FAINT)


def all_mistaken(data: FigureData) -> NDArray[np.intp]:
    """Return the images whose nearest neighbour is of another class, although theirs has others."""
    if len(data.split) < 2:
        return np.empty(0, np.intp)
    labels = data.split.labels
    return np.flatnonzero(data.is_answerable & (labels != labels[data.nearest]))


def most_mistaken(
    data: FigureData, mistaken: NDArray[np.intp], num_mistakes: int, num_neighbors: int
) -> list[Mistake]:
    """Return the mistaken images with the largest `excess` (see `Mistake`).

    Args:
        data: of the experiment.
        mistaken: int [M], from `all_mistaken`.
        num_mistakes: maximum number of images to return.
        num_neighbors: number of nearest neighbours for each image.

    Returns:
        The worst first; ties in the order of the split.
    """
    of_images, own, nearest = (
        data.embeddings[positions]
        for positions in (mistaken, data.nearest_positive[mistaken], data.nearest[mistaken])
    )
    excess = paired_distances(of_images, own, "euclidean")
    excess -= paired_distances(of_images, nearest, "euclidean")
    found = []
    for position in np.argsort(-excess, kind="stable")[:num_mistakes]:
        image = int(mistaken[position])
        others = np.delete(np.arange(len(data.split)), image)
        distances = paired_distances(data.embeddings[[image]], data.embeddings[others], "euclidean")
        # Of equally near images, the one that is taken for the nearest comes first.
        order = np.lexsort((distances, others != data.nearest[image]))[:num_neighbors]
        found.append(Mistake(image, others[order], distances[order], float(excess[position])))
    return found
