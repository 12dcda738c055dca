"""A change of coordinates in which the pictures of a class scatter alike in all directions.

Strangers differ from known pictures also in directions in which no class varies. There a short
distance means much. The within-class covariance says which directions these are. It is shrunk
halfway towards a multiple of the identity (Ledoit and Wolf, "A well-conditioned estimator for
large-dimensional covariance matrices", 2004), so that no direction is stretched without end.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHRINKAGE = 0.5  # chosen on drawings that are not reported: docs/gallery.md

# metrics.json and the gallery keep the matrix.
_MAX_SIZE = 256

_MIN_PICTURES = 10  # for each dimension

_DECIMALS = 5

Whitening = Sequence[Sequence[float]]
"""A symmetric matrix [D, D], as JSON has it."""


def within_class_whitening(
    points: NDArray[np.float32], labels: NDArray[np.int32]
) -> list[list[float]] | None:
    """Return the matrix that whitens the scatter within classes.

    The mean scatter of all directions stays as it is, so that distances keep their magnitude.

    Args:
        points: float32 [N, D], `comparable` vectors, finite.
        labels: int32 [N].

    Returns:
        [D, D], rounded; None if D is above 256, if there are fewer than 10 D pictures besides one
        of each class, or if no class scatters.
    """
    size = points.shape[1]
    classes, places = np.unique(labels, return_inverse=True)
    if size > _MAX_SIZE or len(points) - len(classes) < _MIN_PICTURES * size:
        return None
    sums = np.zeros((len(classes), size))
    np.add.at(sums, places, points)
    centred = points - (sums / np.bincount(places)[:, None])[places]
    largest = np.abs(centred).max()
    if largest == 0:
        return None
    scatter = (centred / largest).T @ (centred / largest)
    scatter *= size / np.trace(scatter)
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * scatter + _SHRINKAGE * np.eye(size))
    matrix: list[list[float]] = ((vectors / np.sqrt(values)) @ vectors.T).round(_DECIMALS).tolist()
    return matrix


def whitened(points: NDArray[np.float32], whitening: Whitening | None) -> NDArray[np.float32]:
    """Return points float32 [N, D] in the coordinates of `whitening`; None leaves them alone."""
    if whitening is None:
        return points
    largest = np.finfo(np.float32).max
    moved = points.astype(np.float64) @ np.asarray(whitening, np.float64)
    return np.clip(moved, -largest, largest).astype(np.float32)
