"""Pairs by distance, against scikit-learn's ROC and numbers worked by hand."""

import numpy as np
import pytest
from lazily import Lazy

from src.embeddings.retrieval import rank_gallery
from src.embeddings.verification import PairCounts, verification_metrics
from src.params.metric_names import VERIFICATION

metrics = Lazy("sklearn.metrics")


def of_pairs(found):
    """The metrics alone, without the counts of pairs."""
    return {name: found[name] for name in VERIFICATION}


def counts(positive, negative):
    """The counts of pairs whose squared distances are given."""
    pairs = PairCounts()
    distances = np.array([*positive, *negative], np.float32)
    pairs.add(distances[None], np.arange(len(distances))[None] < len(positive))
    return pairs


def all_pairs(points, labels):
    """Whether each ordered pair of different examples is positive, and its squared distance."""
    first, second = np.nonzero(~np.eye(len(points), dtype=bool))
    differences = points[first].astype(np.float64) - points[second]
    return labels[first] == labels[second], np.sum(differences**2, axis=1)


def reference(is_positive, distances):
    far, tar, _ = metrics.roc_curve(is_positive, -distances, drop_intermediate=False)
    # The crossing of FAR and 1 - TAR, on a fine grid of the straight lines between thresholds
    grid = np.linspace(0, 1, 2_000_001)
    along = grid * (len(far) - 1)
    fars = np.interp(along, np.arange(len(far)), far)
    tars = np.interp(along, np.arange(len(far)), tar)
    return {
        "roc_auc": metrics.roc_auc_score(is_positive, -distances),
        "eer": fars[np.argmin(np.abs(fars - (1 - tars)))],
        "tar_at_far_1e-2": max(t for f, t in zip(far, tar, strict=True) if f <= 1e-2),
        "tar_at_far_1e-3": max(t for f, t in zip(far, tar, strict=True) if f <= 1e-3),
    }


@pytest.mark.parametrize("seed", range(3))
def test_with_ties_as_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, 80).astype(np.int32)
    points = (rng.integers(-4, 5, (80, 3)) + rng.integers(-3, 4, (5, 3))[labels]).astype(np.float32)
    found = verification_metrics(rank_gallery(points, labels, count_pairs=True).pairs)
    is_positive, distances = all_pairs(points, labels)
    assert of_pairs(found) == pytest.approx(reference(is_positive, distances), abs=1e-5)
    assert found["num_positive_pairs"] == is_positive.sum()
    assert found["num_negative_pairs"] == (~is_positive).sum()
    assert found["roc_auc"] == pytest.approx(
        reference(*all_pairs(points, labels))["roc_auc"], abs=1e-12
    )


def test_without_ties_as_scikit_learn_to_the_width_of_the_bins():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 150).astype(np.int32)
    points = (rng.normal(size=(150, 6)) + rng.normal(size=(4, 6))[labels]).astype(np.float32)
    found = verification_metrics(rank_gallery(points, labels, count_pairs=True).pairs)
    assert of_pairs(found) == pytest.approx(reference(*all_pairs(points, labels)), abs=1e-3)
    expected = reference(*all_pairs(points, labels))["roc_auc"]
    assert found["roc_auc"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("length", [1e2, 1e4, 1e5])
def test_one_vector_that_is_much_longer_than_the_others(length):
    """Its scale is that of all distances, and the others' must still be told apart."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 150).astype(np.int32)
    points = (rng.normal(size=(150, 6)) + rng.normal(size=(4, 6))[labels]).astype(np.float32)
    points[0] *= length
    found = verification_metrics(rank_gallery(points, labels, count_pairs=True).pairs)
    expected = reference(*all_pairs(points, labels))
    assert of_pairs(found) == pytest.approx(expected, abs=2e-3)
    assert found["roc_auc"] == pytest.approx(expected["roc_auc"], abs=1e-4)


def test_opposite_vectors_are_a_pair():
    """Twice a length just below a power of two: squared and as float32, it rounds to the limit."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2, dtype=np.int32), 3)
    for _ in range(50):
        direction = rng.normal(size=64)
        direction /= np.linalg.norm(direction)
        points = np.where(labels[:, None] == 0, direction, -direction).astype(np.float32)
        found = verification_metrics(rank_gallery(points, labels, count_pairs=True).pairs)
        assert found["num_negative_pairs"] == 18 and found["roc_auc"] == 1


def test_a_gallery_counts_all_pairs_with_it():
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(2, 30, 4)).astype(np.float32)
    labels = (np.arange(30) % 3).astype(np.int32)
    pairs = rank_gallery(queries, labels, gallery, labels, count_pairs=True).pairs
    assert (pairs.positive.sum(), pairs.negative.sum()) == (300, 600)


def test_by_hand():
    # Positive pairs at 1, 2, 4, negative ones at 2, 3: nearer are 1 < 2, 1 < 3, 2 < 3; 2 = 2 half.
    found = verification_metrics(counts([1, 2, 3.5], [2, 3]))
    assert found["roc_auc"] == pytest.approx((1 + 1 + 1 + 1 / 2) / 6)
    # Thresholds 1, 2, 3, 3.5: FAR 0, 1/2, 1, 1 and TAR 1/3, 2/3, 2/3, 1. From (0, 1/3) to
    # (1/2, 2/3) FAR + TAR - 1 goes from -2/3 to 1/6: it is 0 after 4/5 of the way, at FAR 2/5.
    assert found["eer"] == pytest.approx(2 / 5)
    assert found["tar_at_far_1e-2"] == pytest.approx(1 / 3)


def test_tar_at_a_far_of_exactly_that():
    # One negative of a hundred is nearer than the second positive: FAR 1/100 is allowed.
    found = verification_metrics(counts([0.1, 0.3], [0.2] + 99 * [1.0]))
    assert found["tar_at_far_1e-2"] == 1
    assert found["tar_at_far_1e-3"] == 1 / 2


def test_perfect_and_collapsed():
    perfect = verification_metrics(counts([0, 0.5], [1, 2, 3]))
    assert of_pairs(perfect) == {"roc_auc": 1, "eer": 0, "tar_at_far_1e-2": 1, "tar_at_far_1e-3": 1}
    found = verification_metrics(counts([0, 0], [0, 0, 0]))
    collapsed = {"roc_auc": 0.5, "eer": 0.5, "tar_at_far_1e-2": 0, "tar_at_far_1e-3": 0}
    assert found == {**collapsed, "num_positive_pairs": 2, "num_negative_pairs": 3}


@pytest.mark.parametrize(("positive", "negative"), [([], []), ([1], []), ([], [1])])
def test_without_pairs_of_both_kinds_nothing_is_defined(positive, negative):
    found = verification_metrics(counts(positive, negative))
    assert of_pairs(found) == dict.fromkeys(VERIFICATION)
    assert found["num_positive_pairs"] == len(positive)
    assert found["num_negative_pairs"] == len(negative)


def test_an_infinite_distance_is_no_pair():
    pairs = counts([1, np.inf], [2, np.inf])
    assert (pairs.positive.sum(), pairs.negative.sum()) == (1, 1)


def test_bins_are_narrow():
    # One part in 2048 apart, over many magnitudes: all told apart.
    near = np.geomspace(1e-6, 3.9, 2000)
    assert verification_metrics(counts(near, near * (1 + 1 / 2048)))["roc_auc"] > 0.5
    for distance in (1e-6, 1e-3, 1, 3.9):
        found = verification_metrics(counts([distance], [distance * (1 + 1 / 2048)]))
        assert found["roc_auc"] == 1
