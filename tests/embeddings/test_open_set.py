"""Known queries and strangers, against loops from the definitions and numbers worked by hand."""

import json
from itertools import cycle

import numpy as np
import pytest

from src.distance import DISTANCES
from src.embeddings.metrics import Embedded
from src.embeddings.open_gallery import OpenGallery
from src.embeddings.open_set import SCORES, Nearest, scores, voted_labels
from src.embeddings.open_set_evaluation import (
    Queries,
    auroc,
    evaluate_open_set,
    measure,
    threshold_at,
)
from src.mining.distances import paired_distances


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


def spreads_by_loop(gallery, distance):
    """The mean distance to the nearest other picture of each class; NaN for a single picture."""
    spreads = {}
    for label in np.unique(gallery.labels):
        x = gallery.embeddings[gallery.labels == label]
        to_nearest = [
            paired_distances(one[None], np.delete(x, i, axis=0), distance).min(initial=np.inf)
            for i, one in enumerate(x)
        ]
        spreads[label] = np.mean(to_nearest) if len(x) > 1 else np.nan
    return spreads


def neighbours_by_loop(query, gallery, distance, without=None):
    """All that `Nearest` has of one query, from the definitions."""
    kept = np.flatnonzero(gallery.labels != without)
    apart = paired_distances(query[None], gallery.embeddings[kept], distance)
    order = sorted(range(len(kept)), key=lambda i: (apart[i], gallery.labels[kept[i]], kept[i]))
    nearest = kept[order[0]]
    label = gallery.labels[nearest]
    of_class = sorted(apart[gallery.labels[kept] == label])[:5]
    others = apart[gallery.labels[kept] != label]
    around = np.delete(
        paired_distances(gallery.embeddings[nearest][None], gallery.embeddings, distance), nearest
    )
    spreads = spreads_by_loop(gallery, distance)
    usual = np.nanpercentile(list(spreads.values()), 90)
    return {
        "positions": [kept[i] for i in order[:5]],
        "labels": [gallery.labels[kept[i]] for i in order[:5]],
        "distances": [apart[i] for i in order[:5]],
        "of_class": np.mean(of_class),
        "other": min(others, default=np.inf),
        "radius": np.mean(sorted(around)[:5]),
        "spread": [np.fmax(1, spreads[gallery.labels[kept[i]]] / usual) for i in order[:5]],
    }


@pytest.mark.parametrize("distance", DISTANCES)
def test_neighbours_against_loops(distance):
    gallery = embedded(60, range(4), seed=5)
    gallery.labels[7] = 17  # a class of one picture
    queries = embedded(30, range(4), seed=6)
    queries.embeddings[0] = gallery.embeddings[7]  # the same picture
    found = OpenGallery(*gallery, distance)
    everything, without = found.nearest_and_without(*queries)
    for of_loop, nearest in ((None, everything), (queries.labels, without)):
        nearest = found.with_radius(nearest)
        for row, query in enumerate(queries.embeddings):
            left_out = None if of_loop is None else of_loop[row]
            expected = neighbours_by_loop(query, gallery, distance, left_out)
            for name, value in expected.items():
                np.testing.assert_allclose(
                    getattr(nearest, name)[row], value, rtol=2e-5, atol=1e-6, err_msg=name
                )
    alone = found.nearest(queries.embeddings)
    for name in ("positions", "labels", "distances", "of_class", "other"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(everything, name))
    assert everything.distances[0, 0] == everything.of_class[0] == 0


def test_a_class_left_out_of_few_pictures():
    gallery = Embedded(np.array([[0], [1], [2], [9]], np.float32), np.array([0, 0, 0, 1], np.int32))
    queries = np.array([[0.4], [8.0]], np.float32)
    found, without = OpenGallery(*gallery, "euclidean").nearest_and_without(
        queries, np.array([0, 1], np.int32)
    )
    assert found.labels.tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert without.labels.tolist() == [[1], [0]]  # without class 0 a single picture is left
    np.testing.assert_allclose(without.distances, [[8.6], [6]], rtol=1e-6)
    assert np.isinf(without.other).all()
    np.testing.assert_allclose(found.of_class, [(0.4 + 0.6 + 1.6) / 3, 1], rtol=1e-6)


def test_a_gallery_of_one_picture():
    found = OpenGallery(np.ones((1, 2), np.float32), np.array([3], np.int32), "euclidean")
    nearest = found.with_radius(found.nearest(np.array([[1, 2]], np.float32)))
    assert nearest.labels.tolist() == [[3]] and nearest.distances.tolist() == [[1.0]]
    assert nearest.of_class.tolist() == [1.0]
    assert np.isinf(nearest.other).all() and np.isinf(nearest.radius).all()
    assert scores("nearest_ratio", nearest).tolist() == [0.0]  # nothing else it could be


def by_hand(labels, distances, of_class, other, radius, spread=None):
    shape = np.array(labels, np.int32)
    return Nearest(
        np.zeros(shape.shape, np.intp),
        shape,
        np.array(distances, float),
        *(np.array(values, float) for values in (of_class, other, radius)),
        np.ones(shape.shape) if spread is None else np.array(spread, float),
    )


def test_a_class_that_spreads_wider_is_found_farther_away():
    wide = [[1, 4], [4, 1]]  # the second neighbour of the first query is of a sparse class
    nearest = by_hand([[0, 1], [1, 0]], [[2, 3], [2, 3]], [2, 2], [9, 9], [1, 1], spread=wide)
    assert scores("nearest", nearest).tolist() == [0.75, 0.5]
    assert voted_labels("nearest", nearest, 2.5).tolist() == [1, 1]


@pytest.mark.parametrize("distance", DISTANCES)
def test_spreads_against_loops(distance):
    gallery = embedded(60, range(4), seed=5)
    gallery.labels[7] = 17  # a class of one picture
    found = OpenGallery(*gallery, distance)
    spreads = list(spreads_by_loop(gallery, distance).values())
    usual = np.nanpercentile(spreads, 90)
    assert found.usual_spread == pytest.approx(usual, rel=1e-5)
    of_query = found.nearest(gallery.embeddings[[7, 0]]).spread
    own = spreads[np.searchsorted(np.unique(gallery.labels), gallery.labels[0])]
    np.testing.assert_allclose(of_query[:, 0], [1, max(1, own / usual)], rtol=1e-5)


def test_without_spread_every_class_counts_alike():
    same = OpenGallery(np.ones((4, 2), np.float32), np.array([0, 0, 1, 1], np.int32), "euclidean")
    assert same.usual_spread is None
    assert same.nearest(np.zeros((1, 2), np.float32)).spread.tolist() == [[1, 1, 1, 1]]


def test_scores_by_hand():
    nearest = by_hand(
        [[0, 1], [0, 0], [1, 0]], [[2, 4], [0, 0], [3, 3]], [3, 0, 3], [4, 0, 0], [2, 0, np.inf]
    )
    expected = {
        "nearest": [2, 0, 3],
        "class": [3, 0, 3],
        "nearest_ratio": [0.5, 0, np.inf],  # 0 / 0 is the same picture: 0
        "class_ratio": [0.75, 0, np.inf],
        "class_density": [1.5, 0, 0],
    }
    assert expected.keys() == SCORES.keys()
    for name, values in expected.items():
        assert scores(name, nearest).tolist() == values, name


def test_only_neighbours_within_the_threshold_vote():
    # A class of one picture beside four of another, farther away.
    enrolled = by_hand([[7, 1, 1, 1, 2]], [[0.2, 0.4, 0.4, 0.5, 0.6]], [0.2], [0.4], [1])
    assert voted_labels("nearest", enrolled, 0.3).tolist() == [7]
    assert voted_labels("nearest", enrolled, 0.5).tolist() == [7]  # 0.6 against 0.2 + 0.2 + 0
    assert voted_labels("nearest", enrolled, 0.8).tolist() == [1]  # 0.75 against 0.5 + 0.5 + 0.375
    assert voted_labels("nearest", enrolled, np.inf).tolist() == [1]
    assert voted_labels("nearest", enrolled, 0.1).tolist() == [7]  # none counts: the nearest one
    # By ratio, the distances are relative to the other class at 0.4: 0.5, 1, 1, 1.25, 1.5
    assert voted_labels("nearest_ratio", enrolled, 1.0).tolist() == [7]
    assert voted_labels("nearest_ratio", enrolled, 2.0).tolist() == [1]  # 0.75 against 0.5 + ...
    tie = by_hand([[5, 4, 4, 5]], [[1, 1, 1, 1]], [1], [1], [1])
    assert voted_labels("nearest", tie, 2.0).tolist() == [5]  # the one that comes first
    # By ratio to another class at 0, all are infinitely far; without a threshold all vote alike.
    beyond = by_hand([[5, 4, 4]], [[1, 1, 1]], [1], [0], [1])
    assert voted_labels("nearest_ratio", beyond, np.inf).tolist() == [4]
    same = by_hand([[5, 4, 4]], [[0, 0, 0]], [0], [1], [1])
    assert voted_labels("nearest", same, 0.0).tolist() == [4]


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
@pytest.mark.parametrize(("distance", "unseen"), zip(DISTANCES, cycle([True, False])))
def test_an_evaluation_against_loops(distance, unseen):
    splits = splits_of(unseen=unseen)
    found = evaluate_open_set(splits, distance)
    assert found["why"] is None
    usual = np.percentile(list(spreads_by_loop(splits["train"], distance).values()), 90)
    assert found["gallery"] == {
        "split": "train",
        "num_images": 150,
        "num_classes": 6,
        "usual_spread": pytest.approx(usual, rel=1e-5),
    }
    assert found["calibrated_on"] == ("unseen classes" if unseen else "known classes")
    score, gallery = found["score"], splits["train"]
    usable = [value for name, value in found["auroc_by_score"].items() if SCORES[name].for_few]
    assert found["auroc_by_score"][score] == max(usable) and SCORES[score].for_few

    def of_loop(query, without=None):
        one = neighbours_by_loop(query, gallery, distance, without)
        nearest = Nearest(*(np.array([one[name]]) for name in Nearest._fields))
        return nearest, scores(score, nearest)[0]

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
        if found["class_by"] == "votes":
            named = voted_labels(score, nearest, at["threshold"])[0]
        else:
            named = OpenGallery(*gallery, distance).nearest_means(query[None])[0]
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
        is_calibrating = after["auroc_by_score"] != before["auroc_by_score"]
        assert is_reported != is_calibrating or after["score"] != before["score"]
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
    # The means are 2 and 5.95. All four pictures vote, two for each class; class 0 is nearer.
    places = np.array([[2.0], [4.0]], np.float32)
    far = gallery.nearest(1000 + np.arange(20, dtype=np.float32)[:, None])
    for labels, better, right_by in (
        ([0, 1], "class_mean", {"votes": 0.5, "class_mean": 1}),
        ([1, 0], "votes", {"votes": 0.5, "class_mean": 0}),
        ([0, 0], "votes", {"votes": 1, "class_mean": 0.5}),
    ):
        queries = Queries(
            gallery.nearest(places),
            np.array(labels, np.int32),
            gallery.nearest_means(places),
            far,
        ).with_radius(gallery)
        found = measure(queries, queries, gallery)
        assert (found["class_by"], found["right_by"]) == (better, right_by)
        assert found["dir_at_fpir_1e-1"] == right_by[better]


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


def test_all_at_one_point_has_no_threshold():
    splits = {
        name: Embedded(np.zeros_like(split.embeddings), split.labels)
        for name, split in splits_of().items()
    }
    found = evaluate_open_set(splits, "euclidean")
    assert found["auroc"] == 0.5 and found["score"] == "nearest"
    assert found["at"]["fpir_1e-1"]["threshold"] is None
    json.dumps(found, allow_nan=False)


def test_a_gallery_of_one_class_has_no_strangers_without_unseen_classes():
    splits = {name: embedded(20, [0], seed=7) for name in ("train", "validation", "test")}
    found = evaluate_open_set(splits, "euclidean")
    assert found["why"] == "the calibration has no stranger"
    assert found["auroc"] is None and set(found["auroc_by_score"].values()) == {None}
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
