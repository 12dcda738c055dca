"""A version of a gallery in memory, and how it follows the store."""

import gc
import weakref

import numpy as np
import pytest

from src.distance import DISTANCES
from src.embeddings.open_gallery import OpenGallery
from src.embeddings.whitening import within_class_whitening
from src.gallery.record import Changes, Embeddings
from src.gallery.snapshot import Snapshot, changed
from src.mining.distances import paired_distances


def embeddings_of(rows, version=0):
    """`rows`: id -> (class, number)."""
    names = tuple(sorted({name for name, _ in rows.values()}))
    return Embeddings(
        np.array(sorted(rows), np.int64),
        np.array([names.index(rows[i][0]) for i in sorted(rows)], np.int32),
        names,
        np.array([[rows[i][1], 1] for i in sorted(rows)], np.float32).reshape(-1, 2),
        version,
    )


def rows_of(pictures):
    return {
        int(i): (pictures.class_names[label], float(x[0]))
        for i, label, x in zip(*pictures[:2], pictures.embeddings, strict=True)
    }


@pytest.mark.parametrize("distance", DISTANCES)
def test_nearest_in_the_unit_of_the_distance(distance):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)).astype(np.float32)
    pictures = Embeddings(np.arange(50), np.zeros(50, np.int32), ("a",), x, 0)
    queries = rng.normal(size=(3, 4)).astype(np.float32)
    found = Snapshot(pictures, distance).nearest(queries, 4)
    for query, rows, distances in zip(queries, *found, strict=True):
        expected = paired_distances(query[None], x, distance)
        assert rows.tolist() == np.argsort(expected)[:4].tolist()
        np.testing.assert_allclose(distances, np.sort(expected)[:4], rtol=1e-5, atol=1e-7)


FACTORS = {"1": 3.0, "4": 2.0, "50": 1.0}


def scores_by_loop(query, x, labels, distance, sizes=None):
    """The score of each class: the mean distance to a quarter of it, by the factor of its size."""
    found = {}
    for label in np.unique(labels):
        apart = np.sort(paired_distances(query[None], x[labels == label], distance))
        size = len(apart) if sizes is None else sizes[label]
        compared = apart[: min(5, int(np.ceil(size / 4)))].mean()
        log = np.log([1, 4, 50])
        found[label] = compared / np.exp(np.interp(np.log(size), log, np.log([3.0, 2.0, 1.0])))
    return found


@pytest.mark.parametrize("num_classes", [1, 2, 7, 40])
@pytest.mark.parametrize("distance", DISTANCES)
def test_the_nearest_class_against_its_definition(distance, num_classes):
    rng = np.random.default_rng(num_classes)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    labels = (num_classes * rng.random(300) ** 3).astype(np.int32)  # of very different sizes
    labels[:num_classes] = np.arange(num_classes)
    names = tuple(map(str, range(num_classes)))
    snapshot = Snapshot(Embeddings(np.arange(300), labels, names, x, 0), distance, FACTORS)
    queries = np.concatenate([rng.normal(size=(30, 4)), 9 * rng.normal(size=(5, 4)), x[:3]])
    queries = queries.astype(np.float32)
    found = snapshot.nearest_classes(queries)
    for row, query in enumerate(queries):
        expected = scores_by_loop(query, x, labels, distance)
        label = found.labels[row]
        np.testing.assert_allclose(found.scores[row], min(expected.values()), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(expected[label], min(expected.values()), rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(found.distances[row], found.scores[row] * found.factors[row])


def test_a_class_hidden_behind_many_pictures_of_another():
    """Its nearest picture is the 2 001st nearest; the factor of its size makes it the nearest."""
    x = np.concatenate([np.full(2000, 1.0), [1.5, 1.6, 1.7]])[:, None].astype(np.float32)
    labels = np.array(2000 * [0] + 3 * [1], np.int32)
    pictures = Embeddings(np.arange(2003), labels, ("many", "few"), x, 0)
    (label,), (distance,), (factor,) = Snapshot(pictures, "euclidean", FACTORS).nearest_classes(
        np.zeros((1, 1), np.float32)
    )
    assert label == 1 and distance == pytest.approx(1.5)
    assert factor == pytest.approx(3 * (2 / 3) ** (np.log(3) / np.log(4)))


def test_a_part_of_a_gallery_counts_whole_classes():
    x = np.array([[1], [2], [4]], np.float32)
    pictures = Embeddings(np.arange(3), np.array([0, 0, 1], np.int32), ("a", "b", "c"), x, 0)
    sizes = np.array([50, 1, 9])
    part = Snapshot(pictures, "euclidean", FACTORS, class_sizes=sizes)
    found = part.nearest_classes(np.zeros((1, 1), np.float32))
    # Of 50 pictures 5 are compared, and 2 are here: 3, as the others are not before 4.
    assert found.labels.tolist() == [1] and found.scores == pytest.approx([4 / 3])
    alone = pictures._replace(labels=np.zeros(3, np.int32), class_names=("a",))
    part = Snapshot(alone, "squared_euclidean", FACTORS, class_sizes=sizes[:1])
    found = part.nearest_classes(np.zeros((1, 1), np.float32))
    assert found.distances == pytest.approx([(1 + 4 + 16 + 16 + 16) / 5])


def test_an_old_version_is_freed_at_once():
    """A server that enrols would have many, until a full collection of garbage."""
    pictures = Embeddings(np.arange(9), np.zeros(9, np.int32), ("a",), np.eye(9, dtype="f4"), 0)
    snapshot = Snapshot(pictures, "euclidean")
    snapshot.nearest_classes(pictures.embeddings)
    reference = weakref.ref(snapshot)
    gc.disable()
    try:
        del snapshot
        assert reference() is None
    finally:
        gc.enable()


def test_evaluation_and_gallery_agree():
    """The two searches, by all distances and by the index, on whitened coordinates."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(400, 4)) * [3, 1, 1, 0.2]).astype(np.float32)
    labels = rng.integers(9, size=400).astype(np.int32)
    queries = rng.normal(size=(50, 4)).astype(np.float32)
    whitening = within_class_whitening(x, labels)
    evaluated = OpenGallery(x, labels, "euclidean", whitening)
    evaluated.factors = FACTORS
    names = tuple("abcdefghi")
    snapshot = Snapshot(
        Embeddings(np.arange(400), labels, names, x, 0), "euclidean", FACTORS, whitening
    )
    expected, found = evaluated.nearest(queries), snapshot.nearest_classes(queries)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    means = snapshot.nearest_means(queries)
    np.testing.assert_array_equal(means, evaluated.nearest_means(queries))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_the_nearest_mean(distance):
    rng = np.random.default_rng(0)
    x, queries = (rng.normal(size=(size, 4)).astype(np.float32) for size in (40, 25))
    labels = np.concatenate([np.arange(6), rng.integers(6, size=34)]).astype(np.int32)
    snapshot = Snapshot(Embeddings(np.arange(40), labels, tuple("abcdef"), x, 0), distance)
    if distance == "cosine":
        x, queries = (y / np.linalg.norm(y, axis=1, keepdims=True) for y in (x, queries))
    means = np.stack([x[labels == label].mean(axis=0) for label in range(6)])
    expected = [int(np.linalg.norm(means - query, axis=1).argmin()) for query in queries]
    assert snapshot.nearest_means(queries).tolist() == expected


def test_a_single_picture():
    snapshot = Snapshot(embeddings_of({3: ("a", 1.0)}), "euclidean", FACTORS)
    found = snapshot.nearest_classes(np.array([[1, 4]], np.float32))
    assert [part.tolist() for part in found] == [[0], [pytest.approx(3)], [pytest.approx(3)]]


def test_without_pictures():
    pictures = embeddings_of({})
    assert Snapshot(pictures, "euclidean").nearest(np.zeros((2, 2), np.float32), 5).rows.size == 0


@pytest.mark.parametrize("seed", range(30))
def test_changes_lead_to_the_new_version(seed):
    rng = np.random.default_rng(seed)
    classes = ["b", "d", "a", "c"]

    def some(ids):
        return {int(i): (classes[rng.integers(4)], float(rng.integers(99))) for i in ids}

    old = some(range(1, 1 + rng.integers(8)))
    new = dict(old)
    gone = [i for i in old if rng.random() < 0.3]
    for i in gone:
        del new[i]
    moved = {i: (classes[rng.integers(4)], new[i][1]) for i in new if rng.random() < 0.3}
    added = some(range(10, 10 + rng.integers(4)))
    new |= moved | added
    wanted = embeddings_of(new, version=7)
    touched = embeddings_of({**moved, **added})
    labels = [wanted.class_names.index(touched.class_names[i]) for i in touched.labels]
    changes = Changes(
        np.array([*gone, *moved], np.int64),
        touched._replace(
            labels=np.array(labels, np.int32), class_names=wanted.class_names, version=7
        ),
    )
    found = changed(embeddings_of(old), changes)
    assert rows_of(found) == rows_of(wanted)
    assert found.version == 7
    assert found.class_names == wanted.class_names
    assert (np.diff(found.ids) > 0).all()
    assert found.labels.dtype == np.int32 and found.embeddings.dtype == np.float32
