"""Judges queries against a gallery: the class of each, or unknown, with distance and threshold."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.open_set import SCORES, UNKNOWN
from src.errors import UserError
from src.gallery.snapshot import Found, Snapshot
from src.gallery.verdict import Calibration, decide

DEFAULT_FAR = 1e-2
"""The share of strangers that may be let in, unless a user chooses another."""

_BESIDE = ("eer", "best_f1")  # thresholds for pairs that are not at a chosen rate


class Verdict(NamedTuple):
    """What is decided about a query.

    Attributes:
        class_name: the class; None for unknown.
        distance: to the nearest pictures, as the score measures it; None without any picture.
        threshold: the largest distance that is accepted for this query; None without any picture.
        far: the share of strangers that the threshold lets in, as measured.
    """

    class_name: str | None
    distance: float | None
    threshold: float | None
    far: float


class Judge:
    """Decides by the thresholds of a calibration."""

    def __init__(self, calibration: Calibration) -> None:
        """Take the calibration."""
        self.calibration = calibration

    def threshold(self, far: float | None) -> tuple[float, float]:
        """Return the rate and the threshold of the score.

        Args:
            far: the rate; None for 0.01, or else for the nearest larger rate that was measured.

        Raises:
            UserError: no threshold was measured for this rate.
        """
        at = self.calibration.at
        return _chosen(
            {rate: found["threshold"] for rate, found in at.items()},
            far,
            {rate: found.get("why") for rate, found in at.items()},
        )

    def pair_threshold(self, far: float | None) -> tuple[float, float]:
        """Return the rate and the distance up to which two pictures count as one class.

        Raises:
            UserError: no threshold was measured for this rate.
        """
        thresholds = self.calibration.verification.items()
        return _chosen({name: found for name, found in thresholds if name not in _BESIDE}, far, {})

    @property
    def num_neighbours(self) -> int:
        """How many nearest pictures of a query a decision needs, K."""
        return self.calibration.k

    def decide(
        self,
        snapshot: Snapshot,
        embeddings: NDArray[np.float32],
        found: Found,
        far: float | None,
    ) -> list[Verdict]:
        """Decide about queries.

        A score is a distance divided by a scale of the query. So it is accepted if the distance is
        at most the threshold times that scale.

        Args:
            snapshot: the gallery.
            embeddings: float32 [Q, D].
            found: their nearest pictures, K or more if there are as many.
            far: see `threshold`.

        Returns:
            Q verdicts.
        """
        calibration, rate, threshold = self._measure(snapshot, far)
        if len(snapshot) == 0:
            return [Verdict(None, None, None, rate)] * len(embeddings)
        score = SCORES[calibration.score]
        needed = Found(found.rows[:, : calibration.k], found.distances[:, : calibration.k])
        nearest = snapshot.neighbourhood(
            embeddings, needed, score.parts, usual_spread=calibration.usual_spread
        )
        by_mean = None
        if calibration.class_by == "class_mean":
            by_mean = snapshot.nearest_means(embeddings)
        labels = decide(calibration, nearest, threshold, by_mean)
        names = snapshot.pictures.class_names
        return [
            Verdict(None if label == UNKNOWN else names[label], distance, limit, rate)
            for label, distance, limit in zip(
                labels.tolist(),
                score.distance(nearest).tolist(),
                (threshold * score.scale(nearest)).tolist(),
                strict=True,
            )
        ]

    def _measure(self, snapshot: Snapshot, far: float | None) -> tuple[Calibration, float, float]:
        """Return how to judge by this gallery: calibration, rate and threshold.

        A score may compare with another class, or with another picture. As long as the gallery has
        none, the distance to the nearest picture is judged as that of a pair.
        """
        parts = SCORES[self.calibration.score].parts
        lacks_class = "other" in parts and len(snapshot.pictures.class_names) == 1
        lacks_picture = "radius" in parts and len(snapshot) == 1
        if lacks_class or lacks_picture:
            return replace(self.calibration, score="nearest"), *self.pair_threshold(far)
        return self.calibration, *self.threshold(far)

    @property
    def description(self) -> str:
        """What the thresholds are worth, in one line."""
        try:
            rate, threshold = self.threshold(None)
        except UserError as error:
            return f"no picture can be judged: {error}"
        at = next(x for name, x in self.calibration.at.items() if float(name) == rate)
        unit, strangers = SCORES[self.calibration.score].title, self.calibration.calibrated_on
        text = f"unknown beyond {threshold:.4g} ({unit})"
        fpir, dir_ = at["reported"]["fpir"], at["reported"]["dir"]
        if fpir is not None and dir_ is not None:
            text += (
                f"; measured on {strangers}: {fpir:.2%} of strangers are let in, and "
                f"{dir_:.2%} of known pictures are accepted with the right class"
            )
        if strangers == "known classes":
            text += (
                "; real strangers were never measured, and more of them will be let in "
                "(holdout_classes in params.json measures them)"
            )
        return text


def _chosen(
    thresholds: Mapping[str, float | None], far: float | None, why: Mapping[str, str | None]
) -> tuple[float, float]:
    """Return the rate and its threshold; see `Judge.threshold`.

    Args:
        thresholds: by the name of the rate, such as `1e-2`.
        far: the rate, or None.
        why: by name, the reason why there is no threshold.
    """
    measured = {float(name): found for name, found in thresholds.items() if found is not None}
    if far is None:
        far = min((rate for rate in measured if rate >= DEFAULT_FAR), default=DEFAULT_FAR)
    if far in measured:
        return far, measured[far]
    reasons = {float(name): reason for name, reason in why.items()}
    because = f" ({reasons[far]})" if reasons.get(far) else ""
    accepted = ", ".join(f"{rate:g}" for rate in sorted(measured, reverse=True))
    raise UserError(f"--far: found {far:g}{because}; accepted: {accepted or 'none was measured'}")
