"""Verdicts from neighbours: also in galleries with classes enrolled after the calibration."""

import json
from dataclasses import replace

import numpy as np
import pytest

from src.embeddings.metrics import Embedded, query_indices
from src.embeddings.open_set_evaluation import evaluate_open_set
from src.embeddings.thresholds import counted_pairs, find_thresholds
from src.errors import UserError
from src.gallery.judge import Judge
from src.gallery.record import Embeddings
from src.gallery.snapshot import Snapshot
from src.gallery.verdict import Calibration


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


def pictures(*parts):
    """The parts as a gallery."""
    labels = np.concatenate([part.labels for part in parts])
    known = np.unique(labels)
    return Embeddings(
        np.arange(len(labels)),
        np.searchsorted(known, labels).astype(np.int32),
        tuple(map(str, known)),
        np.concatenate([part.embeddings for part in parts]),
        0,
    )


def verdicts(calibration, gallery, queries, far=0.01):
    """The class names of queries."""
    snapshot = Snapshot(
        gallery, calibration.distance, calibration.size_factors, calibration.whitening
    )
    found = Judge(calibration).decide(snapshot, queries, far)
    return np.array([verdict.class_name or "unknown" for verdict in found])


@pytest.mark.parametrize("class_by", ["nearest", "class_mean"])
def test_known_and_unknown_and_enrolled_with_one_picture(calibration, class_by):
    calibration = replace(calibration, class_by=class_by)
    known = clusters(KNOWN, 300, seed=1)
    queries = clusters(KNOWN, 100, seed=5)
    right = verdicts(calibration, pictures(known), queries.embeddings) == queries.labels.astype(str)
    assert np.mean(right) > 0.95
    strangers = clusters(ENROLLED, 100, seed=6, first_label=14)
    found = verdicts(calibration, pictures(known), strangers.embeddings)
    assert np.mean(found == "unknown") > 0.9
    one = Embedded(ENROLLED.astype(np.float32), np.array([14, 15], np.int32))
    found = verdicts(calibration, pictures(known, one), strangers.embeddings)
    assert np.mean(found == strangers.labels.astype(str)) > 0.95
    still = verdicts(calibration, pictures(known, one), queries.embeddings)
    assert np.mean(still == queries.labels.astype(str)) > 0.95


def test_without_factors_a_class_of_one_picture_is_found_less_often(calibration):
    known = clusters(KNOWN, 300, seed=1)
    one = Embedded(ENROLLED.astype(np.float32) + 0.25, np.array([14, 15], np.int32))
    strangers = clusters(ENROLLED, 300, seed=6, first_label=14)
    without = replace(calibration, size_factors=None, why_no_size_factors="a reason")
    shares = [
        np.mean(
            verdicts(one_of, pictures(known, one), strangers.embeddings)
            == strangers.labels.astype(str)
        )
        for one_of in (calibration, without)
    ]
    assert shares[0] > shares[1]
    assert Judge(without).description.endswith("found less often: a reason")
    assert "less often" not in Judge(calibration).description


def test_a_query_at_the_threshold_is_accepted(calibration):
    gallery = pictures(clusters(KNOWN, 300, seed=1))
    queries = clusters(KNOWN, 20, seed=7).embeddings
    snapshot = Snapshot(
        gallery, calibration.distance, calibration.size_factors, calibration.whitening
    )
    of_queries = snapshot.nearest_classes(queries).scores
    middle = float(np.sort(of_queries)[10])
    found = verdicts(replace(calibration, at={"1e-2": {"threshold": middle}}), gallery, queries)
    np.testing.assert_array_equal(found != "unknown", of_queries <= middle)
    assert np.sum(found != "unknown") == 11


def test_the_threshold_of_an_answer_is_for_the_size_of_its_class(calibration):
    known = clusters(KNOWN, 300, seed=1)
    one = Embedded(ENROLLED.astype(np.float32), np.array([14, 15], np.int32))
    snapshot = Snapshot(pictures(known, one), "euclidean", calibration.size_factors)
    (verdict,) = Judge(calibration).decide(snapshot, ENROLLED[:1].astype(np.float32) + 0.01, 0.01)
    factor = calibration.size_factors["1"]
    assert verdict.threshold == pytest.approx(factor * calibration.at["1e-2"]["threshold"])
    assert verdict.distance == pytest.approx(0.04, rel=1e-3)


def test_a_missing_threshold_has_its_reason(calibration):
    judge = Judge(calibration)
    with pytest.raises(UserError, match=r"found 0.001 \(a rate of 1e-3 needs 1000 strangers"):
        judge.threshold(0.001)
    few = {"threshold": None, "why": "validation has no positive pair"}
    pairs = Judge(replace(calibration, verification={"1e-2": few}))
    with pytest.raises(
        UserError, match=r"found 0.01 \(validation has no positive pair\); accepted: none was meas"
    ):
        pairs.pair_threshold(0.01)


def test_from_metrics_to_json_and_back(metrics, calibration):
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())), "gallery.sqlite")
    assert again == calibration
    assert list(calibration.at) == ["1e-1", "1e-2", "1e-3"]
    assert list(calibration.verification) == ["1e-1", "1e-2", "1e-3", "1e-4"]
    pairs = metrics["thresholds"]["at"]
    for rate, found in calibration.verification.items():
        assert found["threshold"] == pairs[f"far_{rate}"]["threshold"]
    assert calibration.verification["1e-2"]["threshold"] > 0
    assert calibration.verification["1e-4"]["why"] == pairs["far_1e-4"].get("why")
    at = metrics["open_set"]["at"]
    assert calibration.at["1e-2"]["threshold"] == at["fpir_1e-2"]["threshold"] > 0
    assert calibration.at["1e-3"]["threshold"] is None  # 200 strangers


def test_damaged_calibrations_are_refused(calibration):
    values = calibration.to_json()
    with pytest.raises(UserError, match=r"g.sqlite: calibration: found other keys \(sc.*rebuild"):
        older = {key: value for key, value in values.items() if key != "whitening"}
        Calibration.from_json({**older, "score": "nearest"}, "g.sqlite")
    with pytest.raises(UserError, match=r"g.sqlite: calibration: class_by: found 'x'; accepted: "):
        Calibration.from_json({**values, "class_by": "x"}, "g.sqlite")


@pytest.mark.parametrize("left_out", ["open_set", "thresholds"])
def test_an_experiment_of_before_is_refused(metrics, left_out):
    with pytest.raises(UserError, match="experiments/x/metrics.json: found no open_set and thresh"):
        Calibration.from_metrics({**metrics, left_out: None}, "experiments/x/metrics.json")


def test_an_experiment_of_another_version_is_refused(metrics):
    open_set = {
        name: value for name, value in metrics["open_set"].items() if name != "size_factors"
    }
    with pytest.raises(UserError, match=r"without metrics.json, train.py evaluates"):
        Calibration.from_metrics({**metrics, "open_set": open_set}, "metrics.json")
