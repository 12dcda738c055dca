"""Finds distance thresholds for verification on one split and measures them on other splits.

A pair of images is accepted as one class if its distance is at most the threshold. All pairs of a
split have been counted in narrow bins of distance (`src.embeddings.verification`). The bins of two
splits differ only by a power of two, so a bin's edge is an exact threshold for every split.

Definitions of FAR, TAR and EER: ISO/IEC 19795-1. The results are JSON objects, as in metrics.json.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.distance import DISTANCES
from src.embeddings.metrics import Search
from src.embeddings.retrieval import Unsearched
from src.embeddings.search import scale_exponent, visit_distances
from src.embeddings.verification import PairCounts
from src.mining.distances import comparable, from_squared

FALSE_ACCEPT_RATES = {"1e-1": 10, "1e-2": 100, "1e-3": 1000, "1e-4": 10_000}
"""The false accept rates, by name: one pair in this many."""


class CountedPairs(NamedTuple):
    """The pairs of a split, counted by distance.

    Attributes:
        counts: the pairs, by squared distance of `comparable` vectors, divided by 4^exponent.
        exponent: see `src.embeddings.search.scale_exponent`.
        num_distinct_negatives: the number of different negative pairs, at least. If two examples
            are both queries, `counts` has their pair twice.
    """

    counts: PairCounts
    exponent: int
    num_distinct_negatives: int


def counted_pairs(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int32],
    asking: NDArray[np.intp],
    distance: str,
    euclidean: PairCounts | None = None,
    search: Search | None = None,
) -> CountedPairs:
    """Count all pairs of a query and another example of its split.

    Args:
        embeddings: float32 [N, D], N > 0.
        labels: int32 [N].
        asking: int [Q], the positions of the queries.
        distance: a key of `src.distance.DISTANCES`.
        euclidean: these counts by Euclidean distance, if they are known. They are reused unless
            the distance compares directions.
        search: who searches what in the split, if not every example searches all others; then
            `asking` is its own.

    Returns:
        The counts.
    """
    if DISTANCES[distance].compares_directions:
        finite = np.nan_to_num(embeddings).astype(np.float64)
        embeddings = comparable(finite, distance).astype(np.float32)
        euclidean = None
    queries, query_labels = embeddings[asking], labels[asking]
    own, groups = asking, None
    if search is not None:
        embeddings, labels = embeddings[search.gallery], labels[search.gallery]
        own, groups = search.own, search.groups
    counts = PairCounts() if euclidean is None else euclidean
    if euclidean is None:
        hidden = Unsearched.of(own, query_labels, labels, groups)

        def count(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
            hidden.hide(rows, distances)
            counts.add(distances, query_labels[rows, None] == labels)

        visit_distances(queries, embeddings, count, own=hidden.visited_own)
    exponent = scale_exponent(queries, embeddings)
    number = int(counts.negative.sum())
    # A pair of two queries counts twice if each is searched by the other.
    of_both = query_labels if search is None else query_labels[search.own >= 0]
    sizes = np.unique(of_both, return_counts=True)[1].astype(np.int64)
    num_twice = (len(of_both) ** 2 - int((sizes**2).sum())) // 2
    return CountedPairs(counts, exponent, max(-(-number // 2), number - num_twice))


def find_thresholds(
    pairs: Mapping[str, CountedPairs],
    distance: str,
    num_dimensions: int,
    *,
    measured_on: str = "validation",
) -> dict[str, Any]:
    """Find thresholds on one split and measure them on every split.

    Args:
        pairs: of each split; the first thresholds come from `measured_on`.
        distance: a key of `src.distance.DISTANCES`; thresholds are in its unit.
        num_dimensions: D.
        measured_on: the split that defines the thresholds.

    Returns:
        The object `thresholds` of metrics.json, see docs/metrics.md. In `at`, each entry has a
        `threshold` and, by split, `far`, `tar`, `precision` and `f1`. If a threshold cannot be
        found, it is None and `why` says the reason. A rate without pairs to count is None.
    """
    source = pairs[measured_on]
    at: dict[str, Any] = {}
    for name, chosen in _chosen_bins(source, measured_on).items():
        if isinstance(chosen, str):
            at[name] = {"threshold": None, "why": chosen}
            continue
        squared = np.ldexp(PairCounts.upper_edge(chosen), 2 * source.exponent)
        at[name] = {
            "threshold": float(from_squared(squared, distance, num_dimensions)),
            **{
                split: _rates(
                    of_split.counts,
                    PairCounts.bin_of(float(np.ldexp(squared, -2 * of_split.exponent))),
                )
                for split, of_split in pairs.items()
            },
        }
    return {
        "distance": distance,
        "measured_on": measured_on,
        "num_positive_pairs": int(source.counts.positive.sum()),
        "num_negative_pairs": int(source.counts.negative.sum()),
        "at": at,
    }


def _chosen_bins(pairs: CountedPairs, split: str) -> dict[str, int | str]:
    """Return for each threshold its bin, the last one that is accepted, or why there is none."""
    names = (*(f"far_{name}" for name in FALSE_ACCEPT_RATES), "eer", "best_f1")
    counts = pairs.counts
    num_positive, num_negative = int(counts.positive.sum()), int(counts.negative.sum())
    for kind, number in (("positive", num_positive), ("negative", num_negative)):
        if number == 0:
            return dict.fromkeys(names, f"{split} has no {kind} pair")
    used = np.flatnonzero(counts.positive + counts.negative)
    accepted = np.cumsum(counts.positive[used])  # true accepts of each threshold
    false_accepts = np.cumsum(counts.negative[used])
    chosen: dict[str, int | str] = {}
    for name, one_in in FALSE_ACCEPT_RATES.items():
        is_allowed = false_accepts * one_in <= num_negative
        if pairs.num_distinct_negatives < one_in:
            chosen[f"far_{name}"] = (
                f"a rate of {name} needs {one_in} different negative pairs; {split} has "
                f"{pairs.num_distinct_negatives}"
            )
        elif not is_allowed[0]:
            chosen[f"far_{name}"] = (
                f"the smallest distance alone accepts more than {name} of the negative pairs"
            )
        else:
            chosen[f"far_{name}"] = int(used[np.flatnonzero(is_allowed)[-1]])
    misses = num_positive - accepted
    gaps = np.abs(false_accepts / num_negative - misses / num_positive)
    chosen["eer"] = int(used[np.argmin(gaps)])
    f1 = 2 * accepted / (accepted + false_accepts + num_positive)
    chosen["best_f1"] = int(used[np.argmax(f1)])
    return {name: chosen[name] for name in names}


def _rates(counts: PairCounts, last_bin: int) -> dict[str, float | None]:
    """Return the rates if all pairs up to a bin are accepted; None if there is nothing to count."""
    num_positive, num_negative = int(counts.positive.sum()), int(counts.negative.sum())
    true_accepts, false_accepts = (
        int(kind[: last_bin + 1].sum()) for kind in (counts.positive, counts.negative)
    )

    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "far": share(false_accepts, num_negative),
        "tar": share(true_accepts, num_positive),
        "precision": share(true_accepts, true_accepts + false_accepts),
        "f1": share(2 * true_accepts, true_accepts + false_accepts + num_positive)
        if num_positive
        else None,
    }
