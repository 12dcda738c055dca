"""Bring one layout into the frame of another, so that pictures in a row do not turn or flip."""

import numpy as np
from numpy.typing import NDArray


def align(layout: NDArray[np.float32], to: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn and mirror a layout about its centre, such that its points come nearest to another's.

    Which way the axes of PCA point is chance: any turn or reflection is as good. Orthogonal
    Procrustes finds the one with the least sum of squared distances; it keeps all distances within
    the layout, and does not scale.

    Args:
        layout: float32 [N, 2].
        to: float32 [N, 2], the same points elsewhere.

    Returns:
        float32 [N, 2], centred where `to` is.

    Source:
        P. H. Schoenemann, A generalized solution of the orthogonal Procrustes problem, 1966.
    """
    centred = layout - layout.mean(axis=0, dtype=np.float64)
    centre = to.mean(axis=0, dtype=np.float64)
    left, _, right = np.linalg.svd(centred.T @ (to - centre))
    aligned: NDArray[np.float64] = centred @ (left @ right) + centre
    return aligned.astype(np.float32)
