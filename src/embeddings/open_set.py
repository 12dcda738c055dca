"""Open-set identification: which class of a gallery a query belongs to, or none of them.

A *known* query has its class in the gallery. A *stranger* does not. Every query gets a score from
its nearest neighbours, small for known ones. It is accepted if the score is at most a threshold.

The terms are those of ISO/IEC 19795-1, as NIST's FRTE 1:N reports them. The false-positive
identification rate (FPIR) is the share of strangers that are accepted. The detection and
identification rate (DIR) is the share of known queries that are accepted and get the right class.

Here are scores and votes; `open_gallery.py` finds neighbours, `open_set_evaluation.py` measures.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNKNOWN = -1
"""The label of a query that is rejected."""

CLASS_BY = ("votes", "class_mean")
"""How an accepted query gets its class."""


class Nearest(NamedTuple):
    """The nearest neighbours of Q queries in a gallery, nearest first; K >= 1.

    Attributes:
        positions: int [Q, K], in the gallery.
        labels: int32 [Q, K], their classes.
        distances: float64 [Q, K], in the unit of the experiment's distance, ascending.
        of_class: float64 [Q], the mean distance to the K nearest pictures of the nearest
            neighbour's class; to all of them if the class has fewer. So a class of a single picture
            can be found as well.
        other: float64 [Q], the distance to the nearest picture of another class than the nearest
            neighbour's; infinite if the gallery has no other class.
        radius: float64 [Q], the mean distance of the nearest neighbour to its own K nearest
            pictures; infinite if the gallery has no other picture. Only the score
            `class_density` uses it.
        spread: float64 [Q, K], the spread of each neighbour's class, relative to the usual one; at
            least 1, see `src.embeddings.spread`.
    """

    positions: NDArray[np.intp]
    labels: NDArray[np.int32]
    distances: NDArray[np.float64]
    of_class: NDArray[np.float64]
    other: NDArray[np.float64]
    radius: NDArray[np.float64]
    spread: NDArray[np.float64]


class Score(NamedTuple):
    """A score: a distance to the gallery, divided by a scale of the query.

    Attributes:
        distance: returns the distance of each query, [Q].
        scale: returns the divisor of each query, [Q].
        title: in figures.
        parts: which of `of_class`, `other`, `radius` and `spread` of the neighbours it uses.
        for_few: whether it also holds for a class of few pictures, so that it may be used.
    """

    distance: Callable[[Nearest], NDArray[np.float64]]
    scale: Callable[[Nearest], NDArray[np.float64]]
    title: str
    parts: tuple[str, ...]
    for_few: bool = False


def _to_nearest(nearest: Nearest) -> NDArray[np.float64]:
    return nearest.distances[:, 0]


def _to_class(nearest: Nearest) -> NDArray[np.float64]:
    return nearest.of_class


def _to_other(nearest: Nearest) -> NDArray[np.float64]:
    return nearest.other


def _radius(nearest: Nearest) -> NDArray[np.float64]:
    return nearest.radius


def _best(nearest: Nearest) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the neighbour of each query that is nearest relative to the spread of its class."""
    relative = nearest.distances / nearest.spread
    return np.arange(len(relative)), relative.argmin(axis=1)


def _to_best(nearest: Nearest) -> NDArray[np.float64]:
    return nearest.distances[_best(nearest)]


def _spread_of_best(nearest: Nearest) -> NDArray[np.float64]:
    return nearest.spread[_best(nearest)]


def _one(nearest: Nearest) -> NDArray[np.float64]:
    return np.ones(len(nearest.distances))


# The ratios are those of Mendes Junior et al., "Nearest neighbors distance ratio open-set
# classifier", Machine Learning 106 (2017). `class_density` is a local outlier factor (Breunig et
# al., "LOF", SIGMOD 2000) that compares with one neighbour in place of the mean of K.
SCORES = {
    "nearest": Score(
        _to_best, _spread_of_best, "distance to the nearest picture", ("spread",), for_few=True
    ),
    "class": Score(
        _to_class, _one, "mean distance to the nearest pictures of a class", ("of_class",)
    ),
    "nearest_ratio": Score(
        _to_nearest,
        _to_other,
        "distance to the nearest picture / to another class",
        ("other",),
        for_few=True,
    ),
    "class_ratio": Score(
        _to_class,
        _to_other,
        "mean distance to the nearest pictures of a class / to another class",
        ("of_class", "other"),
    ),
    "class_density": Score(
        _to_class,
        _radius,
        "mean distance to the nearest pictures of a class / around the nearest",
        ("of_class", "radius"),
    ),
}
"""The scores, by name. An evaluation measures all. Of those that hold for classes of few pictures,
it uses the one with the best AUROC."""


def scores(name: str, nearest: Nearest) -> NDArray[np.float64]:
    """Return the score of each query, float64 [Q], >= 0; infinite if there is nothing near.

    Args:
        name: a key of SCORES.
        nearest: the neighbours.
    """
    score = SCORES[name]
    return _relative(score.distance(nearest), score.scale(nearest))


def voted_labels(name: str, nearest: Nearest, threshold: float) -> NDArray[np.int32]:
    """Return the label with the most votes among the neighbours within the threshold, int32 [Q].

    A neighbour's distance is divided by the query's scale, or by the spread of its class if the
    score uses spreads. It votes if that is at most the threshold, and its vote counts the more, the
    farther it is below: 1 at distance 0, 0 at the threshold. So a few near pictures of a new class
    win against many of another class that are just within the threshold. If no vote counts, the
    nearest neighbour's label is returned. In a tie, the label that comes first wins.

    Args:
        name: a key of SCORES.
        nearest: the neighbours.
        threshold: of the score; infinite to let all K neighbours vote alike.
    """
    score = SCORES[name]
    scale = nearest.spread if "spread" in score.parts else score.scale(nearest)[:, None]
    relative = _relative(nearest.distances, scale)
    if np.isinf(threshold):
        weights = np.ones(relative.shape)
    else:
        weights = np.clip(1 - relative / threshold if threshold else relative == 0, 0, 1)
    agreeing = nearest.labels[:, :, None] == nearest.labels[:, None, :]
    votes = (agreeing * weights[:, None, :]).sum(axis=2)  # [Q, K], those for each one's label
    elected: NDArray[np.int32] = nearest.labels[np.arange(len(votes)), votes.argmax(axis=1)]
    return elected


def _relative(distances: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return distances / scale; a distance of 0 gives 0, whatever the scale is."""
    shape = np.broadcast_shapes(distances.shape, scale.shape)
    divided = np.full(shape, np.inf)
    np.divide(distances, scale, out=divided, where=np.broadcast_to(scale > 0, shape))
    return np.where(distances == 0, 0.0, divided)
