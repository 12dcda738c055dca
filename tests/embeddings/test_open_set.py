"""Known queries and strangers, against loops from the definitions and numbers worked by hand."""

import json
from itertools import cycle

import numpy as np
import pytest

from src.distance import DISTANCES
from src.embeddings.class_distance import factors_of
from src.embeddings.metrics import Embedded
from src.embeddings.open_gallery import OpenGallery
from src.embeddings.open_set import Nearest
from src.embeddings.open_set_evaluation import (
    Queries,
    _histograms,
    auroc,
    evaluate_open_set,
    measure,
    threshold_at,
)
from src.mining.distances import comparable, paired_distances


def embedded(size, classes, *, seed=0, noise=0.5, dimensions=4):
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(20, dimensions))
    labels = rng.choice(classes, size).astype(np.int32)
    points = centers[labels] + noise * rng.normal(size=(size, dimensions))
    return Embedded(points.astype(np.float32), labels)


def splits_of(*, unseen=True, size=120, **options):
    known, strangers = range(6), range(6, 14)
    found = {
        "train": embedded(150, known, seed=1, **options),
        "validation": embedded(size, known, seed=2, **options),
        "test": embedded(size, known, seed=3, **options),
    }
    if unseen:
        found["unseen"] = embedded(2 * size, strangers, seed=4, **options)
    return found


FACTORS = {"1": 3.0, "2": 2.5, "20": 1.0}


def factor_by_hand(size):
    """Between the sizes of FACTORS, linear in logarithms."""
    if size >= 20:
        return 1.0
    if size <= 2:
        return 3.0 if size == 1 else 2.5
    return 2.5 ** (np.log(20 / size) / np.log(10))


def scores_by_loop(query, gallery, distance, factor=factor_by_hand, without=None):
    """The score of each class, from the definitions."""
    found = {}
    for label in np.unique(gallery.labels):
        x = gallery.embeddings[gallery.labels == label]
        count = min(5, int(np.ceil(len(x) / 4)))
        nearest = np.sort(paired_distances(query[None], x, distance))[:count]
        if label != without:
            found[label] = nearest.mean() / factor(len(x))
    return found


@pytest.mark.parametrize("distance", DISTANCES)
def test_the_nearest_class_against_loops(distance):
    gallery = embedded(60, range(4), seed=5)
    gallery.labels[7] = 17  # a class of one picture
    gallery.labels[8:10] = 18
    queries = embedded(40, range(4), seed=6)
    queries.embeddings[0] = gallery.embeddings[7]  # the same picture
    queries.embeddings[1:4] += 0.2 * gallery.embeddings[8]
    found = OpenGallery(*gallery, distance)
    found.factors = FACTORS
    every, without = found.nearest_and_without(*queries)
    for of_loop, nearest in ((None, every), (queries.labels, without)):
        for row, query in enumerate(queries.embeddings):
            left_out = None if of_loop is None else of_loop[row]
            expected = scores_by_loop(query, gallery, distance, without=left_out)
            label = min(expected, key=expected.get)
            assert nearest.labels[row] == label
            np.testing.assert_allclose(nearest.scores[row], expected[label], rtol=2e-5, atol=1e-6)
            factor = factor_by_hand((gallery.labels == label).sum())
            np.testing.assert_allclose(nearest.factors[row], factor)
    alone = found.nearest(queries.embeddings)
    for name in Nearest._fields:
        np.testing.assert_array_equal(getattr(alone, name), getattr(every, name))
    assert every.labels[0] == 17 and every.distances[0] == 0
    assert len(set(every.labels)) >= 3


def test_a_class_of_few_pictures_is_found_farther_away():
    gallery = Embedded(
        np.array([[0], *20 * [[10]]], np.float32), np.array([0, *20 * [1]], np.int32)
    )
    found = OpenGallery(*gallery, "euclidean")
    query = np.array([[6.0]], np.float32)
    assert found.nearest(query).labels.tolist() == [1]  # at 4, the other at 6
    found.factors = FACTORS
    (label,), (distance,), (factor,) = found.nearest(query)
    assert (label, distance, factor) == (0, pytest.approx(6), pytest.approx(3))
    assert found.nearest(query).scores == pytest.approx([2])


def test_the_factors_are_those_of_the_gallery():
    """Of three equal classes: half of a class is as dense as half of another."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), 200)
    x = (rng.normal(size=(600, 3)) + 100 * labels[:, None]).astype(np.float32)
    queries = (rng.normal(size=(600, 3)) + 100 * labels[:, None]).astype(np.float32)
    factors, why = OpenGallery(x, labels, "euclidean").measure_factors(queries, labels)
    assert why is None and factors["200"] == 1
    # In D dimensions the distance to the nearest grows like n^(-1/D).
    assert 1.15 < factors["50"] < 4 ** (1 / 3) + 0.1
    assert list(factors) == ["1", "2", "5", "10", "20", "50", "100", "200"]
    squared, _ = OpenGallery(x, labels, "squared_euclidean").measure_factors(queries, labels)
    assert squared["50"] > factors["50"] ** 1.5


@pytest.mark.parametrize("seed", range(3))
def test_auroc_against_all_pairs(seed):
    rng = np.random.default_rng(seed)
    known, strangers = rng.integers(0, 9, 40) / 4, rng.integers(3, 12, 30) / 4
    strangers[0] = np.inf
    expected = np.mean([(k < s) + 0.5 * (k == s) for k in known for s in strangers])
    assert auroc(known, strangers) == pytest.approx(expected)
    assert auroc(known, known) == 0.5
    assert auroc(known, strangers[:0]) is None
    assert auroc(known[:0], strangers) is None


def test_a_threshold_by_hand():
    ten = np.array([3.0, 1, 2, 4, 5, 6, 7, 8, 9, 10])
    assert threshold_at(ten, 10, "1e-1") == 1
    assert threshold_at(np.tile(ten, 2) + np.repeat([0, 0.5], 10), 10, "1e-1") == 1.5
    assert threshold_at(ten[:9], 10, "1e-1") == "a rate of 1e-1 needs 10 strangers; there are 9"
    tied = np.array([1.0, 1, 2, 4, 5, 6, 7, 8, 9, 10])
    assert threshold_at(tied, 10, "1e-1") == (
        "the smallest score alone accepts more than 1e-1 of the strangers"
    )
    # Two of twenty are allowed, but the second and third tie: the first alone.
    assert threshold_at(np.array([1.0, 2, 2, *range(3, 20)]), 10, "1e-1") == 1
    assert threshold_at(np.array([1.0, *9 * [np.inf]]), 10, "1e-1") == 1
    assert isinstance(threshold_at(np.full(10, np.inf), 10, "1e-1"), str)


# The loops are slow: each distance once, and each of the two protocols with two of them.
@pytest.mark.parametrize(("distance", "unseen"), list(zip(DISTANCES, cycle([True, False]))))
def test_an_evaluation_against_loops(distance, unseen):
    splits = splits_of(unseen=unseen)
    found = evaluate_open_set(splits, distance)
    assert found["why"] is None
    assert found["gallery"] == {"split": "train", "num_images": 150, "num_classes": 6}
    assert found["calibrated_on"] == ("unseen classes" if unseen else "known classes")
    names = {"as they are", "whitened"} if unseen else {"whitened"}
    measured = found["auroc_by_coordinates"]
    assert measured.keys() == names
    is_whitened = found["whitening"] is not None
    assert measured["whitened" if is_whitened else "as they are"] == max(measured.values())
    factors, whitening, gallery = found["size_factors"], found["whitening"], splits["train"]
    assert factors["1"] > factors["5"] >= 1

    def moved(x):
        if whitening is None:
            return x
        vectors = comparable(x.astype(float), distance)
        return (vectors @ np.array(whitening)).astype(np.float32)

    # What is whitened is compared as it is; a cosine distance is then half of the square.
    kind = "squared_euclidean" if whitening and distance == "cosine" else distance
    half = 0.5 if whitening and distance == "cosine" else 1.0
    there = Embedded(moved(gallery.embeddings), gallery.labels)

    def of_loop(query, without=None):
        x = moved(query[None])[0]
        every = scores_by_loop(
            x, there, kind, lambda n: factors_of(np.array([n]), factors)[0] / half, without
        )
        label = min(every, key=every.get)
        return label, every[label]

    known = [of_loop(query) for query in splits["test"].embeddings]
    if unseen:  # the reported half is not known here, but both halves together are all of them
        total = found["num_strangers"] + found["num_strangers_in_calibration"]
        assert total == len(splits["unseen"].labels)
        assert found["num_strangers"] > 30 and found["num_strangers_in_calibration"] > 30
    else:
        strangers = [of_loop(*both)[1] for both in zip(*splits["test"], strict=True)]
        expected = np.mean([(k < s) + 0.5 * (k == s) for _, k in known for s in strangers])
        assert found["auroc"] == pytest.approx(expected, abs=1e-3)
    at = found["at"]["fpir_1e-1"]
    num_allowed = found["num_strangers_in_calibration"] // 10
    expected_fpir = num_allowed / found["num_strangers_in_calibration"]
    assert at["calibration"]["fpir"] == pytest.approx(expected_fpir)
    right = 0
    for (nearest, of_query), query, label in zip(known, *splits["test"], strict=True):
        named = nearest
        if found["class_by"] == "class_mean":
            named = OpenGallery(*gallery, distance, whitening).nearest_means(query[None])[0]
        right += of_query <= at["threshold"] and named == label
    assert at["reported"]["dir"] == pytest.approx(right / len(known), abs=1.5 / len(known))
    assert found["dir_at_fpir_1e-1"] == at["reported"]["dir"]
    json.dumps(found, allow_nan=False)


def test_reported_strangers_are_of_other_classes_than_those_that_calibrate():
    splits = splits_of()
    before = evaluate_open_set(splits, "euclidean")
    # Each class in turn moves far away: this changes either the calibration or the report.
    changed = {"calibration": 0, "reported": 0}
    for label in np.unique(splits["unseen"].labels):
        moved = splits["unseen"].embeddings.copy()
        moved[splits["unseen"].labels == label] += 100
        after = evaluate_open_set(
            {**splits, "unseen": Embedded(moved, splits["unseen"].labels)}, "euclidean"
        )
        is_reported = after["auroc"] != before["auroc"]
        is_calibrating = after["auroc_by_coordinates"] != before["auroc_by_coordinates"]
        assert is_reported != is_calibrating or after["whitening"] != before["whitening"]
        changed["calibration" if is_calibrating else "reported"] += 1
    assert changed == {"calibration": 4, "reported": 4}


def test_rates_need_strangers_enough():
    found = evaluate_open_set(splits_of(size=60), "euclidean")
    assert found["num_strangers_in_calibration"] < 100
    for rate, needed in (("fpir_1e-2", 100), ("fpir_1e-3", 1000)):
        at = found["at"][rate]
        assert at["threshold"] is None
        assert at["why"].startswith(f"a rate of {rate[5:]} needs {needed} strangers; there are ")
        assert at["reported"] == at["calibration"] == {"fpir": None, "dir": None}
        assert found[f"dir_at_{rate}"] is None
    assert found["at"]["fpir_1e-1"]["threshold"] is not None


def test_the_better_way_to_a_class_is_kept():
    gallery = OpenGallery(
        np.array([[0], [4], [1.9], [10]], np.float32), np.array([0, 0, 1, 1], np.int32), "euclidean"
    )
    # The means are 2 and 5.95: by means both are of class 0; the nearest pictures are of 1 and 0.
    places = np.array([[1.9], [3.9]], np.float32)
    far = gallery.nearest(1000 + np.arange(20, dtype=np.float32)[:, None])
    for labels, better, right_by in (
        ([0, 0], "class_mean", {"nearest": 0.5, "class_mean": 1}),
        ([1, 0], "nearest", {"nearest": 1, "class_mean": 0.5}),
        ([1, 1], "nearest", {"nearest": 0.5, "class_mean": 0}),
    ):
        queries = Queries(
            gallery.nearest(places),
            np.array(labels, np.int32),
            gallery.nearest_means(places),
            far,
        )
        found = measure(queries, queries)
        assert (found["class_by"], found["right_by"]) == (better, right_by)
        assert found["dir_at_fpir_1e-1"] == right_by[better]


def test_coordinates_are_chosen_by_strangers_if_there_are_any():
    """Strangers that differ where no class varies: whitened, they are told apart better."""
    rng = np.random.default_rng(0)

    def split(size, labels, offset):
        y = rng.choice(labels, size).astype(np.int32)
        x = rng.normal(size=(size, 2)) * [3.0, 0.2] + [[40.0 * (one % 4), 0] for one in y]
        return Embedded((x + [0, offset]).astype(np.float32), y)

    splits = {name: split(200, range(4), 0) for name in ("train", "validation", "test")}
    found = evaluate_open_set({**splits, "unseen": split(400, range(4, 8), 1)}, "euclidean")
    measured = found["auroc_by_coordinates"]
    assert measured["whitened"] > measured["as they are"] and found["whitening"] is not None
    # Strangers that differ where classes vary: as they are.
    aside = split(400, range(4, 8), 0)
    aside.embeddings[:, 0] += 8
    found = evaluate_open_set({**splits, "unseen": aside}, "euclidean")
    measured = found["auroc_by_coordinates"]
    assert measured["whitened"] < measured["as they are"] and found["whitening"] is None


def test_curve_and_histograms_are_of_the_reported_queries():
    found = evaluate_open_set(splits_of(), "euclidean")
    fpir, dir_ = found["curve"]["fpir"], found["curve"]["dir"]
    assert fpir == sorted(set(fpir)) and fpir[0] == pytest.approx(1 / found["num_strangers"])
    assert fpir[-1] == 1 and min(dir_) >= 0 and max(dir_) <= 1
    histograms = found["histograms"]
    assert sum(histograms["known"]) == found["num_known"]
    assert sum(histograms["unknown"]) == found["num_strangers"]
    assert len(histograms["edges"]) == 101 and histograms["edges"][0] == 0
    for at in found["at"].values():
        assert at["threshold"] is None or at["threshold"] <= histograms["edges"][-1]


def test_few_strangers_beside_many_queries_are_not_in_one_bar():
    rng = np.random.default_rng(0)
    known, strangers = rng.normal(0.2, 0.05, 10_000), rng.normal(2.0, 0.4, 40)
    found = _histograms(known, strangers, {"1e-2": 1.0, "1e-3": "too few"})
    assert found["edges"][-1] == pytest.approx(np.quantile(strangers, 0.995))
    assert found["unknown"][-1] <= 2 and sum(found["unknown"]) == 40
    assert _histograms(known, strangers, {"1e-2": 9.0})["edges"][-1] == 9
    assert _histograms(np.full(3, np.inf), np.full(2, np.inf), {})["edges"][-1] == 1


def test_all_at_one_point_has_no_threshold():
    splits = {
        name: Embedded(np.zeros_like(split.embeddings), split.labels)
        for name, split in splits_of().items()
    }
    found = evaluate_open_set(splits, "euclidean")
    assert found["auroc"] == 0.5 and found["whitening"] is None
    assert found["size_factors"] is None and "not 0" in found["why_no_size_factors"]
    assert found["at"]["fpir_1e-1"]["threshold"] is None
    json.dumps(found, allow_nan=False)


def test_a_gallery_of_one_class_has_no_strangers_without_unseen_classes():
    splits = {name: embedded(20, [0], seed=7) for name in ("train", "validation", "test")}
    found = evaluate_open_set(splits, "euclidean")
    assert found["why"] == "the calibration has no stranger"
    assert found["auroc"] is None and set(found["auroc_by_coordinates"].values()) == {None}
    assert found["size_factors"] is None and found["why_no_size_factors"].startswith("found 1 of")
    assert all(at["threshold"] is None for at in found["at"].values())
    assert found["curve"] == {"fpir": [], "dir": []}
    json.dumps(found, allow_nan=False)


def test_splits_without_a_known_class():
    splits = splits_of()
    splits["test"] = embedded(20, [9], seed=8)
    found = evaluate_open_set(splits, "euclidean")
    assert found["why"] == "the report has no known query"
    assert found["auroc"] is None and found["num_known"] == 0
    assert found["at"]["fpir_1e-1"]["reported"]["dir"] is None
    assert found["at"]["fpir_1e-1"]["reported"]["fpir"] is not None
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, 1e-45])
def test_numbers_of_any_size(distance, value):
    splits = splits_of(size=40)
    for split in splits.values():
        split.embeddings[::3] = value
        split.embeddings[::7, 1] = -value
    found = evaluate_open_set(splits, distance)
    assert 0 <= found["auroc"] <= 1
    json.dumps(found, allow_nan=False)
