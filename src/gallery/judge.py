"""Judges queries against a gallery: the class of each, or unknown, with distance and threshold."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.open_set import SCORE_TITLE
from src.errors import UserError
from src.gallery.snapshot import Snapshot
from src.gallery.verdict import Calibration, Thresholds

DEFAULT_FAR = 1e-2
"""The share of strangers that may be let in, unless a user chooses another."""


class Verdict(NamedTuple):
    """What is decided about a query.

    Attributes:
        class_name: the class; None for unknown.
        nearest: the class that a large enough threshold would accept; None without any picture.
        distance: to the nearest class; None without any picture.
        threshold: the largest distance that is accepted for this query; None without any picture.
        far: the share of strangers that the threshold lets in, as measured.
    """

    class_name: str | None
    nearest: str | None
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
        return _chosen(self.calibration.at, far)

    def pair_threshold(self, far: float | None) -> tuple[float, float]:
        """Return the rate and the distance up to which two pictures count as one class.

        Raises:
            UserError: no threshold was measured for this rate.
        """
        return _chosen(self.calibration.verification, far)

    def decide(
        self, snapshot: Snapshot, embeddings: NDArray[np.float32], far: float | None
    ) -> list[Verdict]:
        """Decide about queries.

        A score is a distance divided by the factor of a class's size. So it is accepted if the
        distance is at most the threshold times that factor.

        Args:
            snapshot: the gallery.
            embeddings: float32 [Q, D].
            far: see `threshold`.

        Returns:
            Q verdicts.
        """
        rate, threshold = self.threshold(far)
        if len(snapshot) == 0:
            return [Verdict(None, None, None, None, rate)] * len(embeddings)
        nearest = snapshot.nearest_classes(embeddings)
        labels = nearest.labels
        if self.calibration.class_by == "class_mean":
            labels = snapshot.nearest_means(embeddings)
        names = snapshot.pictures.class_names
        return [
            Verdict(names[label] if is_accepted else None, names[label], distance, limit, rate)
            for label, is_accepted, distance, limit in zip(
                labels.tolist(),
                (nearest.scores <= threshold).tolist(),
                nearest.distances.tolist(),
                (threshold * nearest.factors).tolist(),
                strict=True,
            )
        ]

    @property
    def description(self) -> str:
        """What the thresholds are worth, in one line."""
        try:
            rate, threshold = self.threshold(None)
        except UserError as error:
            return f"no picture can be judged: {error}"
        at = next(x for name, x in self.calibration.at.items() if float(name) == rate)
        strangers = self.calibration.calibrated_on
        text = f"unknown beyond {threshold:.4g} ({SCORE_TITLE})"
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
        if self.calibration.size_factors is None:
            text += (
                "; classes of few pictures are judged like large ones, and found less often: "
                f"{self.calibration.why_no_size_factors}"
            )
        return text


def _chosen(thresholds: Thresholds, far: float | None) -> tuple[float, float]:
    """Return the rate and its threshold; see `Judge.threshold`."""
    by_rate = {float(name): found for name, found in thresholds.items()}
    measured = {
        rate: at["threshold"] for rate, at in by_rate.items() if at["threshold"] is not None
    }
    if far is None:
        far = min((rate for rate in measured if rate >= DEFAULT_FAR), default=DEFAULT_FAR)
    if far in measured:
        return far, measured[far]
    why = by_rate.get(far, {}).get("why")
    accepted = ", ".join(f"{rate:g}" for rate in sorted(measured, reverse=True))
    raise UserError(
        f"--far: found {far:g}{f' ({why})' if why else ''}; accepted: "
        f"{accepted or 'none was measured'}"
    )
