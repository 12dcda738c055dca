"""Chooses the colours of classes: ten that nobody confuses, or one for a group of neighbours."""

from typing import NamedTuple

import numpy as np
from matplotlib import colors
from numpy.typing import NDArray

# Found by simulated annealing over sRGB: the smallest CIEDE2000 difference of two colours is 28
# with normal vision and 16 with each colour blindness (Machado et al., 2009). The first colours
# differ most. `tests/drawing/test_colors.py` measures this.
TEN_COLORS = (
    *("#002dfe", "#bcc919", "#a91b06", "#26d5e4", "#7a1954"),
    *("#ffa9a0", "#13724e", "#b87715", "#018cf5", "#847a8b"),
)

NO_COLOR = "#9a9a9a"
"""Of classes without a colour of their own."""

MAX_GROUPED = 3_000
"""With more classes there are no groups: they take the memory of all pairs of classes."""


class ClassColors(NamedTuple):
    """The colours of classes.

    Attributes:
        colors: float64 [C, 3] in 0 to 1, by label.
        is_own: bool [C], whether no other class has the class's colour.
        said: a sentence for the caption.
    """

    colors: NDArray[np.float64]
    is_own: NDArray[np.bool_]
    said: str


def class_colors(
    labels: NDArray[np.int32],
    num_classes: int,
    embeddings: NDArray[np.float32] | None = None,
) -> ClassColors:
    """Return a colour for each class.

    Nobody can distinguish more than about ten colours. If more classes are shown, neighbouring
    classes form ten groups, and each group has a colour. Without embeddings, which a running
    training changes, the ten largest classes have a colour, and the others are grey.

    Args:
        labels: int32 [N], of the images shown.
        num_classes: C.
        embeddings: float32 [N, D], finite; None to form no groups.
    """
    present, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    ten = np.array([colors.to_rgb(color) for color in TEN_COLORS])
    found = np.tile(colors.to_rgb(NO_COLOR), (num_classes, 1))
    is_own = np.zeros(num_classes, bool)
    if len(present) <= len(ten):
        found[present], is_own[present] = ten[: len(present)], True
        return ClassColors(found, is_own, "Each class has its own colour.")
    if embeddings is None:
        largest = present[np.sort(np.argsort(-sizes, kind="stable")[: len(ten)])]
        found[largest], is_own[largest] = ten, True
        said = f"The {len(ten)} largest of {len(present)} classes are coloured, the others grey."
        return ClassColors(found, is_own, said)
    groups = None
    if len(present) <= MAX_GROUPED:
        groups = _groups_of_neighbors(_class_means(embeddings, places, sizes), len(ten))
    if groups is None:
        said = f"{len(present)} classes are too many for colours, so there are none."
        return ClassColors(found, is_own, said)
    found[present] = ten[groups]
    is_own[present] = np.bincount(groups)[groups] == 1
    said = (
        f"Nobody can tell {len(present)} colours apart, so neighbouring classes (by the means of "
        f"their embeddings) form {groups.max() + 1} groups, each in one colour."
    )
    return ClassColors(found, is_own, said)


def darker(color: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a version of a colour, [3], in which text is legible on white.

    It is mixed with black until its contrast with white is 4.5, as WCAG 2 demands of text.
    """
    for share in np.linspace(1, 0, 21):
        mixed: NDArray[np.float64] = share * color
        linear = np.where(mixed <= 0.04045, mixed / 12.92, ((mixed + 0.055) / 1.055) ** 2.4)
        if 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5:
            break
    return mixed


def _class_means(
    embeddings: NDArray[np.float32], places: NDArray[np.intp], sizes: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the mean embedding of each class, float64 [K, D]."""
    sums = np.zeros((len(sizes), embeddings.shape[1]))
    np.add.at(sums, places, embeddings)
    means: NDArray[np.float64] = sums / sizes[:, None]
    return means


def _groups_of_neighbors(means: NDArray[np.float64], limit: int) -> NDArray[np.intp] | None:
    """Return the group of each class, int [K], by Ward's method; None if all means are equal.

    Groups are numbered by their first class.
    """
    from sklearn.cluster import AgglomerativeClustering  # slow to import

    means = means - means.mean(axis=0)
    largest = np.abs(means).max()
    if largest == 0:
        return None
    found = AgglomerativeClustering(limit, linkage="ward").fit_predict(means / largest)
    _, first, groups = np.unique(found, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    numbered: NDArray[np.intp] = order[groups]
    return numbered
