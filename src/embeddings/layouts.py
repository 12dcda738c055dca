"""Layouts: embeddings laid out in the plane, near ones near, by PCA, t-SNE and UMAP.

Each is deterministic. The libraries are imported on use: they take seconds.
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

PERPLEXITY = 30
"""t-SNE's: about how many neighbours each point has. Fewer points than three times it take less."""

EXAGGERATED_ITERATIONS = 250
EXAGGERATION = 12
ITERATIONS = 300
"""Of t-SNE, after those with exaggeration. 200 more take as long as all before, for the layout only
grows: on MNIST 40.3 % of the ten nearest neighbours are kept after 300, 40.8 % after 500."""

MAX_EXACT_NEIGHBORS = 20_000
"""Points above which the neighbours that a layout keeps together are found approximately, by random
projection trees. Below, that is slower than comparing all pairs."""

MIN_FFT_POINTS = 5_000
"""Points from which t-SNE's repulsion is interpolated on a grid (FIt-SNE, arXiv:1712.09005) in time
O(N). With fewer, a tree (Barnes-Hut, arXiv:1301.3342) is faster."""

NUM_NEIGHBORS = 15
"""UMAP's, its own default."""

UMAP_EPOCHS = 200
"""What UMAP takes for more than 10 000 points; for fewer it would take 500."""

# Of two, of the largest number of embeddings that are laid out as they are.
_LARGEST_EXPONENT = 40

_PACKAGES = {
    "pca": ("scikit-learn",),
    "tsne": ("openTSNE", "scikit-learn"),
    "umap": ("umap-learn", "scikit-learn"),
}


def available_layouts() -> tuple[str, ...]:
    """Return the names of the layouts that can be computed here, t-SNE first."""
    has_umap = importlib.util.find_spec("umap") is not None
    return ("tsne", "pca", "umap") if has_umap else ("tsne", "pca")


def settings(name: str) -> dict[str, object]:
    """Return what decides how the layout `name` comes out, beside embeddings and seed."""
    versions: dict[str, object] = {package: version(package) for package in _PACKAGES[name]}
    if name == "tsne":
        limits = {"max_exact": MAX_EXACT_NEIGHBORS, "min_fft": MIN_FFT_POINTS}
        iterations = [EXAGGERATED_ITERATIONS, ITERATIONS, EXAGGERATION]
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
    """Project on the two principal components.

    Args:
        embeddings: float32 [N, D].

    Returns:
        float32 [N, 2]; columns that there are no dimensions or points for are zeros.
    """
    from sklearn.decomposition import PCA

    num_components = min(2, *embeddings.shape)
    layout = np.zeros((len(embeddings), 2), np.float32)
    if _spread(embeddings) > 0:
        with _quiet():  # what is too long for float32 becomes infinite
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
    """Lay out by t-SNE: neighbours stay neighbours, distances between clusters mean little.

    Args:
        embeddings: float32 [N, D], compared by Euclidean distance.
        seed: fixes the result.
        initial: float32 [N, 2], the layout to start from, so that what is alike in both comes to
            stand at the same place. None for PCA.
        description: what stands before the progress bar.

    Returns:
        float32 [N, 2].

    Source:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008; openTSNE.
    """
    size = len(embeddings)
    embeddings = _of_moderate_length(embeddings)
    start = pca(embeddings) if initial is None else initial
    if size < 4 or _spread(embeddings) == 0:  # too few for neighbours, or nothing to tell apart
        return start.astype(np.float32)
    # Else its threads wait for each other in busy loops: on a shared machine three times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from openTSNE import TSNEEmbedding

    num_threads = os.cpu_count() or 1
    rng = np.random.default_rng(seed)
    with _quiet(), progress_bar(description, EXAGGERATED_ITERATIONS + ITERATIONS) as bar:
        bar.set_description(f"{description}: neighbours")
        affinities = _affinities(embeddings, seed, num_threads)
        bar.set_description(description)
        # The start is made small, for the points to pass each other, and without coincidences.
        scale = 1e-4 / max(_spread(start), 1e-12)
        start = (start - start.mean(axis=0)) * scale + rng.normal(0, 1e-6, start.shape)
        layout = TSNEEmbedding(
            start,
            affinities,
            negative_gradient_method="fft" if size >= MIN_FFT_POINTS else "bh",
            n_jobs=num_threads,
            random_state=seed,
        )
        every = 10

        def advance(*_: object) -> None:
            bar.update(every)

        for iterations, exaggeration, momentum in (
            (EXAGGERATED_ITERATIONS, EXAGGERATION, 0.5),
            (ITERATIONS, 1, 0.8),
        ):
            layout.optimize(
                iterations,
                exaggeration=exaggeration,
                momentum=momentum,
                inplace=True,
                callbacks=advance,
                callbacks_every_iters=every,
            )
    return np.asarray(layout, np.float32)


def _affinities(embeddings: NDArray[np.float32], seed: int, num_threads: int) -> Any:
    """Return what t-SNE keeps: how near each point's neighbours are, as probabilities."""
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
    """Lay out by UMAP, which draws clusters tighter than t-SNE.

    Args:
        embeddings: float32 [N, D], compared by Euclidean distance.
        seed: fixes the result; it also means one thread.
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
    flat = np.ptp(init, axis=0) == 0  # UMAP divides by the range, which one dimension leaves at 0
    init[:, flat] = np.random.default_rng(seed).normal(0, 1e-6, (len(init), int(flat.sum())))
    with _quiet(), phase("UMAP: compiling, then"):
        model = _import_umap()(
            n_neighbors=num_neighbors,
            n_epochs=UMAP_EPOCHS,
            init=init,
            random_state=seed,
            n_jobs=1,  # what a seed asks for
            precomputed_knn=_exact_neighbors(embeddings, num_neighbors),
            tqdm_kwds={"desc": "UMAP", "disable": None, "leave": False, "dynamic_ncols": True},
        )
        layout = model.fit_transform(embeddings)
    return np.asarray(layout, np.float32)


def _exact_neighbors(
    embeddings: NDArray[np.float32], num_neighbors: int
) -> tuple[NDArray[np.intp] | None, NDArray[np.float32] | None]:
    """Return positions and distances of each point's neighbours, [N, K], itself the first.

    UMAP's own search is for large sets (here None); compiling it alone takes half a minute.
    """
    if len(embeddings) > MAX_EXACT_NEIGHBORS:
        return None, None
    others, distances = k_nearest_neighbors(embeddings, count=num_neighbors - 1)
    neighbors = np.column_stack([np.arange(len(embeddings)), others])
    return neighbors, np.pad(distances, ((0, 0), (1, 0))).astype(np.float32)


def _import_umap() -> Any:
    """Return the class UMAP, without the Keras model that its package imports beside it.

    That model imports TensorFlow, which takes seconds, and Keras 3, which the Estimator cannot
    have; without it the package says that it goes without.
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
    """Return the largest standard deviation of a column; 0 where all points are equal."""
    if len(points) == 0 or (points == points[0]).all():
        return 0.0
    return float(points.std(axis=0, dtype=np.float64).max())


def _of_moderate_length(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return embeddings whose squares float32 can hold: scaled by a power of two where it cannot.

    Neither t-SNE nor UMAP depends on the scale.
    """
    exponent = int(np.frexp(np.abs(embeddings).max(initial=0))[1])
    if abs(exponent) <= _LARGEST_EXPONENT:
        return embeddings
    return np.ldexp(embeddings.astype(np.float64), -exponent).astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' warnings from the console: of versions to come, of settings we know."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
