"""Verdicts from neighbours: also in galleries with classes enrolled after the calibration."""

import json

import numpy as np
import pytest

from src.embeddings.metrics import Embedded, query_indices
from src.embeddings.open_gallery import OpenGallery
from src.embeddings.open_set import UNKNOWN
from src.embeddings.open_set_evaluation import evaluate_open_set
from src.embeddings.thresholds import counted_pairs, find_thresholds
from src.errors import UserError
from src.gallery.verdict import Calibration, decide, score


def clusters(centers, size, *, seed, first_label=0, noise=0.1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(centers), size=size).astype(np.int32)
    points = centers[labels] + noise * rng.normal(size=(size, centers.shape[1]))
    return Embedded(points.astype(np.float32), labels + np.int32(first_label))


CENTERS = np.eye(16)  # all equally far apart
KNOWN, STRANGERS, ENROLLED = CENTERS[:6], CENTERS[6:14], CENTERS[14:]


@pytest.fixture(scope="module")
def metrics():
    splits = {
        "train": clusters(KNOWN, 300, seed=1),
        "validation": clusters(KNOWN, 200, seed=2),
        "test": clusters(KNOWN, 200, seed=3),
        "unseen": clusters(STRANGERS, 400, seed=4, first_label=6),
    }
    pairs = {
        name: counted_pairs(*split, query_indices(split.labels), "euclidean")
        for name, split in splits.items()
        if name != "train"
    }
    return {
        "open_set": evaluate_open_set(splits, "euclidean"),
        "thresholds": find_thresholds(pairs, "euclidean", 16),
    }


@pytest.fixture(scope="module")
def calibration(metrics):
    return Calibration.from_metrics(metrics, "metrics.json")


def verdicts(calibration, gallery, queries, rate="1e-2"):
    found = OpenGallery(*gallery, calibration.distance)
    nearest = found.with_radius(found.nearest(queries))
    threshold = calibration.threshold(rate)
    assert threshold is not None
    return decide(calibration, nearest, threshold, found.nearest_means(queries))


@pytest.mark.parametrize("class_by", ["votes", "class_mean"])
@pytest.mark.parametrize("name", ["nearest", "class", "nearest_ratio", "class_ratio"])
def test_known_and_unknown_and_enrolled_with_one_picture(metrics, name, class_by):
    gallery = clusters(KNOWN, 300, seed=1)
    unknown = clusters(STRANGERS, 400, seed=4).embeddings
    calibration = Calibration.from_metrics(metrics, "metrics.json")
    found = OpenGallery(*gallery, "euclidean")
    calibration = Calibration(**{**calibration.to_json(), "score": name, "class_by": class_by})
    threshold = float(np.quantile(score(calibration, found.nearest(unknown)), 0.01))
    calibration = Calibration(**{**calibration.to_json(), "at": {"1e-2": {"threshold": threshold}}})

    queries = clusters(KNOWN, 100, seed=5)
    assert np.mean(verdicts(calibration, gallery, queries.embeddings) == queries.labels) > 0.95
    strangers = clusters(ENROLLED, 100, seed=6, first_label=14)
    assert np.mean(verdicts(calibration, gallery, strangers.embeddings) == UNKNOWN) > 0.9
    # One picture of each of two classes: four of the five neighbours are of other classes.
    enrolled = Embedded(
        np.concatenate([gallery.embeddings, ENROLLED.astype(np.float32)]),
        np.append(gallery.labels, [14, 15]).astype(np.int32),
    )
    found = verdicts(calibration, enrolled, strangers.embeddings)
    assert np.mean(found == strangers.labels) > 0.95
    still = verdicts(calibration, enrolled, queries.embeddings)
    assert np.mean(still == queries.labels) > 0.95


def test_without_a_threshold_nothing_is_rejected(calibration):
    found = OpenGallery(*clusters(KNOWN, 300, seed=1), "euclidean")
    far = np.full((3, 16), 50, np.float32)
    nearest = found.with_radius(found.nearest(far))
    by_mean = found.nearest_means(far)
    assert (decide(calibration, nearest, None, by_mean) != UNKNOWN).all()
    assert (decide(calibration, nearest, 0.01, by_mean) == UNKNOWN).all()


def test_a_query_at_the_threshold_is_accepted(calibration):
    found = OpenGallery(*clusters(KNOWN, 300, seed=1), "euclidean")
    queries = clusters(KNOWN, 20, seed=7).embeddings
    nearest = found.with_radius(found.nearest(queries))
    by_mean = found.nearest_means(queries)
    of_queries = score(calibration, nearest)
    middle = float(np.sort(of_queries)[10])
    accepted = decide(calibration, nearest, middle, by_mean) != UNKNOWN
    np.testing.assert_array_equal(accepted, of_queries <= middle)
    assert accepted.sum() == 11


def test_class_means_must_be_given_if_they_decide(calibration):
    by_mean = Calibration(**{**calibration.to_json(), "class_by": "class_mean"})
    found = OpenGallery(*clusters(KNOWN, 30, seed=1), "euclidean")
    nearest = found.with_radius(found.nearest(KNOWN.astype(np.float32)))
    with pytest.raises(ValueError, match="by_mean: found None"):
        decide(by_mean, nearest, None)


def test_from_metrics_to_json_and_back(metrics, calibration):
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())), "gallery.sqlite")
    assert again == calibration
    assert list(calibration.at) == ["1e-1", "1e-2", "1e-3"]
    assert list(calibration.verification) == ["1e-1", "1e-2", "1e-3", "1e-4", "eer", "best_f1"]
    eer = metrics["thresholds"]["at"]["eer"]["threshold"]
    assert calibration.verification["eer"] == eer > 0
    at = metrics["open_set"]["at"]
    assert calibration.threshold("1e-2") == at["fpir_1e-2"]["threshold"] > 0
    assert calibration.threshold("1e-3") is None  # 200 strangers
    with pytest.raises(UserError, match="rate: found '0.5'; accepted: 1e-1, 1e-2, 1e-3"):
        calibration.threshold("0.5")


def test_damaged_calibrations_are_refused(calibration):
    values = calibration.to_json()
    with pytest.raises(UserError, match=r"g.sqlite: calibration: found other keys \(k, more\)"):
        Calibration.from_json(
            {**{k: v for k, v in values.items() if k != "k"}, "more": 1}, "g.sqlite"
        )
    for key in ("score", "class_by"):
        with pytest.raises(
            UserError, match=rf"g.sqlite: calibration: {key}: found 'x'; accepted: "
        ):
            Calibration.from_json({**values, key: "x"}, "g.sqlite")


@pytest.mark.parametrize("left_out", ["open_set", "thresholds"])
def test_an_experiment_of_before_is_refused(metrics, left_out):
    with pytest.raises(UserError, match="experiments/x/metrics.json: found no open_set and thresh"):
        Calibration.from_metrics({**metrics, left_out: None}, "experiments/x/metrics.json")
