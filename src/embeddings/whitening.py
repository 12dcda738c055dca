"""A change of coordinates in which the pictures of a class scatter alike in all directions.

The open set uses it on embeddings, and the embedding layer on features (`embedding_whitening`).

Strangers differ from known pictures also in directions in which no class varies. There a short
distance means much. The within-class covariance says which directions these are. It is shrunk
towards a multiple of the identity (Ledoit and Wolf, "A well-conditioned estimator for
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

# Scatter below this share of the largest is rounding.
_ROUNDING = 1e-10

# Features of equal images differ by this share of their size: other batches have other sums.
_FLOAT32_ROUNDING = 1e-6

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
    num_classes = len(np.unique(labels))
    if size > _MAX_SIZE or len(points) - num_classes < _MIN_PICTURES * size:
        return None
    centred = _within_classes(points, labels)
    largest = np.abs(centred).max()
    if largest == 0:
        return None
    scatter = (centred / largest).T @ (centred / largest)
    scatter *= size / np.trace(scatter)
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * scatter + _SHRINKAGE * np.eye(size))
    matrix: list[list[float]] = ((vectors / np.sqrt(values)) @ vectors.T).round(_DECIMALS).tolist()
    return matrix


def whitened_projection(
    points: NDArray[np.float32],
    labels: NDArray[np.int32],
    projection: NDArray[np.float64],
    shrinkage: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the linear map that centres points, whitens the scatter within classes, and projects.

    Unlike `within_class_whitening`, it needs no more points than dimensions: directions in which no
    class scatters have the variance 0 before shrinking. They are kept, because unseen classes may
    differ in them.

    Args:
        points: float32 [N, F], finite.
        labels: int32 [N].
        projection: [F, D]; with orthonormal rows or columns, it keeps distances, or nearly so.
        shrinkage: s, above 0 and at most 1. With S, the covariance within classes, divided by the
            mean of its diagonal, points are multiplied by the inverse root of (1 - s) S + s I.

    Returns:
        kernel [F, D] and bias [D]: points @ kernel + bias. The mean square of the kernel is that
        of random weights, 2 / (F + D) (Glorot and Bengio, 2010), so that a learning rate means as
        much as with these. None if no class scatters.

    Source: the within-class covariance as in Hatch et al., "Within-class covariance normalization
        for SVM-based speaker recognition" (2006); for image descriptors, Mikolajczyk and Matas,
        "Improving descriptors for fast tree matching by optimal linear projection" (2007), as in
        arXiv:1711.02512, section 3.3.
    """
    centred = _within_classes(points, labels)
    largest = np.abs(centred).max()
    if largest <= _FLOAT32_ROUNDING * np.abs(points).max():
        return None
    centred /= largest
    directions, variances = _principal(centred)
    outside = shrinkage**-0.5
    inside = 1 / np.sqrt((1 - shrinkage) * variances + shrinkage)
    kernel = outside * projection
    kernel += directions @ ((inside - outside)[:, None] * (directions.T @ projection))
    kernel *= np.sqrt(2 / sum(kernel.shape) / np.square(kernel).mean())
    return kernel, -points.mean(axis=0, dtype=np.float64) @ kernel


def _principal(centred: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions [F, R] in which [N, F] scatters, and their variances [R].

    The variances are relative to the mean of all F directions; R is at most N and F.
    """
    num, size = centred.shape
    # The eigenvectors of the smaller of the two products give those of the scatter.
    if num < size:
        sums, vectors = np.linalg.eigh(centred @ centred.T)
    else:
        sums, vectors = np.linalg.eigh(centred.T @ centred)
    scatters = sums > _ROUNDING * sums[-1]
    sums, vectors = sums[scatters], vectors[:, scatters]
    if num < size:
        vectors = centred.T @ vectors / np.sqrt(sums)
    return vectors, sums * (size / sums.sum())


def _within_classes(points: NDArray[np.float32], labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return each point's difference from the mean of its class, float64 [N, D]."""
    classes, places = np.unique(labels, return_inverse=True)
    sums = np.zeros((len(classes), points.shape[1]))
    np.add.at(sums, places, points)
    return points - (sums / np.bincount(places)[:, None])[places]


def whitened(points: NDArray[np.float32], whitening: Whitening | None) -> NDArray[np.float32]:
    """Return points float32 [N, D] in the coordinates of `whitening`; None leaves them alone."""
    if whitening is None:
        return points
    largest = np.finfo(np.float32).max
    moved = points.astype(np.float64) @ np.asarray(whitening, np.float64)
    return np.clip(moved, -largest, largest).astype(np.float32)
