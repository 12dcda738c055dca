"""What a gallery answers: the verdict on a picture, with its nearest pictures; or on a pair."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Neighbour:
    """A picture of the gallery near a query.

    Attributes:
        id: of the picture.
        class_name: its class.
        source: where it came from.
        distance: in the unit of the experiment's distance, as verdicts compare it: whitened, if
            the calibration says so.
    """

    id: int
    class_name: str
    source: str
    distance: float


@dataclass(frozen=True)
class Answer:
    """What a gallery says about a picture.

    Attributes:
        class_name: the class; None for unknown.
        nearest: the class that a large enough threshold would accept; None if the gallery is empty.
        distance: to the nearest class, see `src.embeddings.class_distance`; None if the gallery is
            empty.
        threshold: the largest such distance that is accepted; None if the gallery is empty.
        far: the share of strangers that this threshold lets in, as measured.
        neighbours: the nearest pictures, nearest first.
    """

    class_name: str | None
    nearest: str | None
    distance: float | None
    threshold: float | None
    far: float
    neighbours: tuple[Neighbour, ...]

    @property
    def reason(self) -> str:
        """What led to the verdict, in words."""
        if self.distance is None or self.threshold is None:
            return "the gallery has no picture"
        side = "within" if self.class_name is not None else "beyond"
        return (
            f"distance {self.distance:.3g}, {side} the threshold {self.threshold:.3g}, "
            f"which lets in {one_in(self.far)} strangers"
        )

    def as_json(self, picture: str) -> dict[str, Any]:
        """Return the JSON object that `query.py --json` and the service answer.

        Args:
            picture: the name of the queried picture.
        """
        return {
            "picture": picture,
            "class": self.class_name,
            "nearest": self.nearest,
            "distance": self.distance,
            "threshold": self.threshold,
            "far": self.far,
            "neighbours": [
                {
                    "id": near.id,
                    "class": near.class_name,
                    "source": near.source,
                    "distance": near.distance,
                }
                for near in self.neighbours
            ],
        }


@dataclass(frozen=True)
class Pair:
    """Whether two pictures are of one class.

    Attributes:
        is_same: whether they are.
        distance: between them.
        threshold: up to which they count as one class.
        far: the share of pairs of different classes that this threshold accepts, as measured.
    """

    is_same: bool
    distance: float
    threshold: float
    far: float

    @property
    def reason(self) -> str:
        """What led to the decision, in words."""
        side = "within" if self.is_same else "beyond"
        return (
            f"distance {self.distance:.3g}, {side} the threshold {self.threshold:.3g}, "
            f"which accepts {one_in(self.far)} pairs of different classes"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that `query.py --verify --json` prints."""
        return {
            "same": self.is_same,
            "distance": self.distance,
            "threshold": self.threshold,
            "far": self.far,
        }


def one_in(rate: float) -> str:
    """Return a rate as people say it: `1 of 100`."""
    return f"1 of {1 / rate:,.0f}" if rate < 0.5 else f"{rate:.0%} of"
