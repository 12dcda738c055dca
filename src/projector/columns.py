"""Compares each point with a gallery, and describes its neighbours as metadata columns."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.split import Split
from src.embeddings.metrics import Embedded
from src.embeddings.neighborhood import errors_nearby, neighbors


class Comparison(NamedTuple):
    """Some of the points, and the gallery that they are compared with.

    Attributes:
        gallery: the name of a split.
        rows: int [Q], the positions of the points.
        own: int [Q], the positions of the points in the gallery; None if it does not contain them.
    """

    gallery: str
    rows: NDArray[np.intp]
    own: NDArray[np.intp] | None


def comparisons(
    name: str, split: Split, train: Split, indices: NDArray[np.intp]
) -> list[Comparison]:
    """Return with which gallery each point is compared.

    If the training split contains the class of a point, the training split is the gallery.
    Otherwise the gallery is the whole of the point's own split.

    Args:
        name: of the split.
        split: the whole split.
        train: the training split.
        indices: int [N], the positions of the points in the split.
    """
    if name == "train":
        return [Comparison("train", np.arange(len(indices)), indices)]
    seen = np.isin(split.labels[indices], train.labels)
    trained, others = np.flatnonzero(seen), np.flatnonzero(~seen)
    both = [Comparison("train", trained, None), Comparison(name, others, indices[others])]
    return [comparison for comparison in both if len(comparison.rows) > 0]


def find_neighbors(
    points: Embedded, compared: Sequence[Comparison], galleries: Mapping[str, Embedded]
) -> NDArray[np.float64]:
    """Return what the galleries say about each point, float64 [N, 4].

    Args:
        points: the N points.
        compared: from `comparisons`.
        galleries: by name.

    Returns:
        The attributes of `src.embeddings.neighborhood.Neighbors`, and `errors_nearby`.
    """
    embeddings, labels = points
    found = np.full((len(labels), 4), np.nan)
    for gallery, rows, own in compared:
        said = neighbors(embeddings[rows], labels[rows], *galleries[gallery], own)
        found[rows, :3] = np.column_stack(said)
    predicted = found[:, 0]
    found[:, 3] = errors_nearby(embeddings, predicted >= 0, predicted != labels)
    return found


def neighbor_columns(
    found: NDArray[np.float64],
    labels: NDArray[np.int32],
    class_names: tuple[str, ...],
    compared_with: NDArray[np.object_],
) -> dict[str, NDArray[Any]]:
    """Return the neighbour information of each example as metadata columns.

    - `outcome`: the result in words, "4 right" or "4 taken for 9". The projector shows it beside a
      point and can search it, even if class names are numbers.
    - `predicted_label`: the most frequent class of the 5 nearest gallery examples; None if the
      gallery has no other example of the class.
    - `prediction`: "right" or "wrong"; None if `predicted_label` is None.
    - `compared_with`: the gallery: `train`, or for classes unseen in training the split itself.
    - `own_class_distance`, `other_class_distance`: Euclidean distances to the nearest gallery
      example of the same class and of any other class.
    - `errors_nearby`: the share of wrong predictions around the example.

    Args:
        found: float64 [N, 4], from `find_neighbors`.
        labels: int32 [N].
        class_names: by label.
        compared_with: text [N], the name of each example's gallery.
    """
    predicted = found[:, 0].astype(int)
    is_judged, is_right = predicted >= 0, predicted == labels
    names = np.array([*class_names, None], dtype=object)  # the index -1 selects None
    own_names, predicted_names = names[labels], names[predicted]
    outcome = own_names + ": no other image of its class"
    outcome[is_right] = own_names[is_right] + " right"
    is_wrong = is_judged & ~is_right
    outcome[is_wrong] = own_names[is_wrong] + " taken for " + predicted_names[is_wrong]
    prediction = np.where(is_right, "right", np.where(is_wrong, "wrong", None))  # type: ignore[call-overload]
    return {
        "outcome": outcome,
        "predicted_label": predicted_names,
        "prediction": prediction,
        "compared_with": compared_with,
        "own_class_distance": found[:, 1],
        "other_class_distance": found[:, 2],
        "errors_nearby": found[:, 3],
    }
