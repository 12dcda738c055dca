"""What verdicts need to know about an experiment: thresholds, and how distances are compared."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from src.embeddings.class_distance import Factors
from src.embeddings.open_set import CLASS_BY
from src.embeddings.whitening import Whitening
from src.errors import UserError

Thresholds = Mapping[str, Mapping[str, Any]]
"""By rate (`1e-2`) an object with the `threshold`. If this is None, `why` says the reason."""


@dataclass(frozen=True)
class Calibration:
    """What verdicts need to know; measured when an experiment is evaluated. Plain JSON values.

    Attributes:
        class_by: one of `src.embeddings.open_set.CLASS_BY`.
        distance: the distance of all neighbours, a key of `src.distance.DISTANCES`.
        calibrated_on: what played the strangers: `unseen classes`, or `known classes`. The latter
            flatters.
        at: thresholds of the score. The rate is the share of strangers that are let in. Each has
            the measured `fpir` and `dir` under `reported`.
        histograms: `edges` [B + 1] of the score and the counts `known` and `unknown`, [B].
        size_factors: of classes by size; see `src.embeddings.class_distance`. None if undefined.
        why_no_size_factors: the reason, if they are undefined.
        whitening: see `src.embeddings.whitening`; None if embeddings are compared as they are.
        verification: thresholds of the distance of a pair. The rate is the share of pairs of two
            classes that is accepted as one class.
    """

    class_by: str
    distance: str
    calibrated_on: str
    at: Thresholds
    histograms: Mapping[str, list[float]]
    size_factors: Factors | None
    why_no_size_factors: str | None
    whitening: Whitening | None
    verification: Thresholds

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
        if not open_set or not thresholds or "size_factors" not in open_set:
            raise UserError(
                f"{where}: found no open_set and thresholds of this version; accepted: an "
                "experiment that this version of train.py has evaluated (without metrics.json, "
                "train.py evaluates a finished one again, and does not train it)"
            )
        copied = (field.name for field in fields(cls) if field.name not in ("at", "verification"))
        return cls(
            **{name: open_set[name] for name in copied},
            at={name.removeprefix("fpir_"): found for name, found in open_set["at"].items()},
            verification={
                name.removeprefix("far_"): {
                    "threshold": found["threshold"],
                    "why": found.get("why"),
                }
                for name, found in thresholds["at"].items()
                if name.startswith("far_")
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
        rebuild = "gallery.py rebuild writes a new one and keeps the pictures"
        expected = {field.name for field in fields(cls)}
        if values.keys() != expected:
            differing = ", ".join(sorted(values.keys() ^ expected))
            raise UserError(
                f"{where}: calibration: found other keys ({differing}); accepted: one of this "
                f"version ({rebuild})"
            )
        found = cls(**values)
        if found.class_by not in CLASS_BY:
            raise UserError(
                f"{where}: calibration: class_by: found {found.class_by!r}; accepted: "
                f"{', '.join(CLASS_BY)} ({rebuild})"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as a JSON object."""
        return asdict(self)
