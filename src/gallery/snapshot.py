"""One version of a gallery in memory: its embeddings, ready to be searched."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.embeddings.index import Index
from src.gallery.record import Changes, Embeddings
from src.mining.distances import comparable, from_squared


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
        self._index = Index(comparable(pictures.embeddings, distance))

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.pictures.ids)

    def nearest(self, queries: NDArray[np.float32], count: int) -> Found:
        """Find the nearest pictures of each query, float32 [Q, D], exactly.

        Args:
            queries: float32 [Q, D].
            count: the desired K. If there are fewer pictures, K is their number.
        """
        rows, distances = self._index.search(comparable(queries, self._distance), count)
        return Found(rows, from_squared(distances**2, self._distance, queries.shape[1]))


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
    if len(added.ids) == 0 or (order[:-1] < order[1:]).all():
        return Embeddings(ids, labels, added.class_names, embeddings, added.version)
    return Embeddings(
        ids[order], labels[order], added.class_names, embeddings[order], added.version
    )
