"""Layouts: what is near stays near, the same every time, and finite where all points are one."""

import subprocess
import sys

import numpy as np
import pytest
from lazily import Lazy
from terminals import on_terminal

from src.embeddings import layouts
from src.embeddings.retrieval import recall_at_1

has_umap = pytest.mark.skipif(
    "umap" not in layouts.available_layouts(), reason="the extra umap is not installed"
)

decomposition = Lazy("sklearn.decomposition")
compiled = (has_umap, pytest.mark.system)  # where UMAP is new, it is compiled: 15 seconds, 0.1 GB
EACH = [
    pytest.param(lambda x, **_: layouts.pca(x), id="pca"),
    pytest.param(lambda x, **k: layouts.tsne(x, seed=0, **k), id="tsne"),
    pytest.param(lambda x, **k: layouts.umap(x, seed=0, **k), id="umap", marks=compiled),
]


@pytest.fixture
def few_iterations(monkeypatch):
    """Enough to separate what is far apart."""
    monkeypatch.setattr(layouts, "EXAGGERATED_ITERATIONS", 60)
    monkeypatch.setattr(layouts, "ITERATIONS", 40)


def clusters(size=150, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(size) % 3).astype(np.int32)
    centers = 20 * np.eye(3, 10)
    return (centers[labels] + rng.standard_normal((size, 10))).astype(np.float32), labels


@pytest.mark.parametrize("lay_out", EACH)
def test_clusters_stay_clusters_and_the_result_is_the_same_again(few_iterations, lay_out):
    points, labels = clusters()
    layout = lay_out(points)
    assert layout.shape == (150, 2)
    assert layout.dtype == np.float32
    assert np.isfinite(layout).all()
    assert recall_at_1(layout, labels) == 1
    np.testing.assert_array_equal(layout, lay_out(points))


@pytest.mark.parametrize("lay_out", EACH)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_few_points(few_iterations, lay_out, size):
    layout = lay_out(clusters(size)[0])
    assert layout.shape == (size, 2)
    assert np.isfinite(layout).all()


@pytest.mark.parametrize("lay_out", EACH)
@pytest.mark.parametrize("dimensions", [1, 2, 10])
def test_equal_points_and_few_dimensions(few_iterations, lay_out, dimensions):
    """A collapsed network's embeddings are all one point."""
    layout = lay_out(np.ones((30, dimensions), np.float32))
    np.testing.assert_array_equal(layout, np.zeros((30, 2)))
    some_equal = clusters(40)[0][:, :dimensions]
    some_equal[:25] = some_equal[0]
    assert np.isfinite(lay_out(some_equal)).all()


@pytest.mark.parametrize("lay_out", EACH)
@pytest.mark.parametrize("size", [4, 5, 60])
def test_one_dimension(few_iterations, lay_out, size):
    """UMAP divides by the range of each axis of its start, which the second one has not."""
    points = np.random.default_rng(0).normal(size=(size, 1)).astype(np.float32)
    for embeddings in (points, np.repeat(points, 2, axis=0), points @ np.ones((1, 7), np.float32)):
        layout = lay_out(embeddings)
        assert np.isfinite(layout).all()
        assert len(np.unique(layout[:, 0])) > 1


@pytest.mark.parametrize("lay_out", EACH)
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e15, 1e30, 1e37])
def test_numbers_of_any_size(few_iterations, lay_out, scale, recwarn):
    points, labels = clusters()
    layout = lay_out((points.astype(np.float64) * scale).astype(np.float32))
    assert np.isfinite(layout).all()
    assert recall_at_1(layout, labels) == 1
    assert [str(warning.message) for warning in recwarn] == []


def test_pca_is_that_of_scikit_learn():
    points = clusters()[0]
    expected = decomposition.PCA(2, svd_solver="full").fit_transform(points)
    layout = layouts.pca(points)
    for axis in (0, 1):
        assert abs(np.corrcoef(layout[:, axis], expected[:, axis])[0, 1]) > 1 - 1e-6
        assert layout[:, axis].std() == pytest.approx(expected[:, axis].std(), rel=1e-4)


def test_tsne_from_a_layout_keeps_its_frame(few_iterations):
    """Three clusters start where a triangle says, and are found there again, not turned."""
    points, labels = clusters()
    corners = np.array([[0, 9], [8, -5], [-8, -5]], np.float32)
    layout = layouts.tsne(points, seed=0, initial=corners[labels])
    found = np.array([layout[labels == label].mean(axis=0) for label in range(3)])
    found -= found.mean(axis=0)
    wanted = corners - corners.mean(axis=0)
    cosines = (found * wanted).sum(axis=1) / np.linalg.norm(found, axis=1)
    assert (cosines / np.linalg.norm(wanted, axis=1) > 0.9).all()


def test_approximate_neighbours_and_the_grid_do_as_well(few_iterations, monkeypatch):
    monkeypatch.setattr(layouts, "MAX_EXACT_NEIGHBORS", 10)
    monkeypatch.setattr(layouts, "MIN_FFT_POINTS", 10)
    points, labels = clusters()
    assert recall_at_1(layouts.tsne(points, seed=0), labels) == 1


def test_the_first_neighbour_that_umap_gets_is_the_point_itself_at_distance_0():
    """A distance of rounding would count as that to the nearest other point, UMAP's rho."""
    points = 100 + clusters(60)[0]
    points[7] = points[3]
    neighbors, distances = layouts._exact_neighbors(points, 5)
    assert neighbors.shape == distances.shape == (60, 5)
    assert neighbors[:, 0].tolist() == list(range(60))
    assert (distances[:, 0] == 0).all()
    assert (neighbors[7, 1], distances[7, 1], neighbors[3, 1], distances[3, 1]) == (3, 0, 7, 0)
    assert (distances[7, 2:] > 0).all()


@has_umap
@pytest.mark.system
def test_umap_says_that_it_compiles(monkeypatch):
    terminal = on_terminal(monkeypatch)
    layouts.umap(clusters(60)[0], seed=0)
    assert "UMAP: compiling, then" in terminal.getvalue()


def test_settings_name_the_versions():
    assert "openTSNE" in layouts.settings("tsne")
    assert layouts.settings("tsne")["perplexity"] == 30
    assert "umap-learn" in layouts.settings("umap")


def test_importing_is_quick_and_umap_brings_no_tensorflow():
    code = (
        "import sys\n"
        "from src.embeddings import layouts\n"
        "slow = {'sklearn', 'openTSNE', 'umap', 'numba', 'matplotlib', 'pandas'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        "if 'umap' in layouts.available_layouts():\n"
        "    layouts._import_umap()\n"
        "    assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
