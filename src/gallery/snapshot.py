"""One version of a gallery in memory: its embeddings, ready to be searched."""

from collections.abc import Collection
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.index import Index
from src.embeddings.open_set import Nearest
from src.embeddings.retrieval import nearest_class_means
from src.embeddings.spread import class_spread, relative_spread
from src.gallery.record import Changes, Embeddings
from src.mining.distances import comparable, from_squared

PARTS = ("of_class", "other", "radius", "spread")
"""The attributes of `Nearest` that take searches of their own."""

# Classes whose indices stay in memory.
_NUM_KEPT = 32


class Found(NamedTuple):
    """The nearest pictures of Q queries, nearest first.

    Attributes:
        rows: int [Q, K], positions in the snapshot.
        distances: float64 [Q, K], in the unit of the experiment's distance.
    """

    rows: NDArray[np.intp]
    distances: NDArray[np.float64]


class Snapshot:
    """A version of a gallery. It never changes, so threads may share it.

    Attributes:
        pictures: ids, labels, class names and embeddings.
    """

    def __init__(self, pictures: Embeddings, distance: str) -> None:
        """Index the pictures by `distance`, a key of `src.distance.DISTANCES`."""
        self.pictures = pictures
        self._distance = distance
        # Sorted by class, so that each class is a slice, and no index needs a copy.
        self._order = np.argsort(pictures.labels, kind="stable")
        self._points = comparable(pictures.embeddings, distance)[self._order]
        ends = np.bincount(pictures.labels, minlength=len(pictures.class_names)).cumsum()
        self._starts, self._ends = np.append(0, ends[:-1]), ends
        self._index = Index(self._points)
        self._index_of = lru_cache(_NUM_KEPT)(self._make_index_of)
        self._spread_of = cache(self._measure_spread_of)
        self._indices_beside = lru_cache(_NUM_KEPT)(self._make_indices_beside)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures.ids)

    def nearest(self, queries: NDArray[np.float32], count: int) -> Found:
        """Find the nearest pictures of each query exactly.

        Args:
            queries: float32 [Q, D].
            count: the desired K. If there are fewer pictures, K is their number.
        """
        rows, distances = self._index.search(comparable(queries, self._distance), count)
        return Found(self._order[rows], self._in_units(distances))

    def neighbourhood(
        self,
        queries: NDArray[np.float32],
        found: Found,
        parts: Collection[str] = PARTS,
        *,
        usual_spread: float | None,
    ) -> Nearest:
        """Return what the scores of `src.embeddings.open_set` need to know.

        Args:
            queries: float32 [Q, D].
            found: their K nearest pictures, by `nearest`; K >= 1.
            parts: which of PARTS to compute; the others are NaN.
            usual_spread: of a class; see `src.embeddings.spread`.
        """
        points = comparable(queries, self._distance)
        rows, count = found.rows, found.rows.shape[1]
        labels = self.pictures.labels[rows]
        of_class, other, radius = np.full((3, len(queries)), np.nan)
        spread = np.full(rows.shape, np.nan)
        own = labels[:, 0]
        for label in np.unique(own).tolist() if {"of_class", "other"} & set(parts) else ():
            asking = own == label
            if "of_class" in parts:
                _, to_class = self._index_of(label).search(points[asking], count)
                of_class[asking] = self._in_units(to_class).mean(axis=1)
            if "other" in parts:
                beside = [index.search(points[asking], 1) for index in self._indices_beside(label)]
                nearest = [self._in_units(distances[:, 0]) for _, distances in beside]
                other[asking] = np.min([np.full(asking.sum(), np.inf), *nearest], axis=0)
        if "radius" in parts:
            # A picture is its own nearest neighbour, or another one that equals it.
            around = self.nearest(self.pictures.embeddings[rows[:, 0]], count + 1).distances[:, 1:]
            radius[:] = around.mean(axis=1) if len(self) > 1 else np.inf
        if "spread" in parts:
            of_labels, places = np.unique(labels, return_inverse=True)
            spreads = np.array([self._spread_of(label) for label in of_labels.tolist()])
            spread = relative_spread(spreads, usual_spread)[places.reshape(rows.shape)]
        return Nearest(rows, labels, found.distances, of_class, other, radius, spread)

    def nearest_means(self, queries: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the class whose mean is nearest to each query, int32 [Q]."""
        means = self._class_means
        anything = np.zeros(len(queries), np.int32)
        labels = np.arange(len(means), dtype=np.int32)
        return nearest_class_means(comparable(queries, self._distance), anything, means, labels)

    @cached_property
    def _class_means(self) -> NDArray[np.float32]:
        """The mean of each class, float32 [C, D]; every class has a picture."""
        sums = np.add.reduceat(self._points, self._starts, axis=0, dtype=np.float64)
        means: NDArray[np.float32] = (sums / (self._ends - self._starts)[:, None]).astype(
            np.float32
        )
        return means

    def _make_index_of(self, label: int) -> Index:
        return Index(self._points[self._starts[label] : self._ends[label]])

    def _measure_spread_of(self, label: int) -> float:
        points = self._points[self._starts[label] : self._ends[label]]
        return class_spread(points, self._distance)

    def _make_indices_beside(self, label: int) -> list[Index]:
        """Return indices that together have all pictures of other classes."""
        parts = self._points[: self._starts[label]], self._points[self._ends[label] :]
        return [Index(part) for part in parts if len(part)]

    def _in_units(self, distances: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = from_squared(
            distances**2, self._distance, self._points.shape[1]
        )
        return found


def changed(pictures: Embeddings, changes: Changes) -> Embeddings:
    """Return the pictures of the version that `changes` leads to, in the order of their ids."""
    added = changes.added
    keep = ~np.isin(pictures.ids, changes.gone)
    new_label = {name: label for label, name in enumerate(added.class_names)}
    # A class that is gone has no picture left; its label is not used.
    relabelled = np.array([new_label.get(name, -1) for name in pictures.class_names], np.int32)
    ids = np.concatenate([pictures.ids[keep], added.ids])
    labels = np.concatenate([relabelled[pictures.labels[keep]], added.labels])
    embeddings = np.concatenate([pictures.embeddings[keep], added.embeddings])
    order = np.argsort(ids, kind="stable")
    return Embeddings(
        ids[order], labels[order], added.class_names, embeddings[order], added.version
    )
