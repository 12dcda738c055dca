"""A layout of a view: from the experiment's cache, or computed, perhaps in another process."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.embeddings import layouts
from src.printable import printable
from src.system.aside import Aside, is_worth_it
from src.system.cache import digest, kept_in, save_cached
from src.system.progress import phase

Layout = NDArray[np.float32]

logger = logging.getLogger(__name__)


def begin_layout(
    name: str,
    path: Path,
    embeddings: NDArray[np.float32],
    *,
    seed: int,
    initial: Layout | None = None,
    description: str = "t-SNE",
) -> Callable[[], Layout | None]:
    """Begin to compute a layout, unless it is in the cache.

    UMAP of many points computes in another process meanwhile: half of its time is compiling, and
    with a seed it uses one thread.

    Args:
        name: a key of `src.embeddings.layouts.TITLES`.
        path: the cache file.
        embeddings: float32 [N, D].
        seed: makes the result deterministic.
        initial: float32 [N, 2], the layout to start from; None for PCA.
        description: label of t-SNE's progress bar.

    Returns:
        A function that returns the layout, float32 [N, 2]. If it fails, it logs a warning and
        returns None.
    """
    key = {
        "embeddings": digest([embeddings]),
        "initial": None if initial is None else digest([initial]),
        "seed": seed,
        **layouts.settings(name),
    }
    kept = kept_in(path, key)
    if kept is not None and kept.shape == (len(embeddings), 2) and kept.dtype.kind == "f":
        return lambda: _usable(name, kept, len(embeddings))
    compute = _begin(name, embeddings, seed, initial, description)

    def finish() -> Layout | None:
        found = _without_failing(name, compute)
        if found is not None:
            save_cached(path, key, found)
            found = _usable(name, found, len(embeddings))
        return found

    return finish


def _begin(
    name: str,
    embeddings: NDArray[np.float32],
    seed: int,
    initial: Layout | None,
    description: str,
) -> Callable[[], Layout]:
    """Return a function that computes a layout; UMAP of many points has begun elsewhere."""
    if name == "pca":
        return partial(layouts.pca, embeddings)
    if name == "tsne":
        return partial(
            layouts.tsne, embeddings, seed=seed, initial=initial, description=description
        )
    if not is_worth_it(len(embeddings)):
        return partial(layouts.umap, embeddings, seed=seed, initial=initial)
    return partial(_waited_for, Aside(layouts.umap, embeddings, seed=seed, initial=initial))


def _waited_for(umap: Aside[Layout]) -> Layout:
    with phase("UMAP"):
        return umap.result()


def _without_failing(name: str, compute: Callable[[], Layout]) -> Layout | None:
    try:
        return compute()
    except Exception as error:  # libraries raise various types for unusual values
        reason = printable(f"{type(error).__name__}: {error}")
        title = layouts.TITLES[name]
        logger.warning("%s is skipped: it failed for these embeddings (%s)", title, reason)
        return None


def _usable(name: str, found: Layout, num_points: int) -> Layout | None:
    if found.shape == (num_points, 2) and np.isfinite(found).all():
        return found
    logger.warning("%s is skipped: it is not finite for these embeddings", layouts.TITLES[name])
    return None
