"""Recall, rankings and percentiles of distances against float64 loops."""

from fractions import Fraction

import numpy as np
import pytest

from src.embeddings import search
from src.embeddings.retrieval import (
    nearest_class_means,
    rank_gallery,
    recall_at_1,
)
from src.embeddings.search import nearest_neighbors


def gaussian(num_examples, size, seed=0):
    return np.random.default_rng(seed).normal(size=(num_examples, size)).astype(np.float32)


def test_recall_by_hand():
    # On a line: 0a 1a 2.5b 3b 6a. Nearest: 0->1 (a), 1->0 (a), 2.5->3 (b), 3->2.5 (b), 6->3 (b).
    points = np.array([[0], [1], [2.5], [3], [6]], np.float32)
    labels = np.array([0, 0, 1, 1, 0], np.int32)
    assert recall_at_1(points, labels) == 4 / 5


def test_recall_with_a_gallery_by_hand():
    # The queries' own labels must not be looked at: 0 -> 0.1 (7, right), 5 -> 4 (8, wrong).
    queries, query_labels = np.array([[0], [5]], np.float32), np.array([7, 7], np.int32)
    gallery = np.array([[9.5], [4], [0.1]], np.float32)
    gallery_labels = np.array([7, 8, 7], np.int32)
    assert recall_at_1(queries, query_labels, gallery, gallery_labels) == 1 / 2


def test_recall_of_one_class_and_of_classes_of_one():
    points = gaussian(10, 3)
    assert recall_at_1(points, np.zeros(10, np.int32)) == 1
    assert recall_at_1(points, np.arange(10, dtype=np.int32)) is None
    # Two of a class, the others alone: only the two ask. They are not each other's nearest.
    labels = np.arange(10, dtype=np.int32)
    nearest = nearest_neighbors(points)
    other = next(i for i in range(1, 10) if nearest[0] != i and nearest[i] != 0)
    labels[other] = 0
    assert recall_at_1(points, labels) == 0
    labels[other], labels[nearest[0]] = other, 0
    assert recall_at_1(points, labels) in (1 / 2, 1)


def test_recall_of_nothing():
    one, label = gaussian(1, 3), np.array([0], np.int32)
    none, no_label = one[:0], label[:0]
    assert recall_at_1(one, label) is None
    assert recall_at_1(none, no_label) is None
    assert recall_at_1(none, no_label, one, label) is None
    assert recall_at_1(one, label, none, no_label) is None
    assert recall_at_1(one, label, one, label + 1) is None
    assert recall_at_1(one, label, one, label) == 1


def reference_ranking(queries, query_labels, gallery=None, gallery_labels=None, own=None):
    """Return num_positives, first_positive, r_precision, average_precision by loops over ranks."""
    if gallery is None:
        gallery, gallery_labels, own = queries, query_labels, np.arange(len(queries))
    rows = []
    for q, query in enumerate(queries.astype(np.float64)):
        others = [g for g in range(len(gallery)) if own is None or g != own[q]]
        distances = [np.sum((query - gallery[g].astype(np.float64)) ** 2) for g in others]
        ranked = [others[i] for i in sorted(range(len(others)), key=lambda i: (distances[i], i))]
        matches = [gallery_labels[g] == query_labels[q] for g in ranked]
        num_positives = sum(matches)
        hits, precisions = 0, 0.0
        for rank, is_match in enumerate(matches[:num_positives], start=1):
            hits += is_match
            precisions += is_match * hits / rank
        r = max(num_positives, 1)
        first = matches.index(True) + 1 if num_positives else None
        rows.append((num_positives, first, hits / r, precisions / r))
    return rows


def assert_ranking(found, expected):
    for q, (num_positives, first, r_precision, average_precision) in enumerate(expected):
        assert found.num_positives[q] == num_positives
        assert found.first_positive[q] == (first if first is not None and first <= 8 else 9)
        assert found.r_precision[q] == pytest.approx(r_precision, abs=1e-12)
        assert found.average_precision[q] == pytest.approx(average_precision, abs=1e-12)


def tied(num_examples, num_classes, seed=0, size=2):
    """Whole numbers, of which many distances are equal; classes of different sizes."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-3, 4, size=(num_examples, size)).astype(np.float32)
    labels = np.minimum(rng.geometric(1.5 / num_classes, num_examples), num_classes) * 7
    return points, labels.astype(np.int32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [tied, lambda n, c, seed: (gaussian(n, 3, seed), tied(n, c)[1])])
def test_ranking(make, seed):
    points, labels = make(90, 6, seed)
    assert_ranking(rank_gallery(points, labels), reference_ranking(points, labels))


@pytest.mark.parametrize("seed", range(3))
def test_ranking_of_a_gallery(seed):
    queries, query_labels = tied(40, 6, seed)
    gallery, gallery_labels = tied(70, 4, seed + 10)  # two of the queries' classes are not there
    arguments = queries, query_labels, gallery, gallery_labels
    assert_ranking(rank_gallery(*arguments), reference_ranking(*arguments))


def test_ranking_of_a_gallery_that_holds_the_queries():
    gallery, gallery_labels = tied(70, 4)
    own = np.random.default_rng(0).permutation(70)[:25]
    arguments = gallery[own], gallery_labels[own], gallery, gallery_labels
    found = rank_gallery(*arguments, own=own)
    assert_ranking(found, reference_ranking(*arguments, own=own))


@pytest.mark.parametrize(("block_size", "chunk_pairs"), [(1, 1), (7, 300), (64, 10**6)])
def test_ranking_in_blocks_and_chunks(monkeypatch, block_size, chunk_pairs):
    points, labels = tied(90, 6)
    expected = rank_gallery(points, labels, count_pairs=True)
    monkeypatch.setattr(search, "BLOCK_SIZE", block_size)
    monkeypatch.setattr(search, "_CHUNK_PAIRS", chunk_pairs)
    found = rank_gallery(points, labels, count_pairs=True)
    for before, after in zip(expected[:-1], found[:-1], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-12)
    np.testing.assert_array_equal(found.pairs.positive, expected.pairs.positive)
    np.testing.assert_array_equal(found.pairs.negative, expected.pairs.negative)


def test_ranking_by_hand():
    # On a line: 0a 1b 2a 4a. Of 0a the others are b a a, R = 2: of its first two, one.
    points = np.array([[0], [1], [2], [4]], np.float32)
    labels = np.array([0, 1, 0, 0], np.int32)
    found = rank_gallery(points, labels)
    assert found.num_positives.tolist() == [2, 0, 2, 2]
    assert found.first_positive[[0, 2, 3]].tolist() == [2, 2, 1]
    assert found.r_precision.tolist() == [1 / 2, 0, 1 / 2, 1 / 2]  # 4a: a b a
    assert found.average_precision[[0, 2, 3]].tolist() == [
        (0 + 1 / 2) / 2,
        (0 + 1 / 2) / 2,  # 2a: b a a: 1b, 0a (of 0a and 4a, equally near, the first), 4a
        (1 / 1 + 0) / 2,
    ]
    # The lone b can find nothing, and is left out.
    assert found.mean_over_answerable(found.first_positive <= 1) == pytest.approx(1 / 3)
    assert found.mean_over_answerable(found.first_positive <= 2) == 1
    assert found.mean_over_answerable(found.r_precision) == pytest.approx(1 / 2)


def test_ranking_of_lone_classes_one_class_and_nothing():
    points = gaussian(6, 3)
    alone = rank_gallery(points, np.arange(6, dtype=np.int32))
    assert alone.first_positive.tolist() == [9] * 6
    assert alone.mean_over_answerable(alone.average_precision) is None
    same = rank_gallery(points, np.zeros(6, np.int32))
    assert same.first_positive.tolist() == [1] * 6 and same.average_precision.tolist() == [1] * 6
    for size in (0, 1):
        few = rank_gallery(points[:size], np.zeros(size, np.int32), count_pairs=True)
        assert few.mean_over_answerable(few.first_positive <= 8) is None
        assert few.voted_label.tolist() == [-1] * size


def test_what_is_not_finite_ends_in_figures():
    points, labels = gaussian(30, 4), np.arange(30, dtype=np.int32) % 3
    points[3] = np.nan
    points[4:6] = np.inf
    found = rank_gallery(points, labels, count_pairs=True)
    assert np.isfinite(found.average_precision).all()
    assert found.pairs.positive.sum() + found.pairs.negative.sum() == 30 * 29


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_scale_does_not_matter(scale):
    points, labels = gaussian(60, 4), np.arange(60, dtype=np.int32) % 3
    expected = rank_gallery(points, labels)
    found = rank_gallery((points * np.float32(scale)), labels)
    np.testing.assert_allclose(found.average_precision, expected.average_precision)


@pytest.mark.parametrize("seed", range(3))
def test_votes_are_scikit_learns(seed):
    from sklearn.neighbors import KNeighborsClassifier

    queries, gallery = gaussian(80, 3, seed), gaussian(120, 3, seed + 10)
    labels = tied(120, 6, seed)[1]
    reference = KNeighborsClassifier(5, algorithm="brute").fit(gallery, labels)
    found = rank_gallery(queries, labels[:80], gallery, labels)
    shares = np.sort(reference.predict_proba(queries), axis=1)
    is_clear = shares[:, -1] > shares[:, -2]
    assert 20 < is_clear.sum() < 80
    expected = reference.predict(queries)
    np.testing.assert_array_equal(found.voted_label[is_clear], expected[is_clear])
    # Of several the nearest's: no label has an advantage by its number.
    nearest = reference.kneighbors(queries, return_distance=False)
    for query in np.flatnonzero(~is_clear):
        of_five = labels[nearest[query]].tolist()
        assert found.voted_label[query] == max(of_five, key=of_five.count)  # the first of those


def test_votes_do_not_depend_on_the_numbers_of_labels():
    queries, labels = tied(80, 30)
    found = rank_gallery(queries, labels)
    other = rank_gallery(queries, 1000 - labels)
    np.testing.assert_array_equal(other.voted_label, 1000 - found.voted_label)


def test_votes_of_fewer_than_five():
    points = np.array([[0], [1], [3]], np.float32)
    found = rank_gallery(points, np.array([5, 2, 2], np.int32))
    assert found.voted_label.tolist() == [2, 5, 2]  # 5 against 2, twice: the nearer


def test_one_other_of_the_class_that_is_the_nearest_wins_the_vote():
    """As in classes of two pictures: the four behind it are of four classes."""
    points = np.array([[0], [1], [2], [3], [4], [5]], np.float32)
    found = rank_gallery(points, np.array([9, 9, 0, 1, 2, 3], np.int32))
    assert found.voted_label[0] == 9


@pytest.mark.parametrize("seed", range(3))
def test_class_means_are_scikit_learns(seed):
    from sklearn.neighbors import NearestCentroid

    queries, gallery = gaussian(80, 3, seed), gaussian(120, 3, seed + 10)
    labels = tied(120, 6, seed)[1]
    found = nearest_class_means(queries, labels[:80], gallery, labels)
    expected = NearestCentroid().fit(gallery, labels).predict(queries)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("with_own", [False, True])
@pytest.mark.parametrize("seed", [14, 17, 19])
def test_rounding_does_not_decide_between_equally_near_class_means(seed, with_own):
    """Against fractions, which are exact; points of a small grid have many ties."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-2, 3, (36, 2)).astype(np.float32)
    labels = rng.integers(0, 7, 36).astype(np.int32)
    expected = []
    for q, point in enumerate(points.astype(int).tolist()):
        near = {}
        for label in range(7):
            rows = [g for g in np.flatnonzero(labels == label) if not (with_own and g == q)]
            if rows:
                mean = [Fraction(int(points[rows, k].sum()), len(rows)) for k in range(2)]
                near[label] = sum((a - b) ** 2 for a, b in zip(point, mean, strict=True))
        expected.append(min(near, key=lambda label: (near[label], label)))
    gallery = (None, None) if with_own else (points, labels)
    assert nearest_class_means(points, labels, *gallery).tolist() == expected


def test_class_means_without_the_query():
    points, labels = gaussian(60, 3), tied(60, 8)[1]
    labels[0] = 999  # alone: without it, its class has no mean
    expected = []
    for q in range(60):
        means = {
            label: points[(labels == label) & (np.arange(60) != q)].mean(axis=0)
            for label in np.unique(np.delete(labels, q))
        }
        distances = {label: np.linalg.norm(points[q] - mean) for label, mean in means.items()}
        expected.append(min(distances, key=distances.get))
    assert nearest_class_means(points, labels).tolist() == expected
