"""Aligns one layout with another, so that consecutive figures do not rotate or flip."""

import numpy as np
from numpy.typing import NDArray


def align(layout: NDArray[np.float32], to: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rotate and reflect a layout about its centre to match another layout as closely as possible.

    The directions of PCA axes are arbitrary. Orthogonal Procrustes finds the rotation or reflection
    with the smallest sum of squared distances. Distances within the layout do not change, because
    nothing is scaled.

    Args:
        layout: float32 [N, 2].
        to: float32 [N, 2], the same points in the target layout.

    Returns:
        float32 [N, 2], with the same centre as `to`.

    Source:
        P. H. Schoenemann, A generalized solution of the orthogonal Procrustes problem, 1966.
    """
    centred = layout - layout.mean(axis=0, dtype=np.float64)
    centre = to.mean(axis=0, dtype=np.float64)
    left, _, right = np.linalg.svd(centred.T @ (to - centre))
    aligned: NDArray[np.float64] = centred @ (left @ right) + centre
    return aligned.astype(np.float32)
