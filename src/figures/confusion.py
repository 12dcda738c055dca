"""Draws the confusion matrix of nearest neighbours, and the most frequent confusions."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray

from src.drawing.style import NEGATIVE_COLOR, display_names, new_figure
from src.figures import CaptionedFigure, FigureData

_MAX_NUMBERED = 20
"""With more classes, the fields have no numbers, because they would be illegible."""

_MAX_CLASSES = 100
"""With more classes, the matrix shows only the most confused ones."""

_NUM_MOST_CONFUSED = 40

_NUM_FREQUENT = 10


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw the row-normalized confusion matrix; None if every image is alone in its class."""
    labels = data.split.labels
    asking = np.flatnonzero(data.is_answerable)
    if len(asking) == 0:
        return None
    pairs, counts = label_pairs(labels[asking], labels[data.nearest[asking]])
    present = np.unique(pairs)
    chosen = most_confused(pairs, counts)
    names = display_names(data.split.class_names, max_length=14)
    side = float(np.clip(0.45 * len(chosen) + 2.5, 5, 9.5))
    figure = new_figure(side + 4, side)
    of_matrix, of_bars = figure.subplots(1, 2, width_ratios=[side, 3.2])
    _draw_matrix(of_matrix, row_shares(pairs, counts, chosen), [names[label] for label in chosen])
    wrong = int(counts[pairs[:, 0] != pairs[:, 1]].sum())
    frequent = frequent_confusions(pairs, counts, _NUM_FREQUENT)
    _draw_frequent(of_bars, frequent, names)
    of_matrix.set_title(f"Classes of nearest neighbours, {data.split_name} split")
    if len(chosen) == len(present):
        has_empty = len(np.unique(pairs[:, 0])) < len(present)
        empty = "; rows of classes with one image are empty" if has_empty else ""
        rows = f"Each row sums to 100 %{empty}."
    else:
        shown = "with the most frequent confusions" if wrong else "with the lowest numbers"
        rows = (
            f"Only the {len(chosen)} classes {shown} are shown, of "
            f"{len(present)}; a row sums to 100 % together with the classes that are not shown."
        )
    most = "; ".join(f"{names[a]} taken for {names[b]}: {n}" for a, b, n in frequent[:3])
    return CaptionedFigure(
        figure,
        "Confusion of nearest neighbours",
        "Rows: the class of an image. Columns: the class of its nearest neighbour by Euclidean "
        f"distance among {data.among}. {rows} Small shares are emphasised in colour, because "
        f"confusions are rare: {wrong} of {len(asking)} images ({wrong / len(asking):.2%}) are off "
        f"the diagonal.{data.unanswerable} Right: the most frequent confusions and their counts.",
        f"A matrix of {len(chosen)} by {len(chosen)} classes. "
        + (f"Most frequent confusions: {most}." if most else "There are no confusions."),
    )


def label_pairs(
    labels: NDArray[np.int32], found: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Count each combination of true label and found label.

    C classes allow C^2 combinations, but there are at most as many as images.

    Args:
        labels: int32 [N], true labels.
        found: int32 [N], found labels.

    Returns:
        The distinct pairs (label, found), int32 [K, 2], ascending, and their counts, int [K].
    """
    pairs, counts = np.unique(np.column_stack([labels, found]), axis=0, return_counts=True)
    return pairs, counts


def frequent_confusions(
    pairs: NDArray[np.int32], counts: NDArray[np.intp], limit: int
) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions as (true label, found label, count)."""
    errors = np.where(pairs[:, 0] == pairs[:, 1], 0, counts)
    order = np.argsort(-errors, kind="stable")[:limit]
    return [(int(pairs[k, 0]), int(pairs[k, 1]), int(errors[k])) for k in order if errors[k] > 0]


def most_confused(pairs: NDArray[np.int32], counts: NDArray[np.intp]) -> NDArray[np.int32]:
    """Return the labels shown in the matrix, ascending: all, or the most confused ones."""
    present = np.unique(pairs)
    if len(present) <= _MAX_CLASSES:
        return present
    frequent = frequent_confusions(pairs, counts, _NUM_MOST_CONFUSED)
    of_pairs = [label for true, found, _ in frequent for label in (true, found)]
    chosen = list(dict.fromkeys(of_pairs or present.tolist()))[:_NUM_MOST_CONFUSED]
    return np.sort(np.array(chosen, np.int32))


def row_shares(
    pairs: NDArray[np.int32], counts: NDArray[np.intp], chosen: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return, for each chosen class (row), the share found as each class (column), [K, K]."""
    matrix, totals = np.zeros((len(chosen), len(chosen))), np.zeros(len(chosen))
    places = np.searchsorted(chosen, pairs).clip(max=len(chosen) - 1)
    is_row, is_column = (chosen[places] == pairs).T
    np.add.at(totals, places[is_row, 0], counts[is_row])
    is_shown = is_row & is_column
    np.add.at(matrix, tuple(places[is_shown].T), counts[is_shown])
    shares: NDArray[np.float64] = matrix / np.maximum(totals, 1)[:, None]
    return shares


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
            _percent(share),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if share > 0.25 else "#222222",
        )


def _percent(share: float) -> str:
    """Return a share as text that neither hides a confusion nor denies one."""
    text = f"{100 * share:.1f}"
    if text == "0.0":
        return "<0.1"
    return ">99.9" if text == "100.0" and share < 1 else text


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
