"""Distances to classes of any size, and the factors of sizes: against loops and hand numbers."""

import numpy as np
import pytest

from src.embeddings.class_distance import (
    factors_of,
    mean_of_nearest,
    measure_factors,
    measured_rows,
    num_compared,
)


def test_a_quarter_of_the_pictures_is_compared():
    assert [num_compared(size) for size in (1, 4, 5, 8, 9, 16, 17, 20, 21, 5000)] == [
        *(1, 1, 2, 2, 3, 4, 5, 5, 5, 5)
    ]
    assert mean_of_nearest(np.array([4.0, 1, 3, 2])) == 1
    assert mean_of_nearest(np.array([4.0, 1, 3, 2, 9])) == 1.5
    assert mean_of_nearest(np.arange(100.0)[::-1]) == 2


def test_factors_between_sizes_by_hand():
    factors = {"1": 4.0, "4": 2.0, "16": 1.0}
    found = factors_of(np.array([1, 2, 4, 8, 16, 17, 10**6]), factors)
    np.testing.assert_allclose(found, [4, 8**0.5, 2, 2**0.5, 1, 1, 1])
    assert factors_of(np.array([1, 7]), None).tolist() == [1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_factors_against_random_subsets(seed):
    """Against many random subsets, drawn by another generator."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3, dtype=np.int32), 300)
    points = [rng.normal(size=(60, 3)) for _ in range(3)]
    queries = rng.normal(size=(900, 3))
    apart = [np.linalg.norm(points[c] - x, axis=1) for x, c in zip(queries, labels, strict=True)]
    factors, why = measure_factors(labels, apart)
    assert why is None
    assert list(factors) == ["1", "2", "5", "10", "20", "50", "60"]
    assert factors["60"] == 1
    assert list(factors.values()) == sorted(factors.values(), reverse=True)
    for few in (1, 2, 5, 10, 20, 50):
        ratios = [
            mean_of_nearest(rng.choice(of_query, few, replace=False)) / mean_of_nearest(of_query)
            for of_query in apart
            for _ in range(5)
        ]
        assert factors[str(few)] == pytest.approx(np.median(ratios), rel=0.12), few


def test_a_factor_never_grows_with_the_size():
    # All of class 0 are at 1; class 1 has a single near picture: medians alone would not fall.
    labels = np.array([0, 0, 0, 1], np.int32)
    apart = [np.ones(10)] * 3 + [np.array([1.0, *9 * [50.0]])]
    factors, _ = measure_factors(labels, apart)
    assert set(factors.values()) == {1.0}


@pytest.mark.parametrize(
    "labels, apart, why",
    [
        ([], [], "0 of the validation split's classes"),
        ([3, 3], [np.ones(5)] * 2, "1 of the validation split's classes"),
        ([1, 2], [np.zeros(5)] * 2, "no validation image"),
        ([1, 2], [np.full(5, np.inf)] * 2, "no validation image"),
    ],
)
def test_what_is_undefined_has_a_reason(labels, apart, why):
    factors, reason = measure_factors(np.array(labels, np.int32), apart)
    assert factors is None and why in reason


def test_classes_of_one_picture():
    factors, why = measure_factors(np.array([0, 1], np.int32), [np.ones(1), np.ones(1)])
    assert (factors, why) == ({"1": 1.0}, None)


def test_measured_rows_are_spread_evenly():
    assert measured_rows(np.zeros(0, np.int32)).tolist() == []
    assert measured_rows(np.zeros(3, np.int32)).tolist() == [0, 1, 2]
    rows = measured_rows(np.zeros(10_000, np.int32))
    assert len(rows) == 2000 and rows[0] == 0 and rows[-1] == 9999
