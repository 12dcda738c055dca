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
from src.embeddings.open_set import CLASS_BY, Nearest
from src.embeddings.whitening import within_class_whitening
from src.mining.distances import comparable
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
        known: the nearest classes of the known queries, Q of them.
        labels: int32 [Q], their true classes.
        by_mean: int32 [Q], the classes whose means are nearest.
        strangers: the nearest classes of the strangers.
    """

    known: Nearest
    labels: NDArray[np.int32]
    by_mean: NDArray[np.int32]
    strangers: Nearest

    def is_right(self, class_by: str) -> NDArray[np.bool_]:
        """Return for each known query whether an accepting verdict names its class, bool [Q]."""
        found = self.by_mean if class_by == "class_mean" else self.known.labels
        is_right: NDArray[np.bool_] = found == self.labels
        return is_right

    @property
    def auroc(self) -> float | None:
        """How well the scores tell known queries from strangers; see `auroc`."""
        return auroc(self.known.scores, self.strangers.scores)


class _Prepared(NamedTuple):
    """A gallery with what its evaluation takes before any threshold is known."""

    gallery: OpenGallery
    calibration: Queries
    whitening: list[list[float]] | None
    why_no_factors: str | None


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
    train, unseen = splits["train"], splits.get("unseen")
    calibrating, reporting = (None, None) if unseen is None else _halves(unseen)
    with phase(f"open set: distances to {len(train.labels)} images"):
        finite = np.nan_to_num(train.embeddings).astype(np.float64)
        whitening = within_class_whitening(
            comparable(finite, distance).astype(np.float32), train.labels
        )
        ways = [None] if whitening is None else [None, whitening]
        # Known classes that play strangers differ in other directions than strangers do, so they
        # cannot judge; drawings did (docs/gallery.md).
        ways = ways[-1:] if unseen is None else ways
        prepared = [_prepared(splits, calibrating, distance, way) for way in ways]
        best = max(prepared, key=lambda way: way.calibration.auroc or 0.0)  # a tie: the first
        reported = _queries(splits["test"], reporting, best.gallery)
    gallery = best.gallery
    return {
        "distance": distance,
        "gallery": {
            "split": "train",
            "num_images": len(gallery),
            "num_classes": len(gallery.classes),
        },
        "calibrated_on": KNOWN_CLASSES if unseen is None else UNSEEN_CLASSES,
        "size_factors": gallery.factors,
        "why_no_size_factors": best.why_no_factors,
        "auroc_by_coordinates": {
            "as they are" if way.whitening is None else "whitened": way.calibration.auroc
            for way in prepared
        },
        "whitening": best.whitening,
        **measure(best.calibration, reported),
    }


def _prepared(
    splits: Mapping[str, Embedded],
    strangers: Embedded | None,
    distance: str,
    whitening: list[list[float]] | None,
) -> _Prepared:
    """Return the training split as a gallery, with its factors, and what calibrates it."""
    gallery = OpenGallery(*splits["train"], distance, whitening)
    gallery.factors, why = gallery.measure_factors(*_known(splits["validation"], gallery))
    return _Prepared(gallery, _queries(splits["validation"], strangers, gallery), whitening, why)


def measure(calibration: Queries, reported: Queries) -> dict[str, Any]:
    """Choose the thresholds and the way to the class; report what they do.

    Args:
        calibration: known queries and strangers.
        reported: other queries, and other strangers.

    Returns:
        The object of `evaluate_open_set`, without what describes its data.
    """
    thresholds = {
        name: threshold_at(calibration.strangers.scores, one_in, name)
        for name, one_in in FALSE_POSITIVE_RATES.items()
    }
    class_by, shares = _choose_class_by(calibration, thresholds)
    at = {
        f"fpir_{name}": _at(threshold, class_by, calibration, reported)
        for name, threshold in thresholds.items()
    }
    return {
        "why": _why_undefined(calibration, reported),
        "class_by": class_by,
        "num_known": len(reported.labels),
        "num_strangers": len(reported.strangers.labels),
        "num_known_in_calibration": len(calibration.labels),
        "num_strangers_in_calibration": len(calibration.strangers.labels),
        "auroc": reported.auroc,
        **{f"dir_at_{name}": of_rate["reported"]["dir"] for name, of_rate in at.items()},
        "right_by": shares,
        "at": at,
        "curve": _curve(class_by, reported),
        "histograms": _histograms(reported.known.scores, reported.strangers.scores, thresholds),
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
    calibration: Queries, thresholds: Mapping[str, float | str]
) -> tuple[str, dict[str, float | None]]:
    """Return the better way to the class, and the share of known queries that each gets right."""
    usual = (thresholds[name] for name in _USUAL_RATES)
    threshold = next((found for found in usual if not isinstance(found, str)), np.inf)
    is_accepted = calibration.known.scores <= threshold
    shares = {way: _mean(calibration.is_right(way) & is_accepted) for way in CLASS_BY}
    return max(CLASS_BY, key=lambda way: shares[way] or 0.0), shares


def _mean(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _rates(threshold: float, class_by: str, queries: Queries) -> dict[str, float | None]:
    """Return FPIR and DIR at a threshold."""
    return {
        "fpir": _mean(queries.strangers.scores <= threshold),
        "dir": _mean((queries.known.scores <= threshold) & queries.is_right(class_by)),
    }


def _at(
    threshold: float | str, class_by: str, calibration: Queries, reported: Queries
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
        "calibration": _rates(threshold, class_by, calibration),
        "reported": _rates(threshold, class_by, reported),
    }


def _curve(class_by: str, reported: Queries) -> dict[str, list[float | None]]:
    """Return DIR against FPIR, ascending: at up to 60 thresholds, which are strangers' scores."""
    found = np.sort(reported.strangers.scores)
    found = found[np.isfinite(found)]
    if len(found) == 0 or len(reported.labels) == 0:
        return {"fpir": [], "dir": []}
    ranks = np.unique(np.geomspace(1, len(found), _NUM_CURVE_POINTS).round().astype(int))
    thresholds = np.unique(found[ranks - 1]).tolist()
    rates = [_rates(threshold, class_by, reported) for threshold in thresholds]
    return {name: [of_one[name] for of_one in rates] for name in ("fpir", "dir")}


def _histograms(
    known: NDArray[np.float64],
    strangers: NDArray[np.float64],
    thresholds: Mapping[str, float | str],
) -> dict[str, list[float]]:
    """Return counts of the scores in bins of equal width from 0 on.

    The last bin ends where at most 0.5 % of either kind's scores and no threshold lie beyond. It
    also counts these.
    """
    finite = (found[np.isfinite(found)] for found in (known, strangers))
    ends = [float(np.quantile(found, 0.995)) for found in finite if len(found)]
    limits = [found for found in thresholds.values() if not isinstance(found, str)]
    end = max([0.0, *ends, *limits]) or 1.0
    edges = np.linspace(0, end, _NUM_BINS + 1)
    counts = {
        name: np.histogram(np.minimum(found, end), edges)[0].tolist()
        for name, found in (("known", known), ("unknown", strangers))
    }
    return {"edges": edges.tolist(), **counts}


def _queries(split: Embedded, strangers: Embedded | None, gallery: OpenGallery) -> Queries:
    """Return the known queries of a split, and strangers.

    Args:
        split: the known queries.
        strangers: of classes that the gallery does not have; None: the known queries again, without
            their class in the gallery.
        gallery: is asked.
    """
    known = _known(split, gallery)
    by_mean = gallery.nearest_means(known.embeddings)
    if strangers is not None:
        asking = query_indices(strangers.labels)
        nearest = gallery.nearest(known.embeddings)
        return Queries(
            nearest, known.labels, by_mean, gallery.nearest(strangers.embeddings[asking])
        )
    if len(gallery.classes) < 2:  # without its class nothing is left, so there are no strangers
        nothing = gallery.nearest(known.embeddings[:0])
        return Queries(gallery.nearest(known.embeddings), known.labels, by_mean, nothing)
    nearest, without = gallery.nearest_and_without(*known)
    return Queries(nearest, known.labels, by_mean, without)


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
