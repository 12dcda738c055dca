"""The metrics of a split, also against pytorch-metric-learning where that is installed."""

import numpy as np
import pytest

from src import metrics
from src.metric_names import AGAINST_GALLERY, BEST_METRICS, LOWER_IS_BETTER, WITHIN
from src.metrics import (
    Embedded,
    confusion_matrix,
    metrics_against_gallery,
    metrics_within,
    query_indices,
)


def embedded(size, seed=0, *, ties=False, num_classes=6):
    """Embeddings of classes of different sizes; with ties, of whole numbers."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.3, size), num_classes).astype(np.int32)
    points = np.random.default_rng(1).normal(size=(num_classes + 1, 4))[labels]
    points += rng.normal(size=(size, 4))
    return Embedded((np.round(points) if ties else points).astype(np.float32), labels)


def test_the_names_are_those_that_are_stated():
    split, gallery = embedded(60), embedded(80, seed=1)
    assert tuple(metrics_within(split)) == WITHIN
    assert tuple(metrics_against_gallery(split, gallery)[0]) == AGAINST_GALLERY
    assert set(BEST_METRICS) >= LOWER_IS_BETTER
    assert len(set(WITHIN) | set(AGAINST_GALLERY)) == len(WITHIN) + len(AGAINST_GALLERY)


def test_all_are_numbers_from_0_to_1():
    found = {
        **metrics_within(embedded(60)),
        **metrics_against_gallery(embedded(60), embedded(9))[0],
    }
    for name, value in found.items():
        assert type(value) is float and (0 <= value <= 1 or name == "ami"), name


def test_perfect_embeddings():
    labels = (np.arange(40) % 4).astype(np.int32)
    split = Embedded(np.eye(4, dtype=np.float32)[labels], labels)
    assert metrics_within(split) == pytest.approx({**dict.fromkeys(WITHIN, 1.0), "eer": 0.0})
    found, confusions = metrics_against_gallery(split, split)
    assert found == pytest.approx(dict.fromkeys(AGAINST_GALLERY, 1.0))
    assert confusions["knn"].tolist() == (10 * np.eye(4)).tolist()


def test_a_split_is_its_own_gallery_without_itself():
    split = embedded(60)
    itself, _ = metrics_against_gallery(split, split)
    within = metrics_within(split)
    for name in AGAINST_GALLERY[:-1]:
        assert itself[name] == within[f"{name}_within"]
    copy = Embedded(split.embeddings.copy(), split.labels)
    assert metrics_against_gallery(split, copy)[0]["recall_at_1"] == 1  # everyone finds itself


def test_of_a_large_split_a_stratified_subset_asks(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_QUERIES", 30)
    split = embedded(90)
    asking = query_indices(split.labels)
    assert len(asking) == 30 and (np.diff(asking) > 0).all()
    shares = np.bincount(split.labels[asking], minlength=7) / 30
    np.testing.assert_allclose(shares, np.bincount(split.labels, minlength=7) / 90, atol=1 / 30)
    np.testing.assert_array_equal(asking, query_indices(split.labels))
    subset = Embedded(split.embeddings[asking], split.labels[asking])
    assert metrics_within(split) == metrics_within(subset)
    # All of the gallery answers, but the asking one itself.
    against, confusions = metrics_against_gallery(split, split)
    right = 0
    for query in asking:
        distances = np.linalg.norm(split.embeddings - split.embeddings[query], axis=1)
        distances[query] = np.inf
        right += split.labels[distances.argmin()] == split.labels[query]
    assert against["recall_at_1"] == pytest.approx(right / 30)
    assert confusions["knn"].sum() == 30


def test_confusion_matrix_by_hand():
    found = confusion_matrix(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 0]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_accuracies_are_the_share_on_the_diagonal():
    split, gallery = embedded(60, num_classes=4), embedded(80, seed=1)
    found, confusions = metrics_against_gallery(split, gallery)
    for name in ("knn", "class_mean"):
        matrix = confusions[name]
        assert matrix.shape == (7, 7)
        assert matrix.sum(axis=1).tolist() == np.bincount(split.labels, minlength=7).tolist()
        assert found[f"{name}_accuracy"] == pytest.approx(np.trace(matrix) / 60)


@pytest.mark.parametrize("size", [1, 2])
def test_a_split_of_almost_nothing(size):
    split = Embedded(np.zeros((size, 3), np.float32), np.arange(size, dtype=np.int32))
    for value in {**metrics_within(split), **metrics_against_gallery(split, split)[0]}.values():
        assert np.isfinite(value)


class TestAgainstPytorchMetricLearning:
    """`make bench` installs it; tests/test_metrics.py then runs in .venv-bench as well."""

    PAIRS = {
        "mean_average_precision_at_r": "map_at_r",
        "r_precision": "r_precision",
        "precision_at_1": "precision_at_1",
    }

    @staticmethod
    def ranked(query, k, reference, ref_includes_query):
        """Rank by distance, of equally near ones the first, as `knn_func` is asked to."""
        import torch

        points = reference.numpy().astype(np.float64)
        rows = []
        for q, x in enumerate(query.numpy().astype(np.float64)):
            distances = np.sum((points - x) ** 2, axis=1)
            if ref_includes_query:
                distances[q] = np.inf
            rows.append(np.argsort(distances, kind="stable")[:k])
        return None, torch.tensor(np.array(rows))

    @classmethod
    def calculator(cls, **options):
        pytest.importorskip("torch", reason="pytorch-metric-learning is not installed")
        module = pytest.importorskip(
            "pytorch_metric_learning.utils.accuracy_calculator",
            reason="pytorch-metric-learning is not installed",
        )
        return module.AccuracyCalculator(device=None, **options)

    @pytest.mark.parametrize("ties", [False, True])
    @pytest.mark.parametrize("seed", range(3))
    def test_within(self, seed, ties):
        calculator = self.calculator(
            include=tuple(self.PAIRS), knn_func=self.ranked, kmeans_func=self.ranked
        )
        split = embedded(90, seed, ties=ties)
        split.labels[0] = 99  # a class of one, which can find nothing
        expected = calculator.get_accuracy(*split)
        found = metrics_within(split)
        for theirs, ours in self.PAIRS.items():
            assert found[f"{ours}_within"] == pytest.approx(expected[theirs], abs=1e-9), ours

    @pytest.mark.parametrize("ties", [False, True])
    def test_against_a_gallery(self, ties):
        calculator = self.calculator(
            include=tuple(self.PAIRS), knn_func=self.ranked, kmeans_func=self.ranked
        )
        split, gallery = embedded(40, ties=ties), embedded(90, seed=5, ties=ties, num_classes=4)
        expected = calculator.get_accuracy(*split, *gallery)
        found, _ = metrics_against_gallery(split, gallery)
        for theirs, ours in self.PAIRS.items():
            assert found[ours] == pytest.approx(expected[theirs], abs=1e-9), ours

    def test_by_its_own_search(self):
        self.calculator(knn_func=self.ranked, kmeans_func=self.ranked)  # or skip
        from pytorch_metric_learning.distances import LpDistance
        from pytorch_metric_learning.utils.inference import CustomKNN

        search = CustomKNN(LpDistance(normalize_embeddings=False))
        calculator = self.calculator(include=tuple(self.PAIRS), knn_func=search, kmeans_func=search)
        split = embedded(90)
        expected, found = calculator.get_accuracy(*split), metrics_within(split)
        for theirs, ours in self.PAIRS.items():
            assert found[f"{ours}_within"] == pytest.approx(expected[theirs], abs=1e-9), ours

    def test_clustering(self):
        from sklearn.cluster import KMeans

        def kmeans(points, num_clusters):
            found = KMeans(num_clusters, n_init=3, max_iter=100, random_state=0)
            return found.fit_predict(points.numpy())

        calculator = self.calculator(
            include=("NMI", "AMI"), knn_func=self.ranked, kmeans_func=kmeans
        )
        split = embedded(200)
        expected, found = calculator.get_accuracy(*split), metrics_within(split)
        assert found["nmi"] == pytest.approx(expected["NMI"], abs=1e-9)
        assert found["ami"] == pytest.approx(expected["AMI"], abs=1e-9)
