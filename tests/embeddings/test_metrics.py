"""The metrics of a split, also against pytorch-metric-learning where that is installed."""

import numpy as np
import pytest

from src.embeddings import metrics
from src.embeddings.metrics import (
    Embedded,
    confusions,
    metrics_against_gallery,
    metrics_of_gallery,
    metrics_within,
    query_indices,
)
from src.params.metric_names import (
    AGAINST_GALLERY,
    BEST_METRICS,
    CLUSTERING,
    GALLERY_COUNTS,
    LOWER_IS_BETTER,
    VERIFICATION,
    WITHIN,
    WITHIN_COUNTS,
)


def embedded(size, seed=0, *, ties=False, num_classes=6):
    """Embeddings of classes of different sizes; with ties, of whole numbers."""
    rng = np.random.default_rng(seed)
    labels = np.minimum(rng.geometric(0.3, size), num_classes).astype(np.int32)
    points = np.random.default_rng(1).normal(size=(num_classes + 1, 4))[labels]
    points += rng.normal(size=(size, 4))
    return Embedded((np.round(points) if ties else points).astype(np.float32), labels)


def loops(split, gallery, asking, answering=None):
    """Every retrieval metric from its definition, by loops, over the queries that have a positive.

    Each asks all of the gallery; `answering` is where it stands there itself, to be left out.
    """
    rows = []
    for i, q in enumerate(asking):
        query = split.embeddings[q].astype(np.float64)
        others = [g for g in range(len(gallery.labels)) if answering is None or g != answering[i]]
        distances = {g: np.sum((gallery.embeddings[g] - query) ** 2) for g in others}
        ranked = [gallery.labels[g] for g in sorted(others, key=lambda g: (distances[g], g))]
        matches = [label == split.labels[q] for label in ranked]
        if not any(matches):
            continue
        r = sum(matches)
        precision = [sum(matches[: k + 1]) / (k + 1) for k in range(r)]
        votes = ranked[:5]
        means = {
            label: np.mean(
                [gallery.embeddings[g].astype(float) for g in others if gallery.labels[g] == label],
                axis=0,
            )
            for label in {gallery.labels[g] for g in others}
        }
        rows.append(
            {
                "map_at_r": sum(p * m for p, m in zip(precision, matches, strict=False)) / r,
                "r_precision": precision[-1],
                "precision_at_1": matches[0],
                **{f"recall_at_{k}": any(matches[:k]) for k in (1, 2, 4, 8)},
                "knn_accuracy": split.labels[q]
                == max(votes, key=votes.count),  # of several the first
                "class_mean_accuracy": split.labels[q]
                == min(sorted(means), key=lambda c: np.sum((means[c] - query) ** 2)),
            }
        )
    found = {name: float(np.mean([row[name] for row in rows])) for name in AGAINST_GALLERY if rows}
    return {**found, "num_queries": len(rows)}


def check_within(split):
    """Compare with the loops over all that ask, and return what is found."""
    asking = query_indices(split.labels)
    found = metrics_within(split)[0]
    for name, value in loops(split, split, asking, asking).items():
        if name != "class_mean_accuracy":
            assert found[f"{name}_within"] == pytest.approx(value, abs=1e-9), name
    return found


def check_against(split, gallery):
    found, confused = metrics_against_gallery(split, gallery)
    expected = loops(split, gallery, query_indices(split.labels))
    assert found == pytest.approx(expected, abs=1e-9)
    return found, confused


def of_gallery(gallery):
    return metrics_of_gallery(gallery, metrics_within(gallery)[1])


def check_of_gallery(gallery):
    asking = query_indices(gallery.labels)
    found, confused = of_gallery(gallery)
    assert found == pytest.approx(loops(gallery, gallery, asking, asking), abs=1e-9)
    return found, confused


def test_the_names_are_those_that_are_stated():
    split, gallery = embedded(60), embedded(80, seed=1)
    assert set(metrics_within(split)[0]) == {*WITHIN, *WITHIN_COUNTS}
    assert set(metrics_against_gallery(split, gallery)[0]) == {*AGAINST_GALLERY, *GALLERY_COUNTS}
    assert set(BEST_METRICS) >= LOWER_IS_BETTER
    names = (*WITHIN, *WITHIN_COUNTS, *AGAINST_GALLERY, *GALLERY_COUNTS)
    assert len(set(names)) == len(names)


def test_all_are_numbers_from_0_to_1():
    found = {
        **metrics_within(embedded(60))[0],
        **metrics_against_gallery(embedded(60), embedded(9))[0],
    }
    for name in (*WITHIN, *AGAINST_GALLERY):
        assert type(found[name]) is float and (0 <= found[name] <= 1 or name == "ami"), name
    for name in (*WITHIN_COUNTS, *GALLERY_COUNTS):
        assert type(found[name]) is int, name


def test_perfect_embeddings():
    labels = (np.arange(40) % 4).astype(np.int32)
    split = Embedded(np.eye(4, dtype=np.float32)[labels], labels)
    found = metrics_within(split)[0]
    counts = {"num_queries_within": 40, "num_clustered": 40, "num_clustered_classes": 4}
    pairs = {"num_positive_pairs": 40 * 9, "num_negative_pairs": 40 * 30}
    assert found == pytest.approx({**dict.fromkeys(WITHIN, 1.0), "eer": 0.0, **counts, **pairs})
    found, confused = of_gallery(split)
    assert found == pytest.approx({**dict.fromkeys(AGAINST_GALLERY, 1.0), "num_queries": 40})
    assert confused["knn"].tolist() == confused["class_mean"].tolist() == []


def test_a_split_is_its_own_gallery_without_itself():
    split = embedded(60)
    split.labels[7] = 99  # alone: no query
    itself, confused = check_of_gallery(split)
    within = metrics_within(split)[0]
    for name in (*AGAINST_GALLERY[:-1], "num_queries"):
        assert itself[name] == within[f"{name}_within"]
    assert itself["num_queries"] == 59
    assert all(99 not in rows[:, 0] for rows in confused.values())
    copy = Embedded(split.embeddings.copy(), split.labels)
    assert metrics_against_gallery(split, copy)[0]["recall_at_1"] == 1  # everyone finds itself


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_of_a_large_split_a_stratified_sample_asks_all_of_it(monkeypatch, seed, ties):
    monkeypatch.setattr(metrics, "MAX_QUERIES", 30)
    split = embedded(90, seed, ties=ties)
    split.labels[[3, 50]] = 98, 99  # alone
    asking = query_indices(split.labels)
    assert len(asking) == 30 and (np.diff(asking) > 0).all()
    shares = np.bincount(split.labels[asking], minlength=100) / 30
    expected = np.bincount(split.labels, minlength=100) / 90
    np.testing.assert_allclose(shares, expected, atol=1 / 30)
    np.testing.assert_array_equal(asking, query_indices(split.labels))
    within = check_within(split)
    against, _ = check_of_gallery(split)
    assert against["num_queries"] == within["num_queries_within"] <= 30
    positives = [(split.labels == split.labels[q]).sum() - 1 for q in asking]
    assert within["num_positive_pairs"] == sum(positives)
    assert within["num_negative_pairs"] == 30 * 89 - sum(positives)
    check_against(split, embedded(40, 9, ties=ties, num_classes=3))


def test_more_classes_than_queries(monkeypatch):
    """No class has more than one example in the sample: only all of the split answers."""
    monkeypatch.setattr(metrics, "MAX_QUERIES", 1000)  # 11 000 classes of 5 at a tenth
    labels = np.repeat(np.arange(1100), 5).astype(np.int32)
    points = np.random.default_rng(0).normal(size=(1100, 4)).astype(np.float32)[labels]
    found = metrics_within(Embedded(points, labels))[0]
    assert np.bincount(labels[query_indices(labels)]).max() == 1
    for name in ("map_at_r", "r_precision", "precision_at_1", "recall_at_1", "recall_at_8"):
        assert found[f"{name}_within"] == 1, name
    assert found["num_queries_within"] == 1000
    assert found["num_positive_pairs"] == 4000
    assert found["roc_auc"] == found["nmi"] == 1
    assert (found["num_clustered"], found["num_clustered_classes"]) == (2500, 500)


@pytest.mark.parametrize("num_alone", [1, 20, 57])
def test_examples_without_another_of_their_class_are_no_queries(num_alone):
    split = embedded(60)
    split.labels[:num_alone] = 100 + np.arange(num_alone)
    gallery = embedded(70, 1)
    gallery.labels[:num_alone] = 200 + np.arange(num_alone)
    counts = np.unique(split.labels, return_counts=True)[1]
    assert check_within(split)["num_queries_within"] == counts[counts > 1].sum()
    found, confused = check_against(split, gallery)
    assert found["num_queries"] == np.isin(split.labels, gallery.labels).sum() <= 60 - num_alone
    assert not np.isin(np.arange(100, 200), confused["knn"][:, 0]).any()
    check_of_gallery(gallery)  # class means of the gallery, lone classes among them


def test_no_two_of_one_class():
    split = embedded(50)
    alone = Embedded(split.embeddings, np.arange(50, dtype=np.int32))
    found = metrics_within(alone)[0]
    assert {found[name] for name in WITHIN} == {None}
    assert found["num_queries_within"] == found["num_positive_pairs"] == 0
    assert found["num_negative_pairs"] == 50 * 49
    others = Embedded(split.embeddings[:9], split.labels[:9] + 100)
    for found, confused in (of_gallery(alone), metrics_against_gallery(alone, others)):
        assert found == {**dict.fromkeys(AGAINST_GALLERY), "num_queries": 0}
        assert [rows.shape for rows in confused.values()] == [(0, 3), (0, 3)]


def test_a_single_class():
    split = Embedded(embedded(20).embeddings, np.full(20, 4, np.int32))
    found = metrics_within(split)[0]
    undefined = {name for name in WITHIN if found[name] is None}
    assert undefined == {*VERIFICATION, *CLUSTERING}  # the others are right whatever is found
    assert {found[name] for name in WITHIN if name not in undefined} == {1.0}


def test_classes_that_the_gallery_has_not_ask_only_their_split():
    split, gallery = embedded(60), embedded(80, seed=1, num_classes=3)
    found, confused = check_against(split, gallery)
    is_known = np.isin(split.labels, gallery.labels)
    assert found["num_queries"] == is_known.sum() < 60
    known = Embedded(split.embeddings[is_known], split.labels[is_known])
    again, confused_again = metrics_against_gallery(known, gallery)
    assert again == found
    assert confused["knn"].tolist() == confused_again["knn"].tolist()


def test_confusions_by_hand():
    found = confusions(np.array([0, 0, 2, 2, 2, 5]), np.array([0, 1, 2, 0, 0, 2]))
    assert found.tolist() == [[2, 0, 2], [0, 1, 1], [5, 2, 1]]
    assert found.dtype == np.int64
    assert confusions(np.arange(3), np.arange(3)).tolist() == []


@pytest.mark.parametrize("num_classes", [4, 6])  # of 6 classes some are not in the gallery
def test_accuracies_are_the_share_that_is_not_confused(num_classes):
    split = embedded(60, num_classes=num_classes)
    gallery = embedded(80, seed=1, num_classes=4)
    found, confused = metrics_against_gallery(split, gallery)
    assert (found["num_queries"] == 60) == (num_classes == 4)
    for name, rows in confused.items():
        assert (rows[:, 0] != rows[:, 1]).all() and (rows[:, 2] > 0).all()
        assert (np.diff(rows[:, 2]) <= 0).all()
        wrong = rows[:, 2].sum() / found["num_queries"]
        assert found[f"{name}_accuracy"] == pytest.approx(1 - wrong)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_split_of_almost_nothing(size, recwarn):
    split = Embedded(np.zeros((size, 3), np.float32), np.arange(size, dtype=np.int32))
    found = metrics_within(split)[0]
    if size:
        found |= of_gallery(split)[0]
    assert {found.get(name) for name in (*WITHIN, *AGAINST_GALLERY)} == {None}
    assert {found[name] for name in found if name.startswith("num_queries")} == {0}
    assert len(recwarn) == 0


class TestAgainstPytorchMetricLearning:
    """`make bench` installs it; this file then runs in .venv-bench as well."""

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
        found = metrics_within(split)[0]
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
        expected, found = calculator.get_accuracy(*split), metrics_within(split)[0]
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
        expected, found = calculator.get_accuracy(*split), metrics_within(split)[0]
        assert found["nmi"] == pytest.approx(expected["NMI"], abs=1e-9)
        assert found["ami"] == pytest.approx(expected["AMI"], abs=1e-9)
