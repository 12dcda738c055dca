"""Thresholds for pairs, against loops over all pairs in the distance's own unit."""

import numpy as np
import pytest

from src.distance import DISTANCES
from src.embeddings.retrieval import rank_gallery
from src.embeddings.thresholds import counted_pairs, find_thresholds
from src.embeddings.verification import PairCounts
from src.mining.distances import paired_distances

NAMES = ("far_1e-1", "far_1e-2", "far_1e-3", "far_1e-4", "eer", "best_f1")


def split_of(size, num_classes=3, *, scale=1.0, seed=0, noise=0.6, offset=0.0):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(num_classes, 4))
    labels = rng.integers(num_classes, size=size).astype(np.int32)
    points = centers[labels] + noise * rng.normal(size=(size, 4)) + offset
    return (scale * points).astype(np.float32), labels


def counted(split, distance, asking=None):
    embeddings, labels = split
    asking = np.arange(len(labels)) if asking is None else asking
    return counted_pairs(embeddings, labels, asking, distance)


def all_pairs(split, distance):
    """Distance of each ordered pair of different examples, and whether it is positive."""
    embeddings, labels = split
    first, second = np.nonzero(~np.eye(len(labels), dtype=bool))
    distances = paired_distances(embeddings[first], embeddings[second], distance)
    return distances, labels[first] == labels[second]


def rates(split, distance, threshold):
    """The definitions, by loops."""
    true_accepts = false_accepts = positives = negatives = 0
    for apart, is_positive in zip(*all_pairs(split, distance), strict=True):
        positives += is_positive
        negatives += not is_positive
        true_accepts += is_positive and apart <= threshold
        false_accepts += not is_positive and apart <= threshold
    misses = positives - true_accepts
    accepts = true_accepts + false_accepts
    return {
        "far": false_accepts / negatives,
        "tar": true_accepts / positives,
        "precision": true_accepts / accepts if accepts else None,
        "f1": 2 * true_accepts / (2 * true_accepts + false_accepts + misses),
    }


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("scale", [1.0, 37.0])
def test_rates_are_those_of_the_threshold_on_every_split(distance, scale):
    # The other splits are larger, shifted or reach farther: their bins are of other powers of two.
    splits = {
        "validation": split_of(60, scale=scale),
        "test": split_of(50, scale=scale, seed=1, noise=3.0),
        "unseen": split_of(40, scale=scale, seed=2, noise=0.05, offset=9.0),
    }
    pairs = {name: counted(split, distance) for name, split in splits.items()}
    found = find_thresholds(pairs, distance, 4)
    assert tuple(found["at"]) == NAMES
    assert found["distance"] == distance and found["measured_on"] == "validation"
    distances, is_positive = all_pairs(splits["validation"], distance)
    assert found["num_positive_pairs"] == is_positive.sum()
    assert found["num_negative_pairs"] == (~is_positive).sum()
    for name in ("far_1e-1", "far_1e-2", "far_1e-3", "eer", "best_f1"):
        threshold = found["at"][name]["threshold"]
        for split in splits:
            expected = rates(splits[split], distance, threshold)
            assert found["at"][name][split] == pytest.approx(expected, abs=1e-12), (name, split)
    if not DISTANCES[distance].compares_directions:
        assert len({of_split.exponent for of_split in pairs.values()}) > 1


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_thresholds_are_the_best_by_their_definitions(distance):
    split = split_of(70, seed=3)
    found = find_thresholds({"validation": counted(split, distance)}, distance, 4)["at"]
    distances, is_positive = all_pairs(split, distance)
    tried = {d: rates_fast(distances, is_positive, d) for d in np.unique(distances)}
    narrow = 1 / 4096  # the relative width of a bin of squared distances

    for name, rate in (("far_1e-1", 0.1), ("far_1e-2", 0.01)):
        largest = max(d for d, (far, _, _) in tried.items() if far <= rate)
        assert found[name]["threshold"] == pytest.approx(largest, rel=3 * narrow)
        assert found[name]["validation"]["far"] <= rate
    gap = min(abs(far - (1 - tar)) for far, tar, _ in tried.values())
    eer = found["eer"]["validation"]
    assert abs(eer["far"] - (1 - eer["tar"])) == pytest.approx(gap, abs=1e-3)
    assert found["best_f1"]["validation"]["f1"] == pytest.approx(
        max(f1 for _, _, f1 in tried.values()), abs=1e-3
    )


def rates_fast(distances, is_positive, threshold):
    accepted = distances <= threshold
    far, tar = accepted[~is_positive].mean(), accepted[is_positive].mean()
    true_accepts = (accepted & is_positive).sum()
    return far, tar, 2 * true_accepts / (accepted.sum() + is_positive.sum())


def on_a_line(places, labels):
    return np.array(places, np.float32)[:, None], np.array(labels, np.int32)


def test_by_hand():
    # Distances: 1 within class 0, 2 within class 1; between the classes 4, 6, 3, 5.
    split = on_a_line([0, 1, 4, 6], [0, 0, 1, 1])
    at = find_thresholds({"validation": counted(split, "euclidean")}, "euclidean", 1)["at"]
    assert 2 <= at["eer"]["threshold"] < 2.001
    assert at["eer"]["validation"] == {"far": 0, "tar": 1, "precision": 1, "f1": 1}
    assert at["best_f1"] == at["eer"]
    assert at["far_1e-1"] == {
        "threshold": None,
        "why": "a rate of 1e-1 needs 10 different negative pairs; validation has 4",
    }


def test_with_overlap_by_hand():
    # Positive at 3 (0 to 3), and at 1 (10 to 11); a negative at 0 twice. With 14 negative pairs,
    # one may be accepted at 1e-1, but two are at the smallest distance.
    split = on_a_line([0, 3, 10, 11, 0, 0], [0, 0, 1, 1, 2, 3])
    at = find_thresholds({"validation": counted(split, "euclidean")}, "euclidean", 1)["at"]
    assert at["far_1e-1"]["threshold"] is None
    assert at["far_1e-1"]["why"] == (
        "the smallest distance alone accepts more than 1e-1 of the negative pairs"
    )
    # F1 at 0, 1, 3: 0, 2 * 1 / (4 + 2), ... with 3 and its negatives at 3 (two from 2 and 3)
    assert at["best_f1"]["validation"]["f1"] == pytest.approx(
        max(
            f1
            for d in (0, 1, 3, 20)
            for _, _, f1 in [rates_fast(*all_pairs(split, "euclidean"), d)]
        )
    )


def test_a_rate_of_exactly_that_is_allowed():
    # A hundred different negative pairs, one nearer than the positive: FAR 1/100.
    pairs = PairCounts()
    distances = np.array([0.1, 0.3, 0.2] + 99 * [1.0], np.float32)
    for _ in range(2):  # each pair counts twice
        pairs.add(distances[None], np.arange(102)[None] < 2)
    source = counted(split_of(5), "euclidean")._replace(
        counts=pairs, exponent=0, num_distinct_negatives=100
    )
    at = find_thresholds({"validation": source}, "squared_euclidean", 1)["at"]
    assert at["far_1e-2"]["validation"]["far"] == 0.01
    assert at["far_1e-2"]["validation"]["tar"] == 1
    assert 0.3 <= at["far_1e-2"]["threshold"] < 0.3001
    assert at["far_1e-3"]["threshold"] is None


def test_an_exact_threshold_does_not_accept_the_next_distance():
    # 4 is the lower edge of a bin: the threshold below must exclude it, in float64 too.
    split = on_a_line([0, np.sqrt(3.9995), 20, 24, 0, 0], [0, 0, 1, 1, 2, 3])
    found = find_thresholds({"validation": counted(split, "euclidean")}, "euclidean", 1)
    threshold = found["at"]["eer"]["threshold"]
    assert rates(split, "euclidean", threshold) == pytest.approx(
        found["at"]["eer"]["validation"], abs=0
    )


@pytest.mark.parametrize(
    ("labels", "kind"), [([0, 1, 2], "positive"), ([0, 0, 0], "negative"), ([0], "positive")]
)
def test_without_pairs_of_both_kinds_no_threshold(labels, kind):
    split = on_a_line(range(len(labels)), labels)
    found = find_thresholds({"validation": counted(split, "euclidean")}, "euclidean", 1)
    for name in NAMES:
        assert found["at"][name] == {"threshold": None, "why": f"validation has no {kind} pair"}


def test_another_split_without_pairs_of_a_kind_has_no_rate():
    pairs = {
        "validation": counted(split_of(40), "euclidean"),
        "test": counted(split_of(10, num_classes=1), "euclidean"),
    }
    of_test = find_thresholds(pairs, "euclidean", 4)["at"]["eer"]["test"]
    assert of_test["far"] is None
    assert of_test["tar"] > 0 and of_test["precision"] == 1
    pairs["test"] = counted(on_a_line([0, 1000], [0, 1]), "euclidean")
    of_test = find_thresholds(pairs, "euclidean", 4)["at"]["eer"]["test"]
    assert of_test == {"far": 0, "tar": None, "precision": None, "f1": None}


def test_all_at_one_point():
    split = np.zeros((60, 4), np.float32), (np.arange(60) % 3).astype(np.int32)
    at = find_thresholds({"validation": counted(split, "euclidean")}, "euclidean", 4)["at"]
    assert at["far_1e-1"]["threshold"] is None
    assert at["eer"]["validation"]["far"] == at["eer"]["validation"]["tar"] == 1


def test_pairs_that_a_ranking_has_counted_are_reused_unless_directions_are_compared():
    embeddings, labels = split_of(50)
    asking = np.arange(0, 50, 2)
    pairs = rank_gallery(
        embeddings[asking], labels[asking], embeddings, labels, own=asking, count_pairs=True
    ).pairs
    assert counted_pairs(embeddings, labels, asking, "mean_squared", pairs).counts is pairs
    again = counted_pairs(embeddings, labels, asking, "mean_squared")
    np.testing.assert_array_equal(again.counts.positive, pairs.positive)
    np.testing.assert_array_equal(again.counts.negative, pairs.negative)
    by_direction = counted_pairs(embeddings, labels, asking, "cosine", pairs)
    assert not np.array_equal(by_direction.counts.negative, pairs.negative)
    is_asking = np.isin(np.arange(50), asking)
    different = sum(
        labels[i] != labels[j] and bool(is_asking[i] or is_asking[j])
        for i in range(50)
        for j in range(i)
    )
    assert by_direction.num_distinct_negatives == again.num_distinct_negatives == different


def test_bins_and_their_edges():
    for squared in (1e-6, 0.3, 1.0, 2.0, 3.99):
        index = PairCounts.bin_of(squared)
        assert PairCounts.upper_edge(index - 1) < squared <= PairCounts.upper_edge(index)
        assert PairCounts.bin_of(PairCounts.upper_edge(index)) == index
        one = PairCounts()
        one.add(np.array([[squared]], np.float32), np.array([[True]]))
        assert np.flatnonzero(one.positive).tolist() == [index]
    assert PairCounts.bin_of(0.0) == PairCounts.bin_of(1e-30) == 0
    assert PairCounts.bin_of(4.0) == PairCounts.bin_of(1e300) == PairCounts.bin_of(3.9999999)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, 1e-45])
def test_numbers_of_any_size(distance, value):
    embeddings, labels = split_of(60)
    embeddings[::3] = value
    embeddings[::7, 1] = -value
    pairs = {name: counted((embeddings, labels), distance) for name in ("validation", "test")}
    at = find_thresholds(pairs, distance, 4)["at"]["best_f1"]
    assert np.isfinite(at["threshold"])
    assert at["validation"] == at["test"]
