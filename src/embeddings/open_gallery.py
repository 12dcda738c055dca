"""The gallery of an evaluation: finds what the scores of `open_set.py` need, in one pass."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.open_set import Nearest
from src.embeddings.retrieval import nearest_class_means
from src.embeddings.search import NUM_VOTES, nearest_columns, scale_exponent, visit_distances
from src.embeddings.spread import class_spread, relative_spread, usual_spread
from src.mining.distances import comparable, from_squared


class OpenGallery:
    """A gallery, prepared for `nearest`: sorted by class, with vectors that can be compared."""

    def __init__(
        self, embeddings: NDArray[np.float32], labels: NDArray[np.int32], distance: str
    ) -> None:
        """Prepare a gallery.

        Args:
            embeddings: float32 [G, D], G > 0.
            labels: int32 [G].
            distance: a key of `src.distance.DISTANCES`.
        """
        self._distance = distance
        self._order = np.argsort(labels, kind="stable")
        self._points = self._comparable(embeddings[self._order])
        self._sorted_labels = labels[self._order]
        self.classes, self._starts = np.unique(self._sorted_labels, return_index=True)
        self._ends = np.append(self._starts[1:], len(labels))
        slices = map(slice, self._starts, self._ends)
        spreads = np.array([class_spread(self._points[part], distance) for part in slices])
        self.usual_spread = usual_spread(spreads)
        self._relative_spreads = relative_spread(spreads, self.usual_spread)

    def __len__(self) -> int:
        """Return the number of pictures, G."""
        return len(self._points)

    def nearest(self, queries: NDArray[np.float32]) -> Nearest:
        """Find the nearest neighbours of each query exactly.

        Args:
            queries: float32 [Q, D]; none of them is a picture of the gallery.

        Returns:
            The neighbours: K is 5, or the number of pictures if the gallery has fewer. Pictures at
            the same distance come in the order of their labels. The radius is NaN until
            `with_radius` computes it.
        """
        points = self._comparable(queries)
        found = _Found.empty(len(queries), min(NUM_VOTES, len(self)))

        def find(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
            found.fill(rows, distances, self._starts, self._ends)

        visit_distances(points, self._points, find)
        return self._nearest(found, points)

    def nearest_and_without(
        self, queries: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> tuple[Nearest, Nearest]:
        """Find neighbours twice: among all pictures, and without those of the query's own class.

        Args:
            queries: float32 [Q, D]; none of them is a picture of the gallery.
            labels: int32 [Q], classes of the gallery, which has at least two.

        Returns:
            Both, as from `nearest`. In the second, K can be smaller.
        """
        points = self._comparable(queries)
        own = np.searchsorted(self.classes, labels)
        largest = int((self._ends - self._starts)[own].max(initial=0))
        found = _Found.empty(len(queries), min(NUM_VOTES, len(self)))
        without = _Found.empty(len(queries), min(NUM_VOTES, len(self) - largest))

        def find(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
            found.fill(rows, distances, self._starts, self._ends)
            for row, place in zip(distances, own[rows], strict=True):
                row[self._starts[place] : self._ends[place]] = np.inf
            without.fill(rows, distances, self._starts, self._ends)

        visit_distances(points, self._points, find)
        return self._nearest(found, points), self._nearest(without, points)

    def with_radius(self, nearest: Nearest) -> Nearest:
        """Return the neighbours with their `radius`, of the nearest neighbours in this gallery."""
        if nearest.positions.size == 0 or len(self) < 2:
            return nearest._replace(radius=np.full(len(nearest.positions), np.inf))
        places = np.empty(len(self), np.intp)
        places[self._order] = np.arange(len(self))
        asking, back = np.unique(places[nearest.positions[:, 0]], return_inverse=True)
        points = self._points[asking]
        exponent = scale_exponent(points, self._points)
        radii = np.empty(len(asking))
        count = min(nearest.positions.shape[1], len(self) - 1)

        def measure(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
            found = np.take_along_axis(distances, nearest_columns(distances, count), axis=1)
            radii[rows] = self._in_units(found, exponent).mean(axis=1)

        visit_distances(points, self._points, measure, own=asking)
        return nearest._replace(radius=radii[back])

    def nearest_means(self, queries: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the class whose mean is nearest to each query, int32 [Q]."""
        anything = np.zeros(len(queries), np.int32)
        return nearest_class_means(
            self._comparable(queries), anything, self._points, self._sorted_labels
        )

    def _nearest(self, found: "_Found", queries: NDArray[np.float32]) -> Nearest:
        """Return what was found, in the unit of the distance."""
        exponent = scale_exponent(queries, self._points)
        taken = np.isfinite(found.of_class)
        distances = np.full(found.of_class.shape, np.nan)
        distances[taken] = self._in_units(found.of_class[taken], exponent)
        labels = self._sorted_labels[found.columns]
        return Nearest(
            self._order[found.columns],
            labels,
            self._in_units(found.squared, exponent),
            np.nanmean(distances, axis=1) if len(distances) else np.empty(0),
            self._in_units(found.other, exponent),
            np.full(len(queries), np.nan),
            self._relative_spreads[np.searchsorted(self.classes, labels)],
        )

    def _comparable(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        finite = np.nan_to_num(embeddings).astype(np.float64)
        vectors = comparable(finite, self._distance)
        return vectors.astype(np.float32)

    def _in_units(self, scaled: NDArray[np.floating], exponent: int) -> NDArray[np.float64]:
        """Return the distances of squared distances that were divided by 4^exponent."""
        squared = np.ldexp(scaled.astype(np.float64), 2 * exponent)
        num_dimensions = self._points.shape[1]
        distances: NDArray[np.float64] = from_squared(squared, self._distance, num_dimensions)
        return distances


class _Found(NamedTuple):
    """What a pass over squared, scaled distances finds of each query, in a gallery in class order.

    Attributes:
        columns: int [Q, K], the nearest pictures.
        squared: float32 [Q, K], their distances.
        of_class: float32 [Q, K], the smallest distances to the nearest picture's class; infinite
            beyond the size of the class.
        other: float32 [Q], the smallest distance to another class; infinite if there is none.
    """

    columns: NDArray[np.intp]
    squared: NDArray[np.float32]
    of_class: NDArray[np.float32]
    other: NDArray[np.float32]

    @classmethod
    def empty(cls, num_queries: int, count: int) -> "_Found":
        """Return room for the K = `count` neighbours of each query."""
        shape = num_queries, count
        return cls(
            np.zeros(shape, np.intp),
            np.zeros(shape, np.float32),
            np.full(shape, np.inf, np.float32),
            np.full(num_queries, np.inf, np.float32),
        )

    def fill(
        self,
        rows: NDArray[np.intp],
        distances: NDArray[np.float32],
        starts: NDArray[np.intp],
        ends: NDArray[np.intp],
    ) -> None:
        """Write the results of some queries.

        Args:
            rows: int [r], their positions.
            distances: float32 [r, G]; pictures at an infinite distance do not exist.
            starts: int [C], the first picture of each class.
            ends: int [C], the picture after its last one.
        """
        count = self.columns.shape[1]
        self.columns[rows] = columns = nearest_columns(distances, count)
        self.squared[rows] = np.take_along_axis(distances, columns, axis=1)
        classes = np.searchsorted(starts, columns[:, 0], side="right") - 1
        for row, of_row, place in zip(rows, distances, classes, strict=True):
            of_class = of_row[starts[place] : ends[place]]
            if len(of_class) > count:
                of_class = np.partition(of_class, count - 1)[:count]
            self.of_class[row, : len(of_class)] = of_class
        nearest_of_class = np.minimum.reduceat(distances, starts, axis=1)  # [r, C]
        nearest_of_class[np.arange(len(rows)), classes] = np.inf
        self.other[rows] = nearest_of_class.min(axis=1)
