"""Draws the hardest and the easiest triplets as strips of images with their distances."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from src.drawing.strips import draw_image, prepare
from src.drawing.style import (
    FAINT,
    INK,
    NEGATIVE_COLOR,
    POSITIVE_COLOR,
    display_file,
    display_names,
    new_figure,
)
from src.figures import CaptionedFigure, FigureData
from src.mining.distances import paired_distances
from src.params.reading import format_value
from src.params.schema import Params

_NUM_TRIPLETS = 6

# In image sides: spacing of the images in a strip, spacing of the strips, and top margin.
_COLUMN, _ROW, _TOP = 2.1, 1.5, 0.6


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw the hardest and the easiest triplets; None if there are no triplets."""
    hardest = extreme_triplets(data, _NUM_TRIPLETS, hardest=True)
    easiest = extreme_triplets(data, _NUM_TRIPLETS, hardest=False)
    if len(hardest) == 0:
        return None
    names = display_names(data.split.class_names, max_length=13)
    figure = new_figure(11, 0.95 * len(hardest) + 1.2)
    losses = []
    for axes, title, triplets in zip(
        figure.subplots(1, 2), ("The hardest", "The easiest"), (hardest, easiest), strict=True
    ):
        axes.set_title(f"{title} triplets of the {data.split_name} split", loc="left")
        losses.append(_draw_strips(axes, data, triplets, names))
    name, formula, of_losses = _loss_in_words(data.params)
    return CaptionedFigure(
        figure,
        "The hardest and the easiest triplets",
        "Each strip has a positive (same class), the anchor, and a negative (another class), with "
        "the distances between them. Left column: the hardest triplets. Each anchor contributes "
        "its farthest positive and nearest negative; those with the largest d(a,p) - d(a,n) are "
        "shown. Right column: the easiest triplets. Each anchor contributes its nearest positive "
        "and farthest negative; those with the smallest d(a,p) - d(a,n) are shown. No image is in "
        f"two triplets of a column. d is {data.params.distance_name}; the {name} is {formula}."
        f"{data.sampled}",
        f"{len(hardest)} hard and {len(easiest)} easy triplets of images. {of_losses} of the hard "
        f"triplets are {losses[0].min():.3g} to {losses[0].max():.3g}, those of "
        f"the easy triplets {losses[1].min():.3g} to {losses[1].max():.3g}. Anchor, positive and "
        f"negative of the hard triplets: {_files(data, hardest)}. Of the easy triplets: "
        f"{_files(data, easiest)}.",
    )


def extreme_triplets(data: FigureData, limit: int, *, hardest: bool) -> NDArray[np.intp]:
    """Return the triplets of the split with the largest or smallest d(a,p) - d(a,n).

    Each anchor contributes its hardest or its easiest triplet. The most extreme are chosen first. A
    triplet is skipped if it shares an image with one chosen before. Otherwise a single unusual
    image could be in all of them.

    Args:
        data: of the experiment.
        limit: maximum number of triplets.
        hardest: True for the largest differences, False for the smallest.

    Returns:
        int [<= limit, 3]: anchor, positive, negative; the most extreme first.
    """
    pairs = data.pairs
    positives = pairs.farthest_positive if hardest else pairs.nearest_positive
    negatives = pairs.nearest_negative if hardest else pairs.farthest_negative
    anchors = np.flatnonzero((positives >= 0) & (negatives >= 0))
    triplets = np.stack([anchors, positives[anchors], negatives[anchors]], axis=1)
    to_positive, to_negative = triplet_distances(data, triplets)
    gap = to_positive - to_negative
    chosen: list[NDArray[np.intp]] = []
    shown: set[int] = set()
    for position in np.argsort(-gap if hardest else gap, kind="stable"):
        triplet = triplets[position]
        if len(chosen) == limit:
            break
        if shown.isdisjoint(triplet.tolist()):
            chosen.append(triplet)
            shown.update(triplet.tolist())
    return np.array(chosen, np.intp).reshape(-1, 3)


def triplet_distances(
    data: FigureData, triplets: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return d(a,p) and d(a,n), [T] each, of triplets, int [T, 3], by the training distance."""
    anchors, positives, negatives = (data.embeddings[column] for column in triplets.T)
    distance = data.params.distance_name
    return (
        paired_distances(anchors, positives, distance),
        paired_distances(anchors, negatives, distance),
    )


def triplet_losses(
    to_positive: NDArray[np.float64], to_negative: NDArray[np.float64], params: Params
) -> NDArray[np.float64]:
    """Return each triplet's loss, float64 [T]; its difference if the loss is not of triplets."""
    differences = to_positive - to_negative
    if params.margin_in_use is None:
        return differences
    if params.margin == "soft":
        return np.logaddexp(0, differences / _temperature(params))
    return np.maximum(differences + float(params.margin), 0)


def _temperature(params: Params) -> float:
    return float(params.arguments_of(params.triplet_strategy).get("temperature", 1.0))


def _loss_in_words(params: Params) -> tuple[str, str, str]:
    """Return what `triplet_losses` are called, their formula, and how a sentence names them."""
    if params.margin_in_use is None:
        return "difference", "d(a,p) - d(a,n), because the loss is not of triplets", "Differences"
    if params.margin == "soft":
        temperature = _temperature(params)
        divided = "d(a,p) - d(a,n)"
        if temperature != 1:
            divided = f"({divided}) / {format_value(temperature)}"
        return "loss", f"log(1 + exp({divided}))", "With a soft margin, the losses"
    margin = format_value(params.margin)
    return "loss", f"max(d(a,p) - d(a,n) + {margin}, 0)", f"With margin {margin}, the losses"


def _files(data: FigureData, triplets: NDArray[np.intp]) -> str:
    return "; ".join(", ".join(map(data.name_of, triplet)) for triplet in triplets)


def _draw_strips(
    axes: Axes, data: FigureData, triplets: NDArray[np.intp], names: Sequence[str]
) -> NDArray[np.float64]:
    """Draw one row per triplet, and return the losses, float64 [T]."""
    prepare(axes, 2 * _COLUMN + 2.4, _TOP + _ROW * len(triplets))
    distances = triplet_distances(data, triplets)
    losses = triplet_losses(*distances, data.params)
    name = _loss_in_words(data.params)[0]
    for column, heading in enumerate(("positive", "anchor", "negative")):
        axes.text(column * _COLUMN + 0.5, 0.35, heading, ha="center", color=FAINT)
    for column, heading in enumerate(("d(a,p)", "d(a,n)")):
        axes.text((column + 0.5) * _COLUMN + 0.5, 0.35, heading, ha="center", color=FAINT)
    for row, (anchor, positive, negative) in enumerate(triplets):
        top = _TOP + row * _ROW
        for column, (image, color) in enumerate(
            ((positive, POSITIVE_COLOR), (anchor, INK), (negative, NEGATIVE_COLOR))
        ):
            left = column * _COLUMN
            draw_image(axes, data.split.pictures[image], left, top, color=color, line_width=1.8)
            axes.text(
                left + 0.5,
                top + 1.17,
                names[data.split.labels[image]],
                ha="center",
                va="center",
                fontsize=9,
                color=color,
            )
            if data.split.paths is not None:
                number = f"no. {data.index(image)}"
                drawn = display_file(data.name_of(image), 28, number)
                place = (left + 0.5, top + 1.34)
                axes.text(*place, drawn, ha="center", va="center", fontsize=5.5, color=FAINT)
        for column, (of_pair, color) in enumerate(
            zip(distances, (POSITIVE_COLOR, NEGATIVE_COLOR), strict=True)
        ):
            left = column * _COLUMN + 1
            axes.plot(
                [left + 0.04, left + _COLUMN - 1.04], [top + 0.5] * 2, color=color, linewidth=1.5
            )
            axes.text(
                left + (_COLUMN - 1) / 2,
                top + 0.42,
                f"{of_pair[row]:.3g}",
                ha="center",
                va="bottom",
                color=color,
            )
        axes.text(2 * _COLUMN + 1.2, top + 0.5, f"{name} {losses[row]:.3g}", va="center")
    return losses
