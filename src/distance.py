"""The distances between embeddings; each is declared once, here.

Every distance is a function of a squared Euclidean distance: of the embeddings, or of the
embeddings scaled to length 1. `src/mining/distances.py` computes them in NumPy,
`model/mining/distances.py` in TensorFlow. `src/params/schema.py` lists their names without NumPy.
"""

from collections.abc import Callable
from typing import NamedTuple


class Distance(NamedTuple):
    """How a distance is computed from squared Euclidean distances.

    Attributes:
        title: its name in figures.
        divisor: returns the divisor of the squared Euclidean distance, given the number of
            dimensions D; None if the square root is taken instead.
        compares_directions: whether embeddings are scaled to length 1 first. If not, distances have
            the same order as Euclidean distances.
    """

    title: str
    divisor: Callable[[int], int] | None
    compares_directions: bool = False

    @property
    def power(self) -> int:
        """The power of the Euclidean distance to which this one is proportional: 1 or 2."""
        return 1 if self.divisor is None else 2


DISTANCES = {
    "euclidean": Distance("Euclidean distance", None),
    "squared_euclidean": Distance("squared Euclidean distance", lambda num_dimensions: 1),
    "mean_squared": Distance("mean squared difference", lambda num_dimensions: num_dimensions),
    # |x - y|^2 = 2 (1 - cos) if x and y have length 1
    "cosine": Distance("cosine distance, 1 - cos", lambda num_dimensions: 2, True),
}
"""The distances by their names in `params.json`."""
