"""The loss of a batch and its gradient, from how often each distance stands in it.

A triplet loss, the sum over triplets of f(d(a,p) - d(a,n)), changes with a distance as that
distance's *weight* says: for max(d(a,p) - d(a,n) + margin, 0) the number of positive triplets that
hold it, positive for d(a,p) and negative for d(a,n). A strategy only has to find the weights, an
anchor's row at a time; `mine` makes the distances, and from the weights the gradient.

Everything is done in blocks of rows that fit the processor's cache. (Threads would gain nothing:
the steps of a block are too short for what handing the interpreter over costs.) To sort rows, what
a sort must carry along is packed into one integer, for NumPy sorts integers with vector
instructions, many times faster than TensorFlow's CPU kernels sort floats.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Pairs in a block of rows: 64 Ki of int64 are 512 KiB, so that an array or two fit the L2 cache.
_BLOCK_PAIRS = 1 << 16

# Squared distances below this share of |x|^2 + |y|^2 are rounding: the two vectors are equal.
_ROUNDING = 1e-13

# Beyond this, distances are not finite as float32.
_LARGEST = float(np.finfo(np.float32).max)

# The lower half of a sort key: the column, and above it a flag that sorts last among equals.
_FLAG = 30
_COLUMN = (1 << _FLAG) - 1


class Rows(NamedTuple):
    """A block of rows of the batch's distance matrix.

    Attributes:
        distances: float64 [R, B], >= 0, axes anchor and other.
        same: bool [R, B], whether the other has the anchor's label; so it has itself.
        anchors: int [R], the columns of the anchors themselves.
    """

    distances: NDArray[np.float64]
    same: NDArray[np.bool_]
    anchors: NDArray[np.intp]


class Weights(NamedTuple):
    """What a strategy finds in a block of rows.

    Attributes:
        weights: float32 [R, B], the derivative of `loss_sum` by each distance; 0 for the anchors.
        loss_sum: the sum of the triplets' losses.
        num_averaged_triplets: how many triplets the mean loss is over.
        num_positive_triplets: how many of the triplets looked at are positive.
        num_valid_triplets: how many are looked at.
    """

    weights: NDArray[np.float32]
    loss_sum: float
    num_averaged_triplets: int
    num_positive_triplets: int
    num_valid_triplets: int


class Mined(NamedTuple):
    """The loss of a batch.

    Attributes:
        loss: the mean over `num_averaged_triplets`, 0 where there is none; NaN where a distance is
            not finite.
        gradient: float32 [B, D], of the loss by the embeddings.
        num_averaged_triplets: as in `Weights`, of the whole batch; likewise the next two.
        num_positive_triplets: see there.
        num_valid_triplets: see there.
    """

    loss: float
    gradient: NDArray[np.float32]
    num_averaged_triplets: int
    num_positive_triplets: int
    num_valid_triplets: int


def mine(
    weigh: Callable[[Rows], Weights],
    labels: NDArray[np.integer],
    embeddings: NDArray[np.float32],
    distance: str,
) -> Mined:
    """Return the loss of a batch by the strategy `weigh`, and its gradient.

    |x - y|^2 = |x|^2 - 2 x.y + |y|^2 takes O(B^2) memory but cancels for near vectors. In float32
    two equal vectors come out up to 1e-3 apart; so it is computed in float64, where equal vectors
    are exactly 0 apart and near ones keep seven digits.

    Args:
        weigh: finds the weights in a block of rows.
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D], of any length.
        distance: `euclidean`; `squared_euclidean`; `mean_squared`, the mean over the D dimensions
            of the squared difference; or `cosine`, 1 - cos of the angle between them, which is half
            the squared Euclidean distance of the vectors scaled to length 1.

    Returns:
        The loss and counts. The gradient at Euclidean distance 0 is taken as 0, where that of the
        square root is infinite.

    Raises:
        ValueError: there are more or fewer labels than embeddings.
    """
    size, num_dimensions = embeddings.shape
    if labels.size != size:
        raise ValueError(
            f"found labels {labels.shape}; accepted: one for each of {size} embeddings"
        )
    labels = labels.reshape(size)
    columns = np.empty((size, num_dimensions + 2))  # x, 1, |x|^2
    x = columns[:, :-2]
    x[...] = embeddings
    if distance == "cosine":
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        norms[norms == 0] = np.inf  # a zero vector stays one, and gets no gradient
        x /= norms
    # By what squared distances are multiplied
    scale = {
        "euclidean": 1.0,
        "squared_euclidean": 1.0,
        "mean_squared": 1 / num_dimensions,
        "cosine": 0.5,
    }[distance]
    squares = np.einsum("bd,bd->b", x, x)  # [B]
    columns[:, -2] = 1.0
    columns[:, -1] = squares
    rows = np.empty_like(columns)  # -2x, |x|^2, 1
    np.multiply(x, -2.0, out=rows[:, :-2])
    rows[:, -2] = squares
    rows[:, -1] = 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        # The squared distances, and later, block by block, what each pair pulls with; [B, B].
        pairs = rows @ columns.T
    rounding = _ROUNDING * squares

    loss_sum, num_averaged, num_positive, num_valid = 0.0, 0, 0, 0
    num_rows = max(1, _BLOCK_PAIRS // max(1, size))
    for start in range(0, size, num_rows):
        block = slice(start, start + num_rows)
        distances = pairs[block]
        if not distances.max() < _LARGEST:  # NaN is not either
            return Mined(np.nan, np.full_like(embeddings, np.nan), 1, 1, 1)
        distances *= distances > rounding[block, None] + rounding  # 0 where it is rounding
        if distance == "euclidean":
            np.sqrt(distances, out=distances)
        elif scale != 1.0:
            distances *= scale
        found = weigh(Rows(distances, labels[block, None] == labels, np.arange(size)[block]))
        if distance == "euclidean":  # the derivative by x of |x - y| is (x - y) / |x - y|
            np.copyto(distances, np.inf, where=distances == 0)
            np.divide(found.weights, distances, out=distances)
        else:  # and that of |x - y|^2 is 2 (x - y)
            np.multiply(found.weights, 2.0 * scale, out=distances)
        loss_sum += found.loss_sum
        num_averaged += found.num_averaged_triplets
        num_positive += found.num_positive_triplets
        num_valid += found.num_valid_triplets
    if num_averaged == 0:
        return Mined(0.0, np.zeros_like(embeddings), 0, num_positive, num_valid)

    # A pair pulls both of its examples, by pull * (x - y) and its opposite. The column of ones
    # sums the pulls.
    with_ones = columns[:, :-1]
    pulled = pairs @ with_ones + pairs.T @ with_ones  # [B, D + 1]
    gradient = pulled[:, -1:] * x - pulled[:, :-1]
    if distance == "cosine":  # back through the scaling to length 1
        gradient -= np.einsum("bd,bd->b", gradient, x)[:, None] * x
        gradient /= norms
    gradient /= num_averaged
    mean = loss_sum / num_averaged
    return Mined(mean, gradient.astype(np.float32), num_averaged, num_positive, num_valid)


def sort_rows(
    distances: NDArray[Any], flag: NDArray[np.bool_], anchors: NDArray[np.intp]
) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Sort each anchor's row by distance; of equal ones those with the flag come last.

    A key holds in its upper half the bits of the distance as float32, which for floats >= 0 are
    ordered as the numbers are, and in its lower half the flag and the column.

    Args:
        distances: float [R, B], >= 0; equal are those that are equal as float32.
        flag: bool [R, B].
        anchors: int [R], see `Rows`.

    Returns:
        The flags and the columns in sorted order, [R, B - 1]: without the anchor itself.
    """
    keys = distances.astype(np.float32).view(np.int32).astype(np.int64)
    keys <<= 32
    keys |= flag.astype(np.int64) << _FLAG
    keys |= np.arange(distances.shape[1])
    keys[np.arange(len(keys)), anchors] = -1  # before all others
    keys.sort(axis=1)
    low = keys[:, 1:].astype(np.int32)  # the lower halves
    return (low >> _FLAG).astype(np.bool_), low & _COLUMN


def unsort_rows(values: NDArray[Any], columns: NDArray[np.int32]) -> NDArray[np.float32]:
    """Bring values, [R, B - 1], back to their columns, [R, B]; the anchor's own is 0."""
    num_rows, num_others = columns.shape
    unsorted = np.zeros((num_rows, num_others + 1), np.float32)
    row_starts = np.arange(num_rows)[:, None] * (num_others + 1)
    unsorted.reshape(-1)[columns + row_starts] = values
    return unsorted
