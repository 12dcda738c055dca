"""Measures an open set: calibrates thresholds on some strangers and reports them on others.

With classes held out of training, a seeded half of these classes calibrates and the other half is
reported. Without, every known query also plays a stranger: its own class is left out of the
gallery. The network was trained on that class, so these numbers flatter.

Definitions: `src/embeddings/open_set.py` and docs/metrics.md.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.metrics import Embedded, query_indices
from src.embeddings.open_gallery import OpenGallery
from src.embeddings.open_set import CLASS_BY, SCORES, Nearest, scores, voted_labels
from src.embeddings.search import NUM_VOTES
from src.seeds import stream
from src.system.progress import phase

FALSE_POSITIVE_RATES = {"1e-1": 10, "1e-2": 100, "1e-3": 1000}
"""The false-positive identification rates, by name: one stranger in this many."""

UNSEEN_CLASSES, KNOWN_CLASSES = "unseen classes", "known classes"
"""What plays the strangers, in words."""

_USUAL_RATES = ("1e-2", "1e-1")
"""At the first of these rates that has a threshold, the two ways of `CLASS_BY` are compared."""

_NUM_BINS = 100
_NUM_CURVE_POINTS = 60


class Queries(NamedTuple):
    """The queries of one measurement.

    Attributes:
        known: the neighbours of the known queries, Q of them.
        labels: int32 [Q], their true classes.
        by_mean: int32 [Q], the classes whose means are nearest.
        strangers: the neighbours of the strangers.
    """

    known: Nearest
    labels: NDArray[np.int32]
    by_mean: NDArray[np.int32]
    strangers: Nearest

    def with_radius(self, gallery: OpenGallery) -> "Queries":
        """Return the same with the radius of all neighbours."""
        return self._replace(
            known=gallery.with_radius(self.known), strangers=gallery.with_radius(self.strangers)
        )

    def is_right(self, class_by: str, score: str, threshold: float) -> NDArray[np.bool_]:
        """Return for each known query whether an accepting verdict names its class, bool [Q]."""
        found = self.by_mean
        if class_by == "votes":
            found = voted_labels(score, self.known, threshold)
        is_right: NDArray[np.bool_] = found == self.labels
        return is_right


def evaluate_open_set(splits: Mapping[str, Embedded], distance: str) -> dict[str, Any]:
    """Measure how well strangers to the training split are told from its classes.

    Args:
        splits: `train` (the gallery), `validation` (known queries that calibrate), `test` (known
            queries that are reported), and optionally `unseen` (strangers).
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        The object `open_set` of metrics.json, see docs/metrics.md. What is undefined is None, and
        `why` says the reason.
    """
    gallery = OpenGallery(*splits["train"], distance)
    unseen = splits.get("unseen")
    with phase(f"open set: neighbours among {len(gallery)} images"):
        if unseen is None:
            calibration, reported = (
                _with_known_strangers(splits[name], gallery) for name in ("validation", "test")
            )
        else:
            calibration, reported = (
                _with_strangers(splits[name], half, gallery)
                for name, half in zip(("validation", "test"), _halves(unseen), strict=True)
            )
        calibration = calibration.with_radius(gallery)
        measured = measure(calibration, reported, gallery)
    return {
        "distance": distance,
        "gallery": {
            "split": "train",
            "num_images": len(gallery),
            "num_classes": len(gallery.classes),
            "usual_spread": gallery.usual_spread,
        },
        "calibrated_on": KNOWN_CLASSES if unseen is None else UNSEEN_CLASSES,
        **measured,
    }


def measure(calibration: Queries, reported: Queries, gallery: OpenGallery) -> dict[str, Any]:
    """Choose the score, its thresholds and the way to the class; report what they do.

    Args:
        calibration: with the radius of all neighbours.
        reported: other queries, and other strangers. Their radius is computed if it is used.
        gallery: searched for the radius.

    Returns:
        The object of `evaluate_open_set`, without what describes its data.
    """
    aurocs = {
        name: auroc(scores(name, calibration.known), scores(name, calibration.strangers))
        for name in SCORES
    }
    usable = [name for name, score in SCORES.items() if score.for_few]
    score = max(usable, key=lambda name: aurocs[name] or 0.0)  # a tie: the simplest, which is first
    if score == "class_density":
        reported = reported.with_radius(gallery)
    of_known = scores(score, reported.known)
    of_strangers = scores(score, reported.strangers)
    thresholds = {
        name: threshold_at(scores(score, calibration.strangers), one_in, name)
        for name, one_in in FALSE_POSITIVE_RATES.items()
    }
    class_by, shares = _choose_class_by(calibration, score, thresholds)
    at = {
        f"fpir_{name}": _at(threshold, score, class_by, calibration, reported)
        for name, threshold in thresholds.items()
    }
    return {
        "why": _why_undefined(calibration, reported),
        "score": score,
        "k": NUM_VOTES,
        "class_by": class_by,
        "num_known": len(of_known),
        "num_strangers": len(of_strangers),
        "num_known_in_calibration": len(calibration.labels),
        "num_strangers_in_calibration": len(calibration.strangers.labels),
        "auroc": auroc(of_known, of_strangers),
        **{f"dir_at_{name}": of_rate["reported"]["dir"] for name, of_rate in at.items()},
        "auroc_by_score": aurocs,
        "right_by": shares,
        "at": at,
        "curve": _curve(score, class_by, reported),
        "histograms": _histograms(of_known, of_strangers, thresholds),
    }


def _why_undefined(calibration: Queries, reported: Queries) -> str | None:
    """Return why AUROC is None for the calibration or the report; None if both are defined."""
    for name, queries in (("calibration", calibration), ("report", reported)):
        for kind, nearest in (("known query", queries.known), ("stranger", queries.strangers)):
            if len(nearest.labels) == 0:
                return f"the {name} has no {kind}"
    return None


def auroc(known: NDArray[np.float64], strangers: NDArray[np.float64]) -> float | None:
    """Return the probability that a known query has a smaller score than a stranger.

    A tie counts half.

    Args:
        known: float64 [Q], scores.
        strangers: float64 [S].

    Returns:
        0 to 1; None if there are no known queries or no strangers.
    """
    if len(known) == 0 or len(strangers) == 0:
        return None
    ordered = np.sort(known)
    smaller, at_most = (
        int(np.searchsorted(ordered, strangers, side).sum()) for side in ("left", "right")
    )
    return (smaller + at_most) / (2 * len(known) * len(strangers))


def threshold_at(strangers: NDArray[np.float64], one_in: int, name: str) -> float | str:
    """Return the largest stranger's score that accepts at most one stranger in `one_in`.

    Args:
        strangers: float64 [S], scores.
        one_in: the inverse of the rate.
        name: of the rate, for the reason.

    Returns:
        The threshold, or the reason why there is none.
    """
    if len(strangers) < one_in:
        return f"a rate of {name} needs {one_in} strangers; there are {len(strangers)}"
    values, counts = np.unique(strangers, return_counts=True)
    is_allowed = (np.cumsum(counts) * one_in <= len(strangers)) & np.isfinite(values)
    if not is_allowed.any():
        return f"the smallest score alone accepts more than {name} of the strangers"
    return float(values[is_allowed][-1])


def _choose_class_by(
    calibration: Queries, score: str, thresholds: Mapping[str, float | str]
) -> tuple[str, dict[str, float | None]]:
    """Return the better way to the class, and the share of known queries that each gets right."""
    usual = (thresholds[name] for name in _USUAL_RATES)
    threshold = next((found for found in usual if not isinstance(found, str)), np.inf)
    is_accepted = scores(score, calibration.known) <= threshold
    shares = {
        way: _mean(calibration.is_right(way, score, threshold) & is_accepted) for way in CLASS_BY
    }
    return max(CLASS_BY, key=lambda way: shares[way] or 0.0), shares


def _mean(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _rates(
    threshold: float, score: str, class_by: str, queries: Queries
) -> dict[str, float | None]:
    """Return FPIR and DIR at a threshold."""
    is_right = queries.is_right(class_by, score, threshold)
    return {
        "fpir": _mean(scores(score, queries.strangers) <= threshold),
        "dir": _mean((scores(score, queries.known) <= threshold) & is_right),
    }


def _at(
    threshold: float | str, score: str, class_by: str, calibration: Queries, reported: Queries
) -> dict[str, Any]:
    if isinstance(threshold, str):
        undefined = {"fpir": None, "dir": None}
        return {
            "threshold": None,
            "why": threshold,
            "calibration": undefined,
            "reported": undefined,
        }
    return {
        "threshold": threshold,
        "calibration": _rates(threshold, score, class_by, calibration),
        "reported": _rates(threshold, score, class_by, reported),
    }


def _curve(score: str, class_by: str, reported: Queries) -> dict[str, list[float | None]]:
    """Return DIR against FPIR, ascending: at up to 60 thresholds, which are strangers' scores."""
    found = np.sort(scores(score, reported.strangers))
    found = found[np.isfinite(found)]
    if len(found) == 0 or len(reported.labels) == 0:
        return {"fpir": [], "dir": []}
    ranks = np.unique(np.geomspace(1, len(found), _NUM_CURVE_POINTS).round().astype(int))
    thresholds = np.unique(found[ranks - 1]).tolist()
    rates = [_rates(threshold, score, class_by, reported) for threshold in thresholds]
    return {name: [of_one[name] for of_one in rates] for name in ("fpir", "dir")}


def _histograms(
    known: NDArray[np.float64],
    strangers: NDArray[np.float64],
    thresholds: Mapping[str, float | str],
) -> dict[str, list[float]]:
    """Return counts of the scores in bins of equal width from 0 on.

    The last bin ends where 0.5 % of the scores and no threshold lie beyond. It also counts these.
    """
    both = np.concatenate([known, strangers])
    finite = both[np.isfinite(both)]
    limits = [found for found in thresholds.values() if not isinstance(found, str)]
    end = max([float(np.quantile(finite, 0.995)) if len(finite) else 0.0, *limits]) or 1.0
    edges = np.linspace(0, end, _NUM_BINS + 1)
    counts = {
        name: np.histogram(np.minimum(found, end), edges)[0].tolist()
        for name, found in (("known", known), ("unknown", strangers))
    }
    return {"edges": edges.tolist(), **counts}


def _with_strangers(split: Embedded, strangers: Embedded, gallery: OpenGallery) -> Queries:
    """Return the queries of a split, and strangers of classes that the gallery does not have."""
    known = _known(split, gallery)
    asking = query_indices(strangers.labels)
    return Queries(
        gallery.nearest(known.embeddings),
        known.labels,
        gallery.nearest_means(known.embeddings),
        gallery.nearest(strangers.embeddings[asking]),
    )


def _with_known_strangers(split: Embedded, gallery: OpenGallery) -> Queries:
    """Return the queries of a split; as strangers, the same without their class in the gallery."""
    known = _known(split, gallery)
    by_mean = gallery.nearest_means(known.embeddings)
    if len(gallery.classes) < 2:  # without its class nothing is left, so there are no strangers
        nothing = gallery.nearest(known.embeddings[:0])
        return Queries(gallery.nearest(known.embeddings), known.labels, by_mean, nothing)
    nearest, strangers = gallery.nearest_and_without(*known)
    return Queries(nearest, known.labels, by_mean, strangers)


def _known(split: Embedded, gallery: OpenGallery) -> Embedded:
    """Return those queries of a split whose class the gallery has."""
    asking = query_indices(split.labels)
    asking = asking[np.isin(split.labels[asking], gallery.classes)]
    return Embedded(split.embeddings[asking], split.labels[asking])


def _halves(unseen: Embedded) -> tuple[Embedded, Embedded]:
    """Split the unseen classes into two halves, seeded; the second one has the odd class."""
    classes = np.unique(unseen.labels)
    shuffled = stream("halves of the unseen classes", 0, len(classes)).permutation(classes)
    is_first = np.isin(unseen.labels, shuffled[: len(classes) // 2])
    first, second = (
        Embedded(unseen.embeddings[chosen], unseen.labels[chosen])
        for chosen in (is_first, ~is_first)
    )
    return first, second
