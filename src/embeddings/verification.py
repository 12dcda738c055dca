"""Verification metrics: do distances separate positive from negative pairs? ROC AUC, EER, TAR@FAR.

A pair is accepted as positive (same class) if its distance is at most a threshold. The true accept
rate (TAR) is the share of positive pairs accepted. The false accept rate (FAR) is the share of
negative pairs accepted. All pairs are counted in narrow distance bins. Pairs are not sampled and
not stored.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from src.params.metric_names import VERIFICATION

# Float32 values >= 0 have the same order as their bits. The last 11 bits are dropped, so distances
# share a bin only if they differ by less than 1 part in 4096.
_DROPPED_BITS = 11
# The bins cover the 48 powers of two below 4, so that a vector may be a million times longer than
# the others. Smaller distances count as 0.
_NUM_POWERS = 48
_LOWEST = (127 + 2 - _NUM_POWERS) << (23 - _DROPPED_BITS)
_NUM_BINS = _NUM_POWERS << (23 - _DROPPED_BITS)


class PairCounts:
    """Counts positive and negative pairs by squared distance.

    Attributes:
        positive: int64 [bins], ascending distance.
        negative: int64 [bins], ascending distance.
    """

    def __init__(self) -> None:
        """Start without pairs."""
        # The additional bin is for infinite distances (of an example to itself).
        self._all = np.zeros(_NUM_BINS + 1, np.int64)
        self._positive = np.zeros(_NUM_BINS + 1, np.int64)
        self._lock = threading.Lock()

    @property
    def positive(self) -> NDArray[np.int64]:
        """Number of positive pairs in each bin."""
        return self._positive[:-1]

    @property
    def negative(self) -> NDArray[np.int64]:
        """Number of negative pairs in each bin."""
        return (self._all - self._positive)[:-1]

    def add(self, distances: NDArray[np.float32], is_positive: NDArray[np.bool_]) -> None:
        """Count some pairs. Thread-safe.

        Args:
            distances: float32 [r, G], squared, in [0, 4) or infinite.
            is_positive: bool [r, G].
        """
        bins = distances.view(np.int32).reshape(-1) >> _DROPPED_BITS
        bins -= _LOWEST
        np.clip(bins, 0, _NUM_BINS, out=bins)
        first = int(bins.min(initial=_NUM_BINS))  # most chunks have distances of few powers of two
        bins -= first
        of_all = np.bincount(bins)
        of_positive = np.bincount(bins[np.flatnonzero(is_positive)])
        with self._lock:
            self._all[first : first + len(of_all)] += of_all
            self._positive[first : first + len(of_positive)] += of_positive

    @staticmethod
    def upper_edge(bin_index: int) -> float:
        """Return the largest squared distance that the bin holds, in the scale of `add`."""
        bits = np.array(((bin_index + _LOWEST + 1) << _DROPPED_BITS) - 1, np.int32)
        return float(bits.view(np.float32))

    @staticmethod
    def bin_of(squared: float) -> int:
        """Return the index of the bin of a squared distance, in the scale of `add`.

        It is the first bin for all smaller distances and the last one for all larger distances.
        """
        bits = np.array(min(squared, PairCounts.upper_edge(_NUM_BINS - 1)), np.float32)
        return max(int(bits.view(np.int32) >> _DROPPED_BITS) - _LOWEST, 0)

    def roc(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return FAR and TAR at every threshold, ascending from (0, 0) to (1, 1)."""
        used = self._all[:-1] > 0
        far, tar = (
            np.concatenate([[0.0], np.cumsum(counts[used]) / max(int(counts.sum()), 1)])
            for counts in (self.negative, self.positive)
        )
        return far, tar


def verification_metrics(pairs: PairCounts) -> dict[str, float | int | None]:
    """Return how well the distance separates positive from negative pairs.

    All metrics are None if there are no positive or no negative pairs.

    Args:
        pairs: the counts.

    Returns:
        `roc_auc`: the probability that a positive pair is nearer than a negative pair; a tie counts
        half. `eer`: the rate at which FAR equals 1 - TAR, interpolated linearly between thresholds.
        `tar_at_far_1e-2` and `tar_at_far_1e-3`: TAR at the largest threshold whose FAR is at most
        1e-2 or 1e-3. Also the numbers of positive and negative pairs; each query forms a pair with
        every other example.
    """
    counts = {
        "num_positive_pairs": int(pairs.positive.sum()),
        "num_negative_pairs": int(pairs.negative.sum()),
    }
    if not all(counts.values()):
        return {**dict.fromkeys(VERIFICATION), **counts}
    far, tar = pairs.roc()
    # FAR - (1 - TAR) rises from -1 to 1. Find the two thresholds between which it crosses 0.
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
