"""The verdict on a query: a class of the gallery, or unknown. Pure NumPy.

A verdict needs a query's nearest neighbours (`src.embeddings.open_set.Nearest`) and a
`Calibration`. The neighbours may come from any gallery: also from one with classes that were
enrolled after the calibration, with one or few pictures.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
        usual_spread: the usual spread of a class; see `src.embeddings.spread`. None if undefined.
        verification: by rate, the distance at which that share of pairs of two classes is accepted
            as one class; None if unknown. Also at the equal error rate, `eer`, and at the best F1,
            `best_f1`.
    """

    score: str
    k: int
    class_by: str
    distance: str
    calibrated_on: str
    at: Mapping[str, Mapping[str, Any]]
    histograms: Mapping[str, list[float]]
    usual_spread: float | None
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
            usual_spread=open_set["gallery"]["usual_spread"],
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
        The labels. How neighbours vote: `src.embeddings.open_set.voted_labels`.
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
