<<<<<<< HEAD
"""Decides the class of a query from its nearest pictures, or that it is unknown.

The thresholds were measured by the evaluation of the training; see `open_set` and `thresholds` in
docs/metrics.md.
"""

from dataclasses import dataclass
=======
"""The verdict on a query: a class of the gallery, or unknown. Pure NumPy.

A verdict needs a query's nearest neighbours (`src.embeddings.open_set.Nearest`) and a
`Calibration`. The neighbours may come from any gallery: also from one with classes that were
enrolled after the calibration, with one or few pictures.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
>>>>>>> h/openset
from typing import Any

import numpy as np
from numpy.typing import NDArray

<<<<<<< HEAD
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
=======
from src.embeddings.open_set import CLASS_BY, SCORES, UNKNOWN, Nearest, scores, voted_labels
from src.errors import UserError


@dataclass(frozen=True)
class Calibration:
    """What verdicts need to know; measured when an experiment is evaluated. Plain JSON values.

    Attributes:
        score: a key of `src.embeddings.open_set.SCORES`.
        k: the number of neighbours that vote and that a class is compared by.
        class_by: one of `src.embeddings.open_set.CLASS_BY`.
        distance: the distance of all neighbours, a key of `src.distance.DISTANCES`.
        calibrated_on: what played the strangers: `unseen classes`, or `known classes`. The latter
            flatters.
        at: by rate (`1e-2`: one stranger in 100 is let in) an object with the `threshold` of the
            score, and the rates `fpir` and `dir` under `reported`. If the threshold is None, `why`
            says the reason.
        histograms: `edges` [B + 1] of the score and the counts `known` and `unknown`, [B].
        verification: by rate, the distance at which that share of pairs of two classes is accepted
            as one class; None if unknown.
    """

    score: str
    k: int
    class_by: str
    distance: str
    calibrated_on: str
    at: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, list[float]]
    verification: Mapping[str, float | None]

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any], where: str) -> "Calibration":
        """Return the calibration of an experiment.

        Args:
            metrics: the content of its `metrics.json`.
            where: the file, for the message.

        Raises:
            UserError: the experiment was evaluated before there were calibrations.
        """
        open_set, thresholds = metrics.get("open_set"), metrics.get("thresholds")
        if not open_set or not thresholds:
            raise UserError(
                f"{where}: found no open_set and thresholds; accepted: an experiment that this "
                "version of train.py has evaluated"
            )
        names = ("score", "k", "class_by", "distance", "calibrated_on", "histograms")
        return cls(
            **{name: open_set[name] for name in names},
            at={name.removeprefix("fpir_"): found for name, found in open_set["at"].items()},
            verification={
                name.removeprefix("far_"): found["threshold"]
                for name, found in thresholds["at"].items()
            },
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> "Calibration":
        """Return the calibration that `to_json` wrote.

        Args:
            values: the JSON object.
            where: the store it was read from, for the message.

        Raises:
            UserError: a key is missing or unknown, or names nothing that this version has.
        """
        expected = {field.name for field in fields(cls)}
        if values.keys() != expected:
            differing = ", ".join(sorted(values.keys() ^ expected))
            raise UserError(f"{where}: calibration: found other keys ({differing})")
        found = cls(**values)
        for name, accepted in (("score", SCORES), ("class_by", CLASS_BY)):
            if getattr(found, name) not in accepted:
                raise UserError(
                    f"{where}: calibration: {name}: found {getattr(found, name)!r}; accepted: "
                    + ", ".join(accepted)
                )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as a JSON object."""
        return asdict(self)

    def threshold(self, rate: str) -> float | None:
        """Return the threshold that lets in this share of strangers; None if it is unknown.

        Args:
            rate: a key of `at`.

        Raises:
            UserError: no such rate was measured.
        """
        if rate not in self.at:
            raise UserError(f"rate: found {rate!r}; accepted: {', '.join(self.at)}")
        threshold: float | None = self.at[rate]["threshold"]
        return threshold


def score(calibration: Calibration, nearest: Nearest) -> NDArray[np.float64]:
    """Return the score of each query, float64 [Q]; a query is accepted up to the threshold."""
    return scores(calibration.score, nearest)


def decide(
    calibration: Calibration,
    nearest: Nearest,
    threshold: float | None,
    by_mean: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """Return the class of each query, or UNKNOWN (-1), int32 [Q].

    Args:
        calibration: says which score to compare with the threshold, and how to find the class.
        nearest: the neighbours of Q queries.
        threshold: of the score; None to reject no query.
        by_mean: int32 [Q], the classes whose means are nearest. It is needed, and used, only if
            `calibration.class_by` is `class_mean`.

    Returns:
        The labels. Only neighbours within the threshold vote. So a class that was enrolled with a
        single picture is found beside classes of thousands.
    """
    limit = np.inf if threshold is None else threshold
    if calibration.class_by == "class_mean":
        if by_mean is None:
            raise ValueError(
                "by_mean: found None; accepted: labels, because class_by is class_mean"
            )
        labels = by_mean
    else:
        labels = voted_labels(calibration.score, nearest, limit)
    return np.where(score(calibration, nearest) <= limit, labels, np.int32(UNKNOWN))
>>>>>>> h/openset
