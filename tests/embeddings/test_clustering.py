"""NMI and AMI of k-means."""

import numpy as np
import pytest
from lazily import Lazy

from src.embeddings import clustering
from src.embeddings.clustering import MAX_ROUNDS, NUM_RUNS, clustered_indices, clustering_metrics

cluster, metrics = Lazy("sklearn.cluster"), Lazy("sklearn.metrics")


def blobs(spread, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(120) % 4).astype(np.int32)
    centres = 10 * rng.normal(size=(4, 5))
    return (centres[labels] + spread * rng.normal(size=(120, 5))).astype(np.float32), labels


def counts(num_examples, num_classes):
    return {"num_clustered": num_examples, "num_clustered_classes": num_classes}


def test_clusters_that_are_the_classes():
    found = clustering_metrics(*blobs(0.01))
    assert found == pytest.approx({"nmi": 1, "ami": 1, **counts(120, 4)})


def test_labels_of_chance():
    points, labels = blobs(0.01)
    found = clustering_metrics(points, np.random.default_rng(0).permutation(labels))
    assert abs(found["ami"]) < 0.05
    assert found["nmi"] > found["ami"]  # chance alone has some


def test_as_scikit_learn():
    points, labels = blobs(8)
    clusters = cluster.KMeans(4, n_init=NUM_RUNS, max_iter=MAX_ROUNDS, random_state=0).fit_predict(
        points
    )
    assert clustering_metrics(points, labels) == {
        "nmi": metrics.normalized_mutual_info_score(labels, clusters),
        "ami": metrics.adjusted_mutual_info_score(labels, clusters),
        **counts(120, 4),
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
    one = clustering_metrics(points, np.zeros_like(labels))
    assert one == {"nmi": None, "ami": None, **counts(120, 1)}
    nothing = clustering_metrics(points[:0], labels[:0])
    assert nothing == {"nmi": None, "ami": None, **counts(0, 0)}


def test_classes_of_one():
    points, labels = blobs(1)
    found = clustering_metrics(points, np.arange(120, dtype=np.int32))
    assert found == {"nmi": None, "ami": None, **counts(120, 120)}
    labels[:119] = np.arange(119) + 10  # one pair is enough
    labels[119] = labels[118]
    assert clustering_metrics(points, labels)["nmi"] > 0


def test_of_more_than_500_classes_500_are_clustered():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(700), 3)).astype(np.int32)
    chosen = clustered_indices(labels)
    np.testing.assert_array_equal(chosen, clustered_indices(labels))
    classes, sizes = np.unique(labels[chosen], return_counts=True)
    assert len(classes) == 500 and (sizes == 3).all()  # whole classes
    assert (np.diff(chosen) > 0).all() and not np.array_equal(classes, np.arange(500))
    points = (100 * rng.normal(size=(700, 16))[labels] + rng.normal(size=(2100, 16))).astype("f4")
    found = clustering_metrics(points, labels)
    assert found == clustering_metrics(points[chosen], labels[chosen])
    assert found == {"nmi": found["nmi"], "ami": found["ami"], **counts(1500, 500)}
    assert found["ami"] > 0.8


def test_classes_of_one_are_clustered_last_of_all():
    """Where nearly all are, a few that are not would else be missed."""
    labels = np.append(np.arange(5000), np.repeat([6000, 6001], 4)).astype(np.int32)
    chosen = clustered_indices(labels)
    assert set(range(5000, 5008)) <= set(chosen.tolist())
    assert len(np.unique(labels[chosen])) == 500


def test_of_many_examples_a_stratified_sample_is_clustered(monkeypatch):
    monkeypatch.setattr(clustering, "MAX_EXAMPLES", 40)
    points, labels = blobs(8)
    chosen = clustered_indices(labels)
    assert np.bincount(labels[chosen]).tolist() == [10] * 4
    found = clustering_metrics(points, labels)
    assert found == clustering_metrics(points[chosen], labels[chosen])
    assert found["num_clustered"] == 40


def test_a_collapse_makes_one_cluster_without_a_warning(recwarn):
    points, labels = blobs(1)
    found = clustering_metrics(np.ones_like(points), labels)
    assert found == {"nmi": 0, "ami": 0, **counts(120, 4)}
    assert len(recwarn) == 0


def test_what_is_not_finite_ends_in_figures():
    points, labels = blobs(1)
    points[0] = np.nan
    points[1] = np.inf
    assert all(np.isfinite(value) for value in clustering_metrics(points, labels).values())
