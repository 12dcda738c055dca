"""Draws loss and fraction_positive over the steps, for training and validation."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from src.drawing.style import FAINT, NEGATIVE_COLOR, POSITIVE_COLOR, new_figure
from src.experiment.curves import Curve
from src.figures import CaptionedFigure, FigureData

_TAGS = ("loss", "fraction_positive")
"""Drawn after the metric that chose the checkpoint."""

# Window of the training curve's running mean, as a share of its points.
_SHARE_OF_POINTS = 0.05


def draw(data: FigureData) -> CaptionedFigure | None:
    """Draw one panel per tag; None if no event file has a point of any tag.

    The first is the metric on the validation split that chose the checkpoint, with its step marked.
    """
    best = data.params.best_metric
    has_chosen = best in data.curves.get("validation", {})
    every = dict.fromkeys((best, *_TAGS))
    tags = [tag for tag in every if any(tag in curves for curves in data.curves.values())]
    if not tags:
        return None
    figure = new_figure(4.4 * max(2, len(tags)), 4)
    ends = []
    for axes, tag in zip(figure.subplots(1, len(tags), squeeze=False)[0], tags, strict=True):
        axes.set_title(tag)
        draw_curve(axes, data, tag)
        if tag == best and has_chosen:
            _mark(axes, data, best)
        for run, curves in data.curves.items():
            if tag in curves:
                ends.append(f"{tag} of {run} ends at {curves[tag][1][-1]:.4g}")
    chose = ""
    if has_chosen:
        chose = (
            f"{best} on the validation split chose the checkpoint; the dotted line marks its step, "
            f"{data.step}. "
        )
    return CaptionedFigure(
        figure,
        "Training curves",
        f"{chose}Training: single batches (faint) and their running mean. Validation: the whole "
        "split, after each checkpoint. fraction_positive is the share of valid triplets with a "
        "loss above 0. If the loss falls while fraction_positive stays at 1, the embeddings shrink "
        "and the classes do not separate.",
        f"Curves over the steps: {'; '.join(ends)}.",
    )


def draw_curve(axes: Axes, data: FigureData, tag: str) -> None:
    """Draw one tag of training and validation over the steps.

    Args:
        axes: to draw into.
        data: of the experiment.
        tag: of the summaries.
    """
    training = data.curves.get("training", {}).get(tag)
    validation = data.curves.get("validation", {}).get(tag)
    if training:
        steps, values = training
        axes.plot(steps, values, color=POSITIVE_COLOR, alpha=0.25, linewidth=0.8)
        axes.plot(
            steps, running_mean(training), color=POSITIVE_COLOR, linewidth=1.8, label="training"
        )
    if validation:
        marker = "o" if len(validation[0]) <= 50 else ""
        axes.plot(
            *validation,
            color=NEGATIVE_COLOR,
            linewidth=1.8,
            linestyle="--",
            marker=marker,
            markersize=5,
            label="validation",
        )
    axes.set_xlabel("step")
    shown = [value for curve in (training, validation) if curve for value in curve[1]]
    if min((value for value in shown if np.isfinite(value)), default=0.0) >= 0:
        axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)
    if training or validation:
        axes.legend()


def _mark(axes: Axes, data: FigureData, tag: str) -> None:
    """Mark the checkpoint's step; a metric near 1 is shown from its lowest value, not from 0."""
    axes.axvline(data.step, color=FAINT, linewidth=1.2, linestyle=":")
    axes.set_title(f"{tag}: step {data.step} was chosen")
    values = data.curves.get("validation", {}).get(tag, ([], []))[1]
    if values and tag not in _TAGS and min(values) >= 0:
        axes.set_ylim(bottom=max(0.0, min(values) - 0.25 * (1 - min(values))), top=None)


def running_mean(curve: Curve) -> NDArray[np.float64]:
    """Return the centred running mean; its window shrinks towards both ends."""
    values = np.asarray(curve[1], np.float64)
    half = int(len(values) * _SHARE_OF_POINTS / 2)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(len(values))
    reach = np.minimum(half, np.minimum(positions, positions[::-1]))
    totals = sums[positions + reach + 1] - sums[positions - reach]
    means: NDArray[np.float64] = totals / (2 * reach + 1)
    return means
