"""Draws histograms of positive and negative distances, and the margin at its true length."""

import numpy as np
from matplotlib.axes import Axes

from src.distance import DISTANCES
from src.drawing.style import FAINT, NEGATIVE_COLOR, POSITIVE_COLOR, new_figure
from src.embeddings.pairs import Pairs
from src.figures import FigureData, Picture
from src.params.reading import format_value


def draw(data: FigureData) -> Picture | None:
    """Draw the histograms of all pairs' distances; None without positive or negative pairs.

    The margin is a difference of distances, not a position on the axis. It is drawn at its true
    length, starting at the median positive distance. If an anchor's positive is at that median, its
    triplets have loss 0 with every negative beyond the end of the bar.
    """
    pairs = data.pairs
    num_positive, num_negative = (
        int(counts.sum()) // 2 for counts in (pairs.positive_counts, pairs.negative_counts)
    )
    if num_positive == 0 or num_negative == 0:
        return None
    figure = new_figure(9, 4.6)
    axes = figure.add_subplot()
    centers = (pairs.edges[:-1] + pairs.edges[1:]) / 2
    width = pairs.edges[1]
    peaks = []
    for counts, color, hatch, name, number in (
        (pairs.positive_counts, POSITIVE_COLOR, "", "one class", num_positive),
        (pairs.negative_counts, NEGATIVE_COLOR, "///", "two classes", num_negative),
    ):
        shares = counts / counts.sum()
        peaks.append(shares.max())
        axes.bar(centers, shares, width, color=color, alpha=0.2, linewidth=0)
        label = f"pairs of {name}: {number:,}".replace(",", " ")
        axes.stairs(shares, pairs.edges, color=color, linewidth=1.6, hatch=hatch, label=label)
    top = max(peaks)
    axes.set_ylim(0, 1.3 * top)
    axes.set_xlim(0, pairs.edges[-1])
    median = median_distance(pairs)
    _draw_margin(axes, data.params.margin, median, 1.17 * top)
    axes.set_xlabel(f"{DISTANCES[data.params.distance_name].title} of two images' embeddings")
    axes.set_ylabel("share of the pairs")
    axes.set_title(f"Distances between images of the {data.split_name} split")
    figure.legend(loc="outside lower center", ncols=2)
    overlap = float(
        np.minimum(
            pairs.positive_counts / (2 * num_positive), pairs.negative_counts / (2 * num_negative)
        ).sum()
    )
    if data.params.margin == "soft":
        margin = "The margin is soft: triplets count the less the farther their negative is beyond "
        margin += "their positive, and none stops to count, so it has no length to be drawn."
    else:
        margin = "The bar is the margin, at its true length, from the median distance of images of "
        margin += "one class on: an image whose positive lies there has loss 0 with every negative "
        margin += "right of the bar."
    return Picture(
        figure,
        "Distances of positives and negatives",
        f"All {num_positive + num_negative:,} pairs of images".replace(",", " ")
        + f", by the distance that trained ({data.params.distance_name}); each histogram sums to "
        f"1, and they have {overlap:.1%} in common. {margin}",
        f"Two histograms. Images of one class are {median:.3g} apart at the median, images of two "
        f"classes {median_distance(pairs, negative=True):.3g}.",
    )


def median_distance(pairs: Pairs, *, negative: bool = False) -> float:
    """Return the median distance of the positive or negative pairs, accurate to one bin."""
    counts = np.cumsum(pairs.negative_counts if negative else pairs.positive_counts)
    middle = int(np.searchsorted(counts, counts[-1] / 2))
    return float(pairs.edges[middle : middle + 2].mean())


def _draw_margin(axes: Axes, margin: float | str, median: float, height: float) -> None:
    """Draw the margin as a bar that starts at the median positive; a soft margin as text."""
    axes.plot([median, median], [0, height], color=FAINT, linewidth=1, linestyle=":")
    if margin == "soft":
        text = " median of one class; the margin is soft"
        axes.annotate(text, (median, height), va="center")
        return
    assert not isinstance(margin, str)
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
