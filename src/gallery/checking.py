"""Finds pictures that look nearly the same, but are of two classes of a gallery."""

import numpy as np

from src.gallery.snapshot import Snapshot
from src.gallery.store import Store
from src.printable import printable
from src.system.progress import progress_bar

_NUM_NEIGHBOURS = 5

_BLOCK_SIZE = 512  # pictures compared at a time

# Of 255. Pictures saved again as JPEG of good quality differ by less.
_MAX_DIFFERENCE = 6.0


def near_duplicates(store: Store) -> list[str]:
    """Return a line for each two pictures of different classes that look nearly the same.

    Only the nearest neighbours of a picture are compared. Two pictures are nearly the same if the
    root of the mean squared difference of their pixels is at most 6 of 255.
    """
    identity = store.identity()
    assert identity is not None
    pictures = store.embeddings()
    snapshot = Snapshot(pictures, identity.distance)
    suspects = set()
    with progress_bar("compare classes", len(snapshot), "pictures") as bar:
        for start in range(0, len(snapshot), _BLOCK_SIZE):
            asking = np.arange(start, min(start + _BLOCK_SIZE, len(snapshot)))
            rows = snapshot.nearest(pictures.embeddings[asking], _NUM_NEIGHBOURS + 1).rows
            of_others = pictures.labels[rows] != pictures.labels[asking, None]
            asked = np.repeat(asking, of_others.sum(axis=1))
            for one, other in zip(asked, rows[of_others], strict=True):
                suspects.add((min(one, other), max(one, other)))
            bar.update(len(asking))
    lines = []
    for one, other in sorted(suspects):
        ids = [int(pictures.ids[row]) for row in (one, other)]
        found = store.pictures(ids)
        if len(found) < 2:  # one was removed meanwhile
            continue
        first, second = found
        difference = first.image.astype(np.float64) - second.image
        if np.sqrt(np.mean(difference**2)) <= _MAX_DIFFERENCE:
            lines.append(
                f"{store.where}: nearly the same: "
                + " and ".join(
                    f"#{picture.id} of {printable(picture.class_name)} "
                    f"({printable(picture.source)})"
                    for picture in (first, second)
                )
            )
    return lines
