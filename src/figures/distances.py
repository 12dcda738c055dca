"""Draws histograms of positive and negative distances, and the margin at its true length."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from src.distance import DISTANCES
from src.drawing.style import FAINT, NEGATIVE_COLOR, POSITIVE_COLOR, new_figure
from src.embeddings.pairs import Pairs
from src.figures import CaptionedFigure, FigureData
from src.params.reading import format_value


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw the histograms of all pairs' distances; None without positive or negative pairs.

    The margin is a difference of distances, not a position on the axis. It is drawn at its true
    length, starting at the median positive distance. If an anchor's positive is at that median, its
    triplets have loss 0 with every negative beyond the end of the bar.
    """
    pairs = data.pairs
    positives, negatives = pairs.positive_counts, pairs.negative_counts
    if positives.sum() == 0 or negatives.sum() == 0:
        return None
    figure = new_figure(9, 4.6)
    axes = figure.add_subplot()
    _draw_histograms(axes, pairs)
    median = median_distance(pairs.edges, positives)
    _draw_margin(axes, data.params.margin_in_use, median, 0.9 * axes.get_ylim()[1])
    axes.set_xlabel(f"{DISTANCES[data.params.distance_name].title} between two embeddings")
    axes.set_ylabel("share of pairs")
    axes.set_title(f"Distances between images of the {data.split_name} split")
    figure.legend(loc="outside lower center", ncols=2)
    overlap = np.minimum(positives / positives.sum(), negatives / negatives.sum()).sum()
    if data.params.margin_in_use is None:
        margin = "The loss has no margin."
    elif data.params.margin == "soft":
        margin = (
            "The margin is soft: a triplet counts less the farther its negative is beyond its "
            "positive, but always more than 0. Therefore it has no length that could be drawn."
        )
    else:
        margin = (
            "The bar shows the margin at its true length, from the median positive distance. An "
            "anchor whose positive is at the median has loss 0 with every negative to the right "
            "of the bar."
        )
    return CaptionedFigure(
        figure,
        "Distances of positive and negative pairs",
        f"All {_num_pairs(positives + negatives)} pairs of the images shown, by the distance used "
        f"in training ({data.params.distance_name}). Each histogram sums to 1. The two overlap by "
        f"{overlap:.1%}. {margin}{data.sampled}",
        f"Two histograms. The median distance of positive pairs is {median:.3g}, of negative pairs "
        f"{median_distance(pairs.edges, negatives):.3g}.",
    )


def median_distance(edges: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Return the median of distances counted in bins, accurate to one bin.

    Args:
        edges: float64 [K + 1].
        counts: int64 [K].
    """
    if len(counts) == 1:  # of `scan_pairs`: all distances are 0
        return 0.0
    cumulative = np.cumsum(counts)
    middle = int(np.searchsorted(cumulative, cumulative[-1] / 2))
    return float(edges[middle : middle + 2].mean())


def _draw_histograms(axes: Axes, pairs: Pairs) -> None:
    """Draw both histograms, each as shares; leave room above them for the margin."""
    centers = (pairs.edges[:-1] + pairs.edges[1:]) / 2
    peaks = []
    for counts, color, hatch, name in (
        (pairs.positive_counts, POSITIVE_COLOR, "", "positive pairs (same class)"),
        (pairs.negative_counts, NEGATIVE_COLOR, "///", "negative pairs (different classes)"),
    ):
        shares = counts / counts.sum()
        peaks.append(shares.max())
        axes.bar(centers, shares, pairs.edges[1], color=color, alpha=0.2, linewidth=0)
        label = f"{name}: {_num_pairs(counts)}"
        axes.stairs(shares, pairs.edges, color=color, linewidth=1.6, hatch=hatch, label=label)
    axes.set_ylim(0, 1.3 * max(peaks))
    axes.set_xlim(0, pairs.edges[-1])


def _num_pairs(counts: NDArray[np.int64]) -> str:
    """Return the number of unordered pairs; each is counted twice, once for each anchor."""
    return f"{int(counts.sum()) // 2:,}".replace(",", " ")


def _draw_margin(axes: Axes, margin: float | str | None, median: float, height: float) -> None:
    """Draw the margin as a bar that starts at the median positive; a soft or no margin as text."""
    axes.plot([median, median], [0, height], color=FAINT, linewidth=1, linestyle=":")
    if margin is None or isinstance(margin, str):
        of_margin = "the loss has no margin" if margin is None else "the margin is soft"
        text = f" median positive distance ({of_margin})"
        axes.annotate(text, (median, height), va="center")
        return
    end = median + margin
    axes.annotate(
        "",
        (end, height),
        xytext=(median, height),
        arrowprops={"arrowstyle": "|-|, widthA=0.35, widthB=0.35", "shrinkA": 0, "shrinkB": 0},
    )
    axes.plot([end, end], [0, height], color=FAINT, linewidth=1, linestyle=":")
    axes.annotate(
        f"margin {format_value(margin)}",
        ((median + end) / 2, height),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
    )
    # If the margin exceeds every distance, the axis is extended to show it.
    axes.set_xlim(0, max(axes.get_xlim()[1], end + 0.03 * (end - median)))
