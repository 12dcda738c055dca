"""Telling pairs of one class from others by their distance: ROC AUC, EER, TAR at a FAR.

A pair is accepted as of one class where its distance is at most a threshold. TAR, the true accept
rate, is the share of the positive pairs (one class) accepted; FAR, the false accept rate, that of
the negative pairs. All pairs are counted, by distance, in narrow bins: no pair is drawn or kept.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from src.params.metric_names import VERIFICATION

# A float32 >= 0 is ordered as its bits are. Without the last 11 of them, distances fall into the
# same bin only where they differ by less than 1 part in 4096.
_DROPPED_BITS = 11
# The 24 powers of two below 4; what is smaller is taken for 0.
_LOWEST = (127 + 2 - 24) << (23 - _DROPPED_BITS)
_NUM_BINS = 24 << (23 - _DROPPED_BITS)


class PairCounts:
    """How many positive and negative pairs there are at each squared distance.

    Attributes:
        positive: int64 [bins], ascending distance.
        negative: int64 [bins].
    """

    def __init__(self) -> None:
        """Start with no pair."""
        # One bin more, for the distances that are infinite: an example's to itself.
        self._all = np.zeros(_NUM_BINS + 1, np.int64)
        self._positive = np.zeros(_NUM_BINS + 1, np.int64)
        self._lock = threading.Lock()

    @property
    def positive(self) -> NDArray[np.int64]:
        """The pairs of one class."""
        return self._positive[:-1]

    @property
    def negative(self) -> NDArray[np.int64]:
        """The pairs of two classes."""
        return (self._all - self._positive)[:-1]

    def add(self, distances: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> None:
        """Count some pairs; may be called from several threads.

        Args:
            distances: float32 [r, G], squared, in [0, 4) or infinite.
            is_positive: bool [r, G].
        """
        bins = distances.view(np.int32).reshape(-1) >> _DROPPED_BITS
        bins -= _LOWEST
        np.clip(bins, 0, _NUM_BINS, out=bins)
        of_all = np.bincount(bins, minlength=_NUM_BINS + 1)
        of_positive = np.bincount(bins[np.flatnonzero(is_positive)], minlength=_NUM_BINS + 1)
        with self._lock:
            self._all += of_all
            self._positive += of_positive

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return FAR and TAR at every threshold, ascending from (0, 0) to (1, 1)."""
        used = self._all[:-1] > 0
        far, tar = (
            np.concatenate([[0.0], np.cumsum(counts[used]) / max(int(counts.sum()), 1)])
            for counts in (self.negative, self.positive)
        )
        return far, tar


def verification_metrics(pairs: PairCounts) -> dict[str, float | int | None]:
    """Return how well the distance tells positive from negative pairs.

    Args:
        pairs: the counts.

    Returns:
        `roc_auc`, the probability that a positive pair is nearer than a negative one, equally near
        ones half; `eer`, the rate at which FAR and 1 - TAR are equal, on the straight line between
        thresholds; `tar_at_far_1e-2` and `tar_at_far_1e-3`, TAR at the largest threshold whose FAR
        is at most that. None, all of them, where there is no positive pair, or no negative one.
        And how many pairs of both kinds there are, an example that asked with each other one.
    """
    counts = {
        "num_positive_pairs": int(pairs.positive.sum()),
        "num_negative_pairs": int(pairs.negative.sum()),
    }
    if not all(counts.values()):
        return {**dict.fromkeys(VERIFICATION), **counts}
    far, tar = pairs.roc()
    # FAR - (1 - TAR) rises from -1 to 1: between which thresholds does it pass 0, and where there?
    excess = far + tar - 1
    after = int(np.argmax(excess >= 0))
    before = after - 1
    share = -excess[before] / (excess[after] - excess[before])
    return {
        "roc_auc": float(np.sum(np.diff(far) * (tar[1:] + tar[:-1]) / 2)),
        "eer": float(far[before] + share * (far[after] - far[before])),
        "tar_at_far_1e-2": float(tar[np.searchsorted(far, 1e-2, side="right") - 1]),
        "tar_at_far_1e-3": float(tar[np.searchsorted(far, 1e-3, side="right") - 1]),
        **counts,
    }
