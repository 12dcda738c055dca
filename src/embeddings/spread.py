"""How far apart the pictures of a class lie, to compare distances to classes of any size.

A class of few pictures is sparse: another picture of it lies farther from the nearest one than in
a class of thousands. So the distance to the nearest picture is divided by the class's spread, if
that is larger than usual.
"""

import numpy as np
from numpy.typing import NDArray

from src.embeddings.index import Index
from src.mining.distances import from_squared

# Pictures of a class whose nearest neighbours are looked for.
_MAX_SAMPLE = 256

_USUAL_PERCENTILE = 90


def class_spread(points: NDArray[np.float32], distance: str) -> float:
    """Return the mean distance of a class's pictures to the nearest other one.

    Args:
        points: float32 [N, D], `comparable` vectors of the class. Of many, a sample is measured.
        distance: a key of `src.distance.DISTANCES`.

    Returns:
        In the unit of the distance; NaN if there are fewer than two pictures.
    """
    size = len(points)
    if size < 2:
        return float("nan")
    sample = np.linspace(0, size - 1, min(size, _MAX_SAMPLE)).astype(np.intp)
    # Each picture finds itself, or another one that equals it, at distance 0.
    _, distances = Index(points).search(points[sample], 2)
    return float(from_squared(distances[:, 1] ** 2, distance, points.shape[1]).mean())


def usual_spread(spreads: NDArray[np.float64]) -> float | None:
    """Return the spread that nine of ten classes do not exceed; None if it is 0 or undefined.

    Args:
        spreads: float64 [C], of `class_spread`.
    """
    defined = spreads[np.isfinite(spreads)]
    usual = float(np.percentile(defined, _USUAL_PERCENTILE)) if len(defined) else 0.0
    return usual or None


def relative_spread(spreads: NDArray[np.float64], usual: float | None) -> NDArray[np.float64]:
    """Return spreads divided by the usual one, at least 1; 1 if one of both is undefined."""
    if usual is None:
        return np.ones(len(spreads))
    relative: NDArray[np.float64] = np.fmax(spreads / usual, 1.0)
    return relative
