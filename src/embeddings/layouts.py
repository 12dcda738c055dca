"""Computes 2-D layouts of embeddings with PCA, t-SNE and UMAP.

Every layout is deterministic. The libraries are imported on first use because that takes seconds.
"""

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.embeddings.search import k_nearest_neighbors
from src.system.progress import phase, progress_bar

TITLES = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}
"""Display names of the layouts."""

PERPLEXITY = 30
"""t-SNE's perplexity: roughly the number of neighbours of each point.

It is reduced if there are fewer than about three times as many points."""

EXAGGERATED_ITERATIONS = 100
EXAGGERATION = 12
ITERATIONS = 200
"""t-SNE iterations after those with exaggeration."""

RATE = 4
"""The rate of these iterations, as a multiple of N, openTSNE's own.

On MNIST's 10 000 test images, 100 + 200 iterations at four times the rate keep 41.0 % of the ten
nearest neighbours in 7.1 CPU seconds; 250 + 300 at openTSNE's rate keep 41.1 % in 12.4."""

MOMENTUM = 0.8

MAX_EXACT_NEIGHBORS = 20_000
"""With more points, t-SNE and UMAP search neighbours approximately (random projection trees).

With fewer points, comparing all pairs is faster."""

MIN_FFT_POINTS = 5_000
"""From this many points, t-SNE interpolates its repulsion on a grid in O(N) time.

That method is FIt-SNE (arXiv:1712.09005). With fewer points, a tree is faster (Barnes-Hut,
arXiv:1301.3342)."""

NUM_NEIGHBORS = 15
"""UMAP's number of neighbours (its default)."""

UMAP_EPOCHS = 200
"""UMAP's default for more than 10 000 points, used for every size. Its default below is 500."""

# Embeddings are rescaled if their largest magnitude has a binary exponent beyond +- this number.
_LARGEST_EXPONENT = 40

_PACKAGES = {
    "pca": ("scikit-learn",),
    "tsne": ("openTSNE", "scikit-learn"),
    "umap": ("umap-learn", "scikit-learn"),
}


def available_layouts() -> tuple[str, ...]:
    """Return the names of the layouts whose libraries are installed, t-SNE first."""
    has_umap = importlib.util.find_spec("umap") is not None
    return ("tsne", "pca", "umap") if has_umap else ("tsne", "pca")


def settings(name: str) -> dict[str, object]:
    """Return the settings that determine the layout `name`, besides embeddings and seed."""
    versions: dict[str, object] = {package: version(package) for package in _PACKAGES[name]}
    if name == "tsne":
        limits = {"max_exact": MAX_EXACT_NEIGHBORS, "min_fft": MIN_FFT_POINTS}
        iterations = [EXAGGERATED_ITERATIONS, EXAGGERATION, ITERATIONS, RATE, MOMENTUM]
        return {**versions, **limits, "perplexity": PERPLEXITY, "iterations": iterations}
    if name == "umap":
        return {
            **versions,
            "num_neighbors": NUM_NEIGHBORS,
            "epochs": UMAP_EPOCHS,
            "itself": "first",
        }
    return versions


def pca(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project the embeddings onto their first two principal components.

    Args:
        embeddings: float32 [N, D].

    Returns:
        float32 [N, 2]. With too few dimensions or points, the missing columns are zeros.
    """
    _wait_without_spinning()
    from sklearn.decomposition import PCA

    num_components = min(2, *embeddings.shape)
    layout = np.zeros((len(embeddings), 2), np.float32)
    if _spread(embeddings) > 0:
        with _quiet():  # values too large for float32 become infinite
            model = PCA(num_components, random_state=0)
            layout[:, :num_components] = model.fit_transform(embeddings.astype(np.float64))
    return layout


def tsne(
    embeddings: NDArray[np.float32],
    *,
    seed: int,
    initial: NDArray[np.float32] | None = None,
    description: str = "t-SNE",
) -> NDArray[np.float32]:
    """Compute a t-SNE layout: it keeps neighbours; distances between clusters mean little.

    Args:
        embeddings: float32 [N, D], compared by Euclidean distance.
        seed: makes the result deterministic.
        initial: float32 [N, 2], the layout to start from; None for PCA. Points whose neighbourhoods
            have not changed stay near their initial positions.
        description: label of the progress bar.

    Returns:
        float32 [N, 2].

    Source:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008; openTSNE.
    """
    size = len(embeddings)
    embeddings = _of_moderate_length(embeddings)
    start = pca(embeddings) if initial is None else initial
    if size < 4 or _spread(embeddings) == 0:  # too few points, or all equal
        return start.astype(np.float32)
    _wait_without_spinning()
    from openTSNE import TSNEEmbedding

    num_threads = os.cpu_count() or 1
    rng = np.random.default_rng(seed)
    with _quiet(), progress_bar(description, EXAGGERATED_ITERATIONS + ITERATIONS) as bar:
        bar.set_description(f"{description}: neighbours")
        affinities = _affinities(embeddings, seed, num_threads)
        bar.set_description(description)
        # A small start lets points pass each other. The noise separates equal points.
        scale = 1e-4 / max(_spread(start), 1e-12)
        start = (start - start.mean(axis=0)) * scale + rng.normal(0, 1e-6, start.shape)
        layout = TSNEEmbedding(
            start,
            affinities,
            negative_gradient_method="fft" if size >= MIN_FFT_POINTS else "bh",
            n_jobs=num_threads,
            random_state=seed,
        )
        _optimize(layout, bar)
    return np.asarray(layout, np.float32)


def _wait_without_spinning() -> None:
    """Make OpenMP's threads sleep while they wait; by default they wait in busy loops.

    These take half as much again of the CPUs' time, and three times as long on shared cores. OpenMP
    reads this when a library that contains it is loaded, so it must come before the first one.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _optimize(layout: Any, bar: Any) -> None:
    """Move the points of a `TSNEEmbedding`, first with exaggeration; advance the progress bar."""
    every = 10

    def advance(*_: object) -> None:  # a callback that returns True would end the optimization
        bar.update(every)

    for iterations, exaggeration, rate in (
        (EXAGGERATED_ITERATIONS, EXAGGERATION, 1 / EXAGGERATION),
        (ITERATIONS, 1, RATE),
    ):
        layout.optimize(
            iterations,
            learning_rate=rate * len(layout),
            exaggeration=exaggeration,
            momentum=MOMENTUM,
            inplace=True,
            callbacks=advance,
            callbacks_every_iters=every,
        )


def _affinities(embeddings: NDArray[np.float32], seed: int, num_threads: int) -> Any:
    """Return the affinities that t-SNE preserves: neighbour distances as probabilities."""
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import Annoy, PrecomputedNeighbors

    perplexity = min(PERPLEXITY, (len(embeddings) - 1) / 3)
    count = int(3 * perplexity)
    if len(embeddings) <= MAX_EXACT_NEIGHBORS:
        index = PrecomputedNeighbors(*k_nearest_neighbors(embeddings, count=count))
    else:
        index = Annoy(embeddings, count, n_jobs=num_threads, random_state=seed)
    return PerplexityBasedNN(perplexity=perplexity, knn_index=index, n_jobs=num_threads)


def umap(
    embeddings: NDArray[np.float32],
    *,
    seed: int,
    initial: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Compute a UMAP layout; its clusters are tighter than those of t-SNE.

    Args:
        embeddings: float32 [N, D], compared by Euclidean distance.
        seed: makes the result deterministic. With a seed, UMAP uses one thread.
        initial: float32 [N, 2], the layout to start from; None for PCA.

    Returns:
        float32 [N, 2].

    Source:
        McInnes, Healy and Melville, arXiv:1802.03426.
    """
    embeddings = _of_moderate_length(embeddings)
    start = pca(embeddings) if initial is None else initial
    if len(embeddings) < 4 or _spread(embeddings) == 0:
        return start.astype(np.float32)
    num_neighbors = min(NUM_NEIGHBORS, len(embeddings) - 1)
    init = (start - start.mean(axis=0)) * (10 / max(_spread(start), 1e-12))
    flat = np.ptp(init, axis=0) == 0  # UMAP divides by the range; with one dimension it is 0
    init[:, flat] = np.random.default_rng(seed).normal(0, 1e-6, (len(init), int(flat.sum())))
    with _quiet(), phase("UMAP: compiling, then"):
        model = _import_umap()(
            n_neighbors=num_neighbors,
            n_epochs=UMAP_EPOCHS,
            init=init,
            random_state=seed,
            n_jobs=1,  # required with a seed
            precomputed_knn=_exact_neighbors(embeddings, num_neighbors),
            tqdm_kwds={"desc": "UMAP", "disable": None, "leave": False, "dynamic_ncols": True},
        )
        layout = model.fit_transform(embeddings)
    return np.asarray(layout, np.float32)


def _exact_neighbors(
    embeddings: NDArray[np.float32], num_neighbors: int
) -> tuple[NDArray[np.intp] | None, NDArray[np.float32] | None]:
    """Return positions and distances of each point's neighbours, [N, K]; the point itself first.

    Returns (None, None) for more than MAX_EXACT_NEIGHBORS points: UMAP then uses its own search.
    Compiling that search takes half a minute.
    """
    if len(embeddings) > MAX_EXACT_NEIGHBORS:
        return None, None
    others, distances = k_nearest_neighbors(embeddings, count=num_neighbors - 1)
    neighbors = np.column_stack([np.arange(len(embeddings)), others])
    return neighbors, np.pad(distances, ((0, 0), (1, 0))).astype(np.float32)


def _import_umap() -> Any:
    """Return the class UMAP without importing the Keras model of its package.

    That model imports TensorFlow, which takes seconds, and Keras 3, which the Estimator does not
    support. Without the model the package only reports that it is missing.
    """
    hidden = "umap.parametric_umap"
    if "umap" not in sys.modules:
        sys.modules[hidden] = None  # type: ignore[assignment]  # importing it raises ImportError
        try:
            import umap  # noqa: F401
        finally:
            sys.modules.pop(hidden, None)
    from umap.umap_ import UMAP

    return UMAP


def _spread(points: NDArray[np.float32]) -> float:
    """Return the largest standard deviation of any column; 0 if all points are equal."""
    if len(points) == 0 or (points == points[0]).all():
        return 0.0
    return float(points.std(axis=0, dtype=np.float64).max())


def _of_moderate_length(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale embeddings by a power of two if their squares would overflow or underflow in float32.

    Scaling does not change the layouts of t-SNE and UMAP.
    """
    exponent = int(np.frexp(np.abs(embeddings).max(initial=0))[1])
    if abs(exponent) <= _LARGEST_EXPONENT:
        return embeddings
    return np.ldexp(embeddings.astype(np.float64), -exponent).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress library warnings about future versions and about settings chosen on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
