"""The exact index, against a loop over all distances."""

import threading
import tracemalloc

import numpy as np
import pytest

from src.embeddings import index
from src.embeddings.index import Index


def definition(queries, embeddings, count):
    """Every distance in float64; in a tie, the first row comes first."""
    rows, distances = [], []
    for query in queries.astype(np.float64):
        squared = [float(((query - x) ** 2).sum()) for x in embeddings.astype(np.float64)]
        nearest = sorted(range(len(squared)), key=lambda row: (squared[row], row))[:count]
        rows.append(nearest)
        distances.append([squared[row] ** 0.5 for row in nearest])
    shape = len(queries), min(count, len(embeddings))
    return np.array(rows, int).reshape(shape), np.array(distances).reshape(shape)


def check(queries, embeddings, count):
    found = Index(embeddings).search(queries, count)
    expected = definition(queries, embeddings, count)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-300)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(index, "_BLOCK_SIZE", 16)
    monkeypatch.setattr(index, "_MAX_QUERIES", 3)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 100])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_random(size, count, seed):
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(size, 3)).astype(np.float32)
    check(rng.normal(size=(7, 3)).astype(np.float32), embeddings, count)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [1, 2, 17, 100])
@pytest.mark.parametrize("offset", [0, 1e3])
def test_distances_that_are_divided(size, offset, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(size, 3)) + offset).astype(np.float32)
    queries = (rng.normal(size=(7, 3)) + offset).astype(np.float32)
    divisors = rng.choice([1.0, 1.3, 2.7, 40.0], size)
    apart = np.linalg.norm(queries[:, None].astype(float) - x.astype(float), axis=2) / divisors
    rows, distances = Index(x).search(queries, 5, divisors)
    expected = np.argsort(apart, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_allclose(distances, np.take_along_axis(apart, expected, axis=1), rtol=1e-9)


@pytest.mark.parametrize("offset", [0, 1e3, 1e6])
@pytest.mark.parametrize("scale", [1e-15, 1, 1e15])
def test_far_from_the_origin_and_of_any_size(offset, scale):
    rng = np.random.default_rng(0)
    x = ((rng.normal(size=(90, 5)) + offset) * scale).astype(np.float32)
    check(x[::9], x, 4)
    check((rng.normal(size=(5, 5)) * scale).astype(np.float32), x, 4)


def test_one_far_away_does_not_hide_the_others():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    x[7] = 1e6
    check(x[:20] + np.float32(1e-3), x, 3)


def test_of_equal_ones_the_first_rows_come_first():
    check(np.zeros((4, 2), np.float32), np.zeros((70, 2), np.float32), 5)
    x = np.random.default_rng(0).integers(3, size=(99, 2)).astype(np.float32)
    check(x[:9], x, 7)


def test_equal_ones_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(index, "_BLOCK_SIZE", 4096)
    monkeypatch.setattr(index, "_MAX_QUERIES", 64)
    x = np.ones((200_000, 4), np.float32)
    tracemalloc.start()
    rows, distances = Index(x).search(x[:64], 5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(rows, np.tile(np.arange(5), (64, 1)))
    assert not distances.any()
    assert peak < 60e6


def test_searches_of_several_threads_do_not_disturb_each_other():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 8)).astype(np.float32)
    searched = Index(x)
    expected = definition(x[:6], x, 3)[0]
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(searched.search(x[:6], 3)[0]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for rows in found:
        np.testing.assert_array_equal(rows, expected)
