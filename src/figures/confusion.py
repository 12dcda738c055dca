"""Which classes are taken for which, by the nearest neighbour."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from src.drawing import NEGATIVE_COLOR, display_names, new_figure
from src.figures import FigureData, Picture

_MAX_NUMBERED = 20
"""Classes up to which every field has its number; beyond, they would not be legible."""

_NUM_FREQUENT = 10


def draw(data: FigureData) -> Picture | None:
    """Draw the confusion matrix, rows normalized; None with fewer than two images."""
    labels, class_names = data.split.labels, data.split.class_names
    if len(labels) < 2:
        return None
    counts = confusion(labels, labels[data.nearest], len(class_names))
    present = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    names = display_names(class_names, max_length=14)
    shares = counts[np.ix_(present, present)] / np.maximum(
        counts[present].sum(axis=1, keepdims=True), 1
    )
    side = float(np.clip(0.45 * len(present) + 2.5, 5, 9.5))
    figure = new_figure(side + 4, side)
    of_matrix, of_bars = figure.subplots(1, 2, width_ratios=[side, 3.2])
    _draw_matrix(of_matrix, shares, [names[label] for label in present])
    wrong = int(counts.sum() - np.trace(counts))
    frequent = frequent_confusions(counts, _NUM_FREQUENT)
    _draw_frequent(of_bars, frequent, names)
    of_matrix.set_title(f"Classes of nearest neighbours, {data.split_name} split")
    said = "; ".join(f"{names[a]} for {names[b]} {n} times" for a, b, n in frequent[:3])
    return Picture(
        figure,
        "Confusion of the nearest neighbour",
        f"Rows: the class of an image; columns: the class of its nearest neighbour among the other "
        f"{len(labels) - 1} of the split, by Euclidean distance. A row sums to 100 %. The colours "
        "of small shares are stretched, for confusions are rare beside what is right: "
        f"{wrong} of {len(labels)} images, {wrong / len(labels):.2%}, stand beside the diagonal. "
        "On the right the most frequent confusions, by number.",
        f"A matrix of {len(present)} by {len(present)} classes. "
        + (f"Taken most often: {said}." if said else "Nothing is confused."),
    )


def confusion(
    labels: NDArray[np.int32], found: NDArray[np.int32], num_classes: int
) -> NDArray[np.int64]:
    """Return how often each label is found as each: int64 [C, C], axes true and found."""
    counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (labels, found), 1)
    return counts


def frequent_confusions(counts: NDArray[np.int64], limit: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions: the true label, the one found, and how often."""
    errors = counts - np.diag(np.diag(counts))
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    rows, columns = np.unravel_index(order, errors.shape)
    return [
        (int(row), int(column), int(errors[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if errors[row, column] > 0
    ]


def _draw_matrix(axes: Axes, shares: NDArray[np.float64], names: list[str]) -> None:
    num_classes = len(names)
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, 0, 1), interpolation="nearest")
    size = float(np.clip(420 / num_classes, 4.5, 9.5))
    longest = max(map(len, names))
    rotation = 90 if longest * num_classes > 70 else 0
    axes.set_xticks(range(num_classes), names, rotation=rotation, fontsize=size)
    axes.set_yticks(range(num_classes), names, fontsize=size)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("class of the nearest neighbour")
    axes.set_ylabel("class of the image")
    if num_classes > _MAX_NUMBERED:
        return
    size = float(np.clip(110 / num_classes, 6, 11))
    for row, column in zip(*np.nonzero(shares), strict=True):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{100 * share:.1f}",
            ha="center",
            va="center",
            fontsize=size,
            color="white" if share > 0.25 else "#222222",
        )


def _draw_frequent(axes: Axes, frequent: list[tuple[int, int, int]], names: list[str]) -> None:
    axes.set_title("Most frequent confusions")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    if not frequent:
        axes.set_yticks([])
        axes.text(0.5, 0.9, "none", ha="center", transform=axes.transAxes)
        return
    numbers = [number for _, _, number in frequent]
    bars = axes.barh(range(len(frequent)), numbers, color=NEGATIVE_COLOR, alpha=0.75)
    axes.bar_label(bars, padding=3)
    axes.set_yticks(range(len(frequent)), [f"{names[a]} → {names[b]}" for a, b, _ in frequent])
    axes.tick_params(length=0)
    axes.set_ylim(_NUM_FREQUENT - 0.4, -0.6)
