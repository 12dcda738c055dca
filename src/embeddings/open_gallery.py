"""The gallery of an evaluation: finds the nearest classes from all distances, in one pass."""

import numpy as np
from numpy.typing import NDArray

from src.embeddings.class_distance import (
    Factors,
    factors_of,
    measure_factors,
    measured_rows,
    num_compared,
)
from src.embeddings.open_set import Nearest
from src.embeddings.retrieval import nearest_class_means
from src.embeddings.search import scale_exponent, visit_distances
from src.embeddings.whitening import Whitening, whitened
from src.mining.distances import comparable, from_squared


class OpenGallery:
    """A gallery, prepared for `nearest`: sorted by class, with vectors that can be compared.

    Attributes:
        classes: int32 [C], the labels, ascending.
        factors: of the sizes of classes; all are 1 until they are set.
    """

    def __init__(
        self,
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int32],
        distance: str,
        whitening: Whitening | None = None,
    ) -> None:
        """Prepare a gallery.

        Args:
            embeddings: float32 [G, D], G > 0.
            labels: int32 [G].
            distance: a key of `src.distance.DISTANCES`.
            whitening: of `src.embeddings.whitening`; None to compare embeddings as they are.
        """
        self._distance, self._whitening = distance, whitening
        order = np.argsort(labels, kind="stable")
        self._sorted_labels = labels[order]
        self._points = self._comparable(embeddings[order])
        self.classes, self._starts = np.unique(self._sorted_labels, return_index=True)
        self._ends = np.append(self._starts[1:], len(labels))
        self.factors: Factors | None = None

    def __len__(self) -> int:
        """Return the number of pictures, G."""
        return len(self._points)

    def nearest(self, queries: NDArray[np.float32]) -> Nearest:
        """Find the nearest class of each query exactly.

        Args:
            queries: float32 [Q, D]; none of them is a picture of the gallery.

        Returns:
            The classes. Of classes with the same score, the first is the nearest.
        """
        return self._search(self._comparable(queries), None)[0]

    def nearest_and_without(
        self, queries: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> tuple[Nearest, Nearest]:
        """Find the nearest classes twice: among all, and without the query's own class.

        Args:
            queries: float32 [Q, D]; none of them is a picture of the gallery.
            labels: int32 [Q], classes of the gallery, which has at least two.

        Returns:
            Both, as from `nearest`.
        """
        own = np.searchsorted(self.classes, labels)
        return self._search(self._comparable(queries), own)

    def nearest_means(self, queries: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the class whose mean is nearest to each query, int32 [Q]."""
        anything = np.zeros(len(queries), np.int32)
        return nearest_class_means(
            self._comparable(queries), anything, self._points, self._sorted_labels
        )

    def measure_factors(
        self, queries: NDArray[np.float32], labels: NDArray[np.int32]
    ) -> tuple[dict[str, float] | None, str | None]:
        """Measure the factors of sizes; see `src.embeddings.class_distance.measure_factors`.

        Args:
            queries: float32 [Q, D]; none of them is a picture of the gallery.
            labels: int32 [Q], classes of the gallery.
        """
        asking = measured_rows(labels)
        points = self._comparable(queries[asking])
        exponent = scale_exponent(points, self._points)
        own = np.searchsorted(self.classes, labels[asking])
        to_class: dict[int, NDArray[np.float32]] = {}

        def keep(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
            for row, of_row in zip(rows.tolist(), distances, strict=True):
                place = own[row]
                to_class[row] = of_row[self._starts[place] : self._ends[place]].copy()

        visit_distances(points, self._points, keep)

        in_order = (self._in_units(to_class.pop(row), exponent) for row in range(len(asking)))
        return measure_factors(labels[asking], in_order)

    def _search(
        self, points: NDArray[np.float32], own: NDArray[np.intp] | None
    ) -> tuple[Nearest, Nearest]:
        """Return the nearest classes of queries, and those without each one's `own` class."""
        exponent = scale_exponent(points, self._points)
        factors = factors_of(self._ends - self._starts, self.factors)
        places = np.zeros((2, len(points)), np.intp)
        found = np.full((2, len(points)), np.inf)

        def find(rows: NDArray[np.intp], distances: NDArray[np.float32]) -> None:
            closest = np.minimum.reduceat(distances, self._starts, axis=1)  # [r, C]
            # The mean distance to several pictures is not below that to the nearest.
            bounds = self._in_units(closest, exponent) / factors
            for row, of_row, bound in zip(rows, distances, bounds, strict=True):
                to_class: dict[int, float] = {}
                for kind in (0, 1) if own is not None else (0,):
                    if kind == 1 and own is not None:
                        bound[own[row]] = np.inf
                    for place in np.argsort(bound, kind="stable").tolist():
                        if bound[place] > found[kind, row] or np.isinf(bound[place]):
                            break
                        if place not in to_class:
                            part = of_row[self._starts[place] : self._ends[place]]
                            to_class[place] = self._to_class(part, exponent)
                        score = to_class[place] / factors[place]
                        before = (found[kind, row], places[kind, row])
                        if (score, place) < before or np.isinf(before[0]):
                            found[kind, row], places[kind, row] = score, place

        visit_distances(points, self._points, find)
        every, without = (
            Nearest(self.classes[of_kind], scores * factors[of_kind], factors[of_kind])
            for of_kind, scores in zip(places, found, strict=True)
        )
        return every, without

    def _to_class(self, scaled: NDArray[np.float32], exponent: int) -> float:
        """Return the distance to a class, given the squared and scaled ones to its pictures."""
        count = num_compared(len(scaled))
        nearest = np.partition(scaled, count - 1)[:count]
        return float(self._in_units(nearest, exponent).mean())

    def _comparable(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        finite = np.nan_to_num(embeddings).astype(np.float64)
        return whitened(comparable(finite, self._distance).astype(np.float32), self._whitening)

    def _in_units(self, scaled: NDArray[np.floating], exponent: int) -> NDArray[np.float64]:
        """Return the distances of squared distances that were divided by 4^exponent."""
        squared = np.ldexp(scaled.astype(np.float64), 2 * exponent)
        num_dimensions = self._points.shape[1]
        distances: NDArray[np.float64] = from_squared(squared, self._distance, num_dimensions)
        return distances
