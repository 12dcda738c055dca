"""One version of a gallery in memory: its embeddings, ready to be searched."""

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.distance import DISTANCES
from src.embeddings.class_distance import Factors, factors_of, num_compared
from src.embeddings.index import Index
from src.embeddings.open_set import Nearest
from src.embeddings.retrieval import nearest_class_means
from src.embeddings.whitening import Whitening, whitened
from src.gallery.record import Changes, Embeddings
from src.mining.distances import comparable, from_squared

# Classes whose indices stay in memory.
_NUM_KEPT = 32

# Pictures among which the nearest class is looked for at first, and how many times more each time
# that this does not suffice.
_FIRST_SEARCH, _GROWTH = 8, 8


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

    def __init__(
        self,
        pictures: Embeddings,
        distance: str,
        factors: Factors | None = None,
        whitening: Whitening | None = None,
        class_sizes: NDArray[np.int64] | None = None,
    ) -> None:
        """Index the pictures.

        Args:
            pictures: what is searched.
            distance: a key of `src.distance.DISTANCES`.
            factors: of the sizes of classes; see `src.embeddings.class_distance`.
            whitening: see `src.embeddings.whitening`.
            class_sizes: int64 [C], how many pictures each class has, if `pictures` are only those
                nearest to one query; None if they are all.
        """
        self.pictures = pictures
        self._distance, self._whitening = distance, whitening
        # Sorted by class, so that each class is a slice, and no index needs a copy.
        self._order = np.argsort(pictures.labels, kind="stable")
        self._points = self._comparable(pictures.embeddings)[self._order]
        counts = np.bincount(pictures.labels, minlength=len(pictures.class_names))
        ends = counts.cumsum()
        self._starts, self._ends = np.append(0, ends[:-1]), ends
        self._index = Index(self._points)
        points, starts = self._points, self._starts

        @lru_cache(_NUM_KEPT)
        def index_of(label: int) -> Index:  # without self: a cycle would keep old versions
            return Index(points[starts[label] : ends[label]])

        self._index_of = index_of
        sizes = np.maximum(counts if class_sizes is None else class_sizes, 1)
        self._compared = np.array([num_compared(size) for size in sizes.tolist()], np.intp)
        self._factors = factors_of(sizes, factors)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures.ids)

    def nearest(self, queries: NDArray[np.float32], count: int) -> Found:
        """Find the nearest pictures of each query exactly.

        Args:
            queries: float32 [Q, D].
            count: the desired K. If there are fewer pictures, K is their number.
        """
        rows, distances = self._index.search(self._comparable(queries), count)
        return Found(self._order[rows], self._in_units(distances))

    def nearest_classes(self, queries: NDArray[np.float32]) -> Nearest:
        """Find the nearest class of each query exactly; there is a picture.

        Args:
            queries: float32 [Q, D].

        Returns:
            The classes. Of classes with the same score, any is returned.
        """
        points = self._comparable(queries)
        labels, scores = np.zeros(len(points), np.int32), np.full(len(points), np.inf)
        left, count = np.arange(len(points)), _FIRST_SEARCH
        sorted_labels = self.pictures.labels[self._order]
        while len(left):
            rows, apart = self._index.search(points[left], count, self._divisors)
            reached = self._in_units(apart)
            near = sorted_labels[rows]
            for label in np.unique(near).tolist():
                is_near = near == label
                asking = np.flatnonzero(is_near.any(axis=1))
                if self._compared[label] == 1:
                    found = reached[asking, is_near[asking].argmax(axis=1)]
                else:
                    found = self._to_class(points[left[asking]], label) / self._factors[label]
                queried = left[asking]
                is_better = found < scores[queried]
                scores[queried[is_better]] = found[is_better]
                labels[queried[is_better]] = label
            # A class's score is not below that of its nearest picture, by the factor of the class.
            # So classes without a picture among those found cannot be nearer than the last of them.
            left = left[(reached[:, -1] < scores[left]) & (count < len(self))]
            count *= _GROWTH
        factors = self._factors[labels]
        return Nearest(labels, scores * factors, factors)

    def nearest_means(self, queries: NDArray[np.float32]) -> NDArray[np.int32]:
        """Return the class whose mean is nearest to each query, int32 [Q]."""
        means = self._class_means
        anything = np.zeros(len(queries), np.int32)
        labels = np.arange(len(means), dtype=np.int32)
        return nearest_class_means(self._comparable(queries), anything, means, labels)

    @cached_property
    def _class_means(self) -> NDArray[np.float32]:
        """The mean of each class, float32 [C, D]; every class has a picture."""
        sums = np.add.reduceat(self._points, self._starts, axis=0, dtype=np.float64)
        means: NDArray[np.float32] = (sums / (self._ends - self._starts)[:, None]).astype(
            np.float32
        )
        return means

    @cached_property
    def _divisors(self) -> NDArray[np.float64] | None:
        """What the index divides Euclidean distances by, float64 [N]; None if that is always 1."""
        if (self._factors == 1).all():
            return None
        of_class = self._factors ** (1 / DISTANCES[self._distance].power)
        return np.repeat(of_class, self._ends - self._starts)

    def _to_class(self, points: NDArray[np.float32], label: int) -> NDArray[np.float64]:
        """Return the distance of points, float32 [Q, D], to a class, [Q].

        Pictures of the class that are not here, because they are none of those nearest to a query,
        are taken to be as far as the farthest that is. They are not nearer, unless embeddings are
        whitened: the index that found the pictures compares them as they are.
        """
        count = int(self._compared[label])
        _, apart = self._index_of(label).search(points, count)
        if missing := count - apart.shape[1]:
            _, to_all = self._index.search(points, len(self))
            apart = np.hstack([apart, np.repeat(to_all[:, -1:], missing, axis=1)])
        to_class: NDArray[np.float64] = self._in_units(apart).mean(axis=1)
        return to_class

    def _comparable(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        return whitened(comparable(embeddings, self._distance), self._whitening)

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
