"""Open-set identification: which class of a gallery a query belongs to, or none of them.

A *known* query has its class in the gallery. A *stranger* does not. The score of a query is its
distance to the nearest class, `src.embeddings.class_distance`, divided by the factor of that
class's size. A query is accepted if its score is at most a threshold.

The terms are those of ISO/IEC 19795-1, as NIST's FRTE 1:N reports them. The false-positive
identification rate (FPIR) is the share of strangers that are accepted. The detection and
identification rate (DIR) is the share of known queries that are accepted and get the right class.

`open_gallery.py` finds the nearest classes, `open_set_evaluation.py` measures.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLASS_BY = ("nearest", "class_mean")
"""How an accepted query gets its class: the nearest class, or the class of the nearest mean."""

SCORE_TITLE = "distance to the nearest class"
"""The score's name in figures."""


class Nearest(NamedTuple):
    """The nearest classes of Q queries: for each the class with the smallest score.

    Attributes:
        labels: int32 [Q], the classes.
        distances: float64 [Q], to these, in the unit of the experiment's distance.
        factors: float64 [Q], of the sizes of these classes; at least 1.
    """

    labels: NDArray[np.int32]
    distances: NDArray[np.float64]
    factors: NDArray[np.float64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score of each query, float64 [Q], >= 0."""
        return self.distances / self.factors
