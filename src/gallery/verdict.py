"""Decides the class of a query from its nearest pictures, or that it is unknown.

The thresholds were measured by the evaluation of the training; see `open_set` and `thresholds` in
docs/metrics.md.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.embeddings.open_set import SCORES, Nearest, scores, voted_labels
from src.errors import UserError
from src.gallery.snapshot import Snapshot

DEFAULT_FAR = 1e-2


@dataclass(frozen=True)
class Verdict:
    """What is decided about a query.

    Attributes:
        class_name: the class; None for unknown.
        distance: to the nearest pictures, by the score that was chosen; None without any.
        threshold: the largest distance that is accepted for this query; None without any picture.
        far: the share of strangers that the threshold lets in, as measured.
    """

    class_name: str | None
    distance: float | None
    threshold: float | None
    far: float


class Verdicts:
    """Decides by thresholds that were measured."""

    def __init__(self, calibration: dict[str, Any]) -> None:
        """Take the thresholds.

        Args:
            calibration: the objects `open_set` and `thresholds` of metrics.json.
        """
        self._open_set: dict[str, Any] = calibration["open_set"]
        self._pairs: dict[str, Any] = calibration["thresholds"]
        self._score: str = self._open_set["score"]
        self._count: int = self._open_set["k"]

    def rates(self) -> dict[float, float]:
        """Return the measured thresholds of the score by the rate of strangers they let in."""
        return _measured(self._open_set["at"], "fpir_")

    def threshold(self, far: float | None) -> tuple[float, float]:
        """Return the rate and the threshold of the score.

        Args:
            far: the rate; None for 0.01, or else for the nearest larger rate that was measured.

        Raises:
            UserError: no threshold was measured for this rate.
        """
        return _chosen(self._open_set["at"], "fpir_", far, self._open_set["why"])

    def decide(
        self, snapshot: Snapshot, embeddings: NDArray[np.float32], far: float | None
    ) -> list[Verdict]:
        """Decide about queries.

        Args:
            snapshot: the gallery.
            embeddings: float32 [Q, D].
            far: see `threshold`.

        Returns:
            Q verdicts.
        """
        rate, threshold = self.threshold(far)
        if len(snapshot) == 0:
            return [Verdict(None, None, None, rate)] * len(embeddings)
        nearest = snapshot.neighbourhood(embeddings, self._count)
        scale = SCORES[self._score].scale(nearest)
        score = scores(self._score, nearest)
        labels = self._labels(snapshot, embeddings, nearest, threshold)
        names = snapshot.pictures.class_names
        return [
            Verdict(names[label] if is_accepted else None, float(distance), float(limit), rate)
            for label, is_accepted, distance, limit in zip(
                labels, score <= threshold, score * scale, threshold * scale, strict=True
            )
        ]

    def _labels(
        self,
        snapshot: Snapshot,
        embeddings: NDArray[np.float32],
        nearest: Nearest,
        threshold: float,
    ) -> NDArray[np.int32]:
        """Return the class of each query, in case that it is accepted, int32 [Q]."""
        if self._open_set["class_by"] == "class_mean":
            return snapshot.nearest_means(embeddings)
        return voted_labels(self._score, nearest, threshold)

    def pair_threshold(self, far: float | None) -> tuple[float, float]:
        """Return the rate and the distance up to which two pictures count as one class.

        Raises:
            UserError: no threshold was measured for this rate.
        """
        return _chosen(self._pairs["at"], "far_", far, None)

    def as_json(self) -> dict[str, Any]:
        """Return what the page shows: thresholds by rate, histograms of the score."""
        kept = ("score", "calibrated_on", "auroc", "histograms", "at")
        return {name: self._open_set[name] for name in kept}

    @property
    def description(self) -> str:
        """What the thresholds are worth, in words."""
        if not self.rates():
            return f"no threshold was measured: {self._open_set['why']}"
        rate, threshold = self.threshold(None)
        at = self._open_set["at"][f"fpir_{_name(rate)}"]["reported"]
        unit = SCORES[self._score].title
        text = f"unknown beyond {threshold:.4g} ({unit}): measured on "
        text += f"{self._open_set['calibrated_on']}, "
        if at["fpir"] is not None and at["dir"] is not None:
            text += f"lets in {at['fpir']:.2%} of strangers and finds {at['dir']:.2%} of known"
        if self._open_set["calibrated_on"] == "known classes":
            text += (
                "; strangers were never measured, so expect more of them to be let in "
                "(set holdout_classes to measure them)"
            )
        return text


def _name(rate: float) -> str:
    """Return a rate as metrics.json names it: 1e-2."""
    mantissa, exponent = f"{rate:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _measured(at: dict[str, Any], prefix: str) -> dict[float, float]:
    """Return the thresholds by rate, largest rate first."""
    found = {
        float(name.removeprefix(prefix)): entry["threshold"]
        for name, entry in at.items()
        if name.startswith(prefix) and entry["threshold"] is not None
    }
    return dict(sorted(found.items(), reverse=True))


def _chosen(
    at: dict[str, Any], prefix: str, far: float | None, why: str | None
) -> tuple[float, float]:
    """Return the rate and its threshold; see `Verdicts.threshold`."""
    measured = _measured(at, prefix)
    if far is None:
        far = min((rate for rate in measured if rate >= DEFAULT_FAR), default=DEFAULT_FAR)
    if far in measured:
        return far, measured[far]
    reason = at.get(f"{prefix}{_name(far)}", {}).get("why") or why
    because = f" ({reason})" if reason else ""
    accepted = ", ".join(f"{rate:g}" for rate in measured) or "none; train with more data"
    raise UserError(f"--far: found {far:g}{because}; accepted: {accepted}")
