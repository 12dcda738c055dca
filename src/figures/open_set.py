"""Draws how known images and strangers score, and what each threshold lets in and finds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from src.drawing.style import FAINT, NEGATIVE_COLOR, POSITIVE_COLOR, new_figure
from src.embeddings.open_set import SCORE_TITLE
from src.figures import CaptionedFigure, FigureData


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw histograms of the scores and DIR against FPIR; None if strangers were not measured."""
    open_set = data.open_set
    if open_set is None or open_set["auroc"] is None:
        return None
    figure = new_figure(9, 4.2)
    of_scores, of_rates = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_histograms(of_scores, open_set)
    _draw_curve(of_rates, open_set)
    figure.legend(loc="outside lower center", ncols=2)
    num_known, num_strangers = open_set["num_known"], open_set["num_strangers"]
    if open_set["calibrated_on"] == "unseen classes":
        strangers = (
            "Strangers are images of classes that were held out of training. The thresholds were "
            "chosen on other held-out classes."
        )
    else:
        strangers = (
            "No class was held out of training. As a stranger, each image was compared with the "
            "gallery without its own class. The network was trained on that class, so these "
            "numbers flatter."
        )
    auroc = open_set["auroc"]
    return CaptionedFigure(
        figure,
        "Known images and strangers",
        f"Left: the scores of {num_known} test images and {num_strangers} strangers against the "
        "training images; each histogram sums to 1, and its last bin also has all larger scores. "
        "An image is accepted if its score is at most the threshold. Dashed lines: thresholds "
        "chosen for a share of strangers that is accepted (FPIR). Right: the share of test images "
        "that are accepted and get the right class (DIR), against the share of strangers that "
        f"are accepted. {strangers}",
        f"Two histograms and a curve. A test image scores lower than a stranger with probability "
        f"{auroc:.3g}.",
    )


def _draw_histograms(axes: Axes, open_set: Mapping[str, Any]) -> None:
    histograms = open_set["histograms"]
    edges = np.array(histograms["edges"])
    for name, color, hatch, label in (
        ("known", POSITIVE_COLOR, "", "test images of known classes"),
        ("unknown", NEGATIVE_COLOR, "///", "strangers"),
    ):
        counts = np.array(histograms[name])
        shares = counts / counts.sum()
        axes.stairs(shares, edges, fill=True, color=color, alpha=0.2, linewidth=0)
        axes.stairs(shares, edges, color=color, linewidth=1.6, hatch=hatch, label=label)
    top = axes.get_ylim()[1]
    for height, (name, at) in enumerate(_thresholds(open_set)):
        axes.axvline(at["threshold"], color=FAINT, linewidth=1, linestyle="--")
        axes.annotate(
            f" FPIR {float(name):g}",
            (at["threshold"], (1.28 - 0.09 * height) * top),
            va="top",
            fontsize=8,
        )
    axes.set_ylim(0, 1.3 * top)
    axes.set_xlim(0, edges[-1])
    axes.set_xlabel(SCORE_TITLE, wrap=True)
    axes.set_ylabel("share of the images")
    axes.set_title("Scores")


def _draw_curve(axes: Axes, open_set: Mapping[str, Any]) -> None:
    curve = open_set["curve"]
    axes.plot(curve["fpir"], curve["dir"], color=POSITIVE_COLOR, linewidth=1.6)
    for name, at in _thresholds(open_set):
        reported = at["reported"]
        if reported["fpir"]:  # 0 has no place on a logarithmic axis
            axes.plot(reported["fpir"], reported["dir"], "o", color=POSITIVE_COLOR)
            axes.annotate(
                f"FPIR {float(name):g}",
                (reported["fpir"], reported["dir"]),
                xytext=(-6, 3),
                ha="right",
                textcoords="offset points",
                fontsize=8,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(min([*curve["fpir"], 0.1]) / 1.2, 1.2)
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("strangers accepted (FPIR)")
    axes.set_ylabel("known images found (DIR)")
    axes.set_title(f"AUROC {open_set['auroc']:.4f}")


def _thresholds(open_set: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the rates that have a threshold, the strictest last."""
    return [
        (name.removeprefix("fpir_"), at)
        for name, at in open_set["at"].items()
        if at["threshold"] is not None
    ]
