"""A version of a gallery in memory, and how it follows the store."""

import numpy as np
import pytest

from src.distance import DISTANCES
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


def spread_of(x, distance):
    """The mean distance to the nearest other one; 0 if there is none."""
    return np.mean(
        [
            paired_distances(x[[i]], np.delete(x, i, axis=0), distance).min(initial=np.inf)
            for i in range(len(x))
        ]
        if len(x) > 1
        else 0
    )


@pytest.mark.parametrize("num_classes", [1, 2, 7])
@pytest.mark.parametrize("distance", DISTANCES)
def test_neighbourhoods_against_their_definitions(distance, num_classes):
    rng = np.random.default_rng(num_classes)
    x = rng.normal(size=(40, 4)).astype(np.float32)
    labels = rng.integers(num_classes, size=40).astype(np.int32)
    labels[:num_classes] = np.arange(num_classes)
    names = tuple("abcdefg"[:num_classes])
    snapshot = Snapshot(Embeddings(np.arange(40), labels, names, x, 0), distance)
    queries = rng.normal(size=(9, 4)).astype(np.float32)
    found = snapshot.neighbourhood(queries, snapshot.nearest(queries, 5), usual_spread=0.5)
    for i, query in enumerate(queries):
        to_all = paired_distances(query[None], x, distance)
        order = np.argsort(to_all)
        own = labels[order[0]]
        others = to_all[labels != own]
        around = np.delete(paired_distances(x[order[:1]], x, distance), order[0])
        expected = {
            "positions": order[:5],
            "labels": labels[order[:5]],
            "distances": to_all[order[:5]],
            "of_class": np.sort(to_all[labels == own])[:5].mean(),
            "other": others.min() if len(others) else np.inf,
            "radius": np.sort(around)[:5].mean(),
            "spread": [
                max(1, spread_of(x[labels == labels[row]], distance) / 0.5) for row in order[:5]
            ],
        }
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(found, name)[i], value, rtol=2e-5, err_msg=name)


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


def test_a_single_picture_has_no_neighbourhood():
    snapshot = Snapshot(embeddings_of({3: ("a", 1.0)}), "euclidean")
    query = np.zeros((1, 2), np.float32)
    found = snapshot.neighbourhood(query, snapshot.nearest(query, 5), usual_spread=0.5)
    assert np.isinf(found.other[0]) and np.isinf(found.radius[0])
    assert found.distances.shape == (1, 1)


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
