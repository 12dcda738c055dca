"""NMI and AMI of k-means."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from src.clustering import MAX_ROUNDS, NUM_RUNS, clustering_metrics


def blobs(spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(120) % 4).astype(np.int32)
    centres = 10 * rng.normal(size=(4, 5))
    return (centres[labels] + spread * rng.normal(size=(120, 5))).astype(np.float32), labels


def test_clusters_that_are_the_classes():
    assert clustering_metrics(*blobs(0.01)) == pytest.approx({"nmi": 1, "ami": 1})


def test_labels_of_chance():
    points, labels = blobs(0.01)
    found = clustering_metrics(points, np.random.default_rng(0).permutation(labels))
    assert abs(found["ami"]) < 0.05
    assert found["nmi"] > found["ami"]  # chance alone has some


def test_as_scikit_learn():
    points, labels = blobs(8)
    clusters = KMeans(4, n_init=NUM_RUNS, max_iter=MAX_ROUNDS, random_state=0).fit_predict(points)
    assert clustering_metrics(points, labels) == {
        "nmi": normalized_mutual_info_score(labels, clusters),
        "ami": adjusted_mutual_info_score(labels, clusters),
    }


def test_nmi_by_hand():
    # Two clusters of two, labels a a and a b: H(label) = H(3/4), H(cluster) = log 2.
    points = np.array([[0], [0.1], [9], [9.1]], np.float32)
    found = clustering_metrics(points, np.array([0, 0, 0, 1], np.int32))
    entropy = -(3 / 4 * np.log(3 / 4) + 1 / 4 * np.log(1 / 4))
    mutual = 1 / 2 * np.log(4 / 3) + 1 / 4 * np.log(2 / 3) + 1 / 4 * np.log(2)
    assert found["nmi"] == pytest.approx(mutual / ((entropy + np.log(2)) / 2))


def test_always_the_same():
    assert clustering_metrics(*blobs(8)) == clustering_metrics(*blobs(8))


def test_one_class_and_nothing():
    points, labels = blobs(1)
    assert clustering_metrics(points, np.zeros_like(labels)) == {"nmi": 0, "ami": 0}
    assert clustering_metrics(points[:0], labels[:0]) == {"nmi": 0, "ami": 0}


def test_a_collapse_makes_one_cluster_without_a_warning(recwarn):
    points, labels = blobs(1)
    assert clustering_metrics(np.ones_like(points), labels) == {"nmi": 0, "ami": 0}
    assert len(recwarn) == 0


def test_what_is_not_finite_ends_in_figures():
    points, labels = blobs(1)
    points[0] = np.nan
    points[1] = np.inf
    assert all(np.isfinite(value) for value in clustering_metrics(points, labels).values())
