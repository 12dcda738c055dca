"""Offline triplets: chosen before a batch is formed, at random or by mining the embeddings.

Triplets are int32 [N, 3], one row for each example of a split: anchor, positive, negative, as
indices into the split. Row i has anchor i.

If an example is the only one of its class, its negative stands in the positive's place. If there is
no negative, the anchor itself stands in its place. The labels of such a row form no triplet, so the
loss leaves it out.
"""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.sampling import ShuffledBatches
from src.errors import UserError
from src.mining.distances import comparable
from src.seeds import stream
from src.system.atomic import atomic_write
from src.system.cache import digest
from src.system.regular_file import open_regular

_ROUNDING = 1e-13
"""A difference of squared distances below this share of |x|^2 + |y|^2 is rounding error."""


# Size of the pool in which `mine_triplets` searches an anchor's positive and negative. Batch-hard
# searches about 64 examples too; larger pools train worse: docs/decisions/0008.
POOL_SIZES = {"hard": 64, "semihard": 1024}


class TripletBatches:
    """A sampler of triplets: each example is an anchor once per epoch, in a new order every epoch.

    A batch holds the indices of T triplets, stacked in thirds: all anchors, all positives, all
    negatives. It depends only on the seed, the step and, if given, the mined triplets.

    Attributes:
        steps_per_epoch: the number of batches in an epoch, ceil(N / T).
    """

    def __init__(
        self,
        labels: NDArray[np.int32],
        batch_size: int,
        seed: int,
        mined: NDArray[np.int32] | None = None,
    ) -> None:
        """Prepare batches of `batch_size` (T) triplets.

        Args:
            labels: int32 [N].
            batch_size: > 0.
            seed: >= 0.
            mined: int32 [N, 3], the triplets of every epoch; None to draw new random ones every
                epoch.
        """
        self._labels = labels
        self._seed = seed
        self._mined = mined
        self._anchors = ShuffledBatches(len(labels), batch_size, seed)
        self.steps_per_epoch = self._anchors.steps_per_epoch

    def from_step(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of steps `step`, `step + 1`, ... endlessly, each int [<= 3T]."""
        anchors = self._anchors.from_step(step)
        while True:
            epoch, position = divmod(step, self.steps_per_epoch)
            triplets = self._triplets_of(epoch)
            for batch in islice(anchors, self.steps_per_epoch - position):
                yield triplets[batch].T.reshape(-1).astype(np.intp)
                step += 1

    def examples_before(self, step: int) -> int:
        """Return the number of anchors in the batches before `step`."""
        return self._anchors.examples_before(step)

    def one_epoch(self) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of the first epoch, each int [<= 3T]."""
        return islice(self.from_step(0), self.steps_per_epoch)

    def _triplets_of(self, epoch: int) -> NDArray[np.int32]:
        if self._mined is not None:
            return self._mined
        return random_triplets(self._labels, stream("random triplets", self._seed, epoch))


def random_triplets(labels: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw a random triplet for each example as the anchor.

    Args:
        labels: int32 [N], any values.
        rng: the random generator.

    Returns:
        int32 [N, 3]. The positive is any other example of the anchor's class. The negative is any
        example of another class. All choices are equally likely.
    """
    size = len(labels)
    by_class = np.argsort(labels, kind="stable")
    _, class_of, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    starts = np.cumsum(class_sizes) - class_sizes
    start, class_size = starts[class_of], class_sizes[class_of]  # of each example's class; [N]
    anchors = np.arange(size)
    place = np.empty(size, np.intp)  # of each example in `by_class`
    place[by_class] = anchors

    # Draw a step of 1 ... class_size - 1 around the class, then a step over the other classes.
    step = rng.integers(1, np.maximum(class_size, 2))
    positives = by_class[start + (place - start + step) % class_size]
    step = rng.integers(0, np.maximum(size - class_size, 1))
    negatives = by_class[(start + class_size + step) % size]
    positives = np.where(class_size > 1, positives, negatives)
    negatives = np.where(class_size < size, negatives, anchors)
    return np.stack([anchors, positives, negatives], axis=1).astype(np.int32)


def mine_triplets(
    mining: str,
    labels: NDArray[np.int32],
    embeddings: NDArray[np.float32],
    *,
    distance: str,
    seed: list[int],
) -> NDArray[np.int32]:
    """Choose a triplet for each example as the anchor, using the distances of the embeddings.

    The split is divided at random into pools of at most POOL_SIZES[mining] (R) examples. An
    anchor's candidates are the other examples of its pool. The search is exact within the pools and
    takes O(N R D) time.

    Args:
        mining: `hard`: the farthest positive and the nearest negative among the candidates.
            `semihard`: the positive is drawn at random from the whole split. The negative is the
            nearest candidate negative farther away than the positive; if there is none, the
            farthest negative. FaceNet also requires the negative to lie within the margin: if any
            does, the nearest does.
        labels: int32 [N].
        embeddings: float32 [N, D].
        distance: a key of `src.distance.DISTANCES`. Only the order of distances matters here.
        seed: determines the pools and the random draws.

    Returns:
        int32 [N, 3]. If the pool has no candidate for the positive or the negative, that place
        keeps an example drawn at random from the whole split.

    Source:
        arXiv:1503.03832, section 3.2: mining in a subset with the latest checkpoint, and semi-hard
        negatives.
    """
    choose = {"hard": _choose_hard, "semihard": _choose_semihard}[mining]
    rng = np.random.default_rng(seed)
    triplets = random_triplets(labels, rng)
    # float64, because the distances of near vectors would cancel in float32.
    x = comparable(embeddings.astype(np.float64), distance)
    num_pools = -(-len(labels) // POOL_SIZES[mining])
    for pool in np.array_split(rng.permutation(len(labels)), num_pools):
        same = labels[pool, None] == labels[pool]
        triplets[pool] = choose(triplets[pool], pool, same, x)
    return triplets


def _choose_hard(
    triplets: NDArray[np.int32],
    pool: NDArray[np.intp],
    same: NDArray[np.bool_],
    x: NDArray[np.float64],
) -> NDArray[np.int32]:
    """Return the `triplets` of the anchors `pool`, [R, 3], with the pool's hardest candidates."""
    rows = np.arange(len(pool))
    distances = _square_distances(x[pool])
    to_positives = np.where(same, distances, -np.inf)
    to_positives[rows, rows] = -np.inf
    to_negatives = np.where(same, np.inf, distances)
    farthest, nearest = to_positives.argmax(axis=1), to_negatives.argmin(axis=1)
    chosen = triplets.copy()
    has_positive = to_positives[rows, farthest] > -np.inf
    chosen[has_positive, 1] = pool[farthest[has_positive]]
    has_negative = to_negatives[rows, nearest] < np.inf
    chosen[has_negative, 2] = pool[nearest[has_negative]]
    return chosen


def _choose_semihard(
    triplets: NDArray[np.int32],
    pool: NDArray[np.intp],
    same: NDArray[np.bool_],
    x: NDArray[np.float64],
) -> NDArray[np.int32]:
    """Return the `triplets` of the anchors `pool`, [R, 3], with the pool's semi-hard negatives."""
    rows = np.arange(len(pool))
    distances = _square_distances(x[pool])
    differences = x[pool] - x[triplets[:, 1]]  # [R, D]
    to_positive = np.einsum("rd,rd->r", differences, differences)[:, None]
    # Products round, differences do not: a negative as far as the positive is not farther.
    squares = np.einsum("rd,rd->r", x[pool], x[pool])
    rounding = _ROUNDING * (squares[:, None] + squares)
    farther = np.where(same | (distances <= to_positive + rounding), np.inf, distances)
    nearest, farthest = farther.argmin(axis=1), np.where(same, -np.inf, distances).argmax(axis=1)
    negatives = np.where(farther[rows, nearest] < np.inf, nearest, farthest)
    chosen = triplets.copy()
    has_negative = ~same[rows, negatives]
    chosen[has_negative, 2] = pool[negatives[has_negative]]
    return chosen


def _square_distances(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared Euclidean distances [R, R] between the rows of `x`, [R, D]."""
    squares = np.einsum("rd,rd->r", x, x)
    distances: NDArray[np.float64] = squares[:, None] - 2.0 * (x @ x.T) + squares
    return distances


class TripletsLost(UserError):
    """Raised if a file of triplets is missing or damaged."""


def save_triplets(path: Path, triplets: NDArray[np.int32]) -> None:
    """Write `triplets`, int32 [N, 3], as a `.npy` file, followed by the SHA-256 of its bytes."""
    content = io.BytesIO()
    np.save(content, triplets, allow_pickle=False)
    with atomic_write(path) as file:
        file.write(content.getvalue() + digest([content.getvalue()]).encode())


def load_triplets(path: Path, num_examples: int) -> NDArray[np.int32]:
    """Read the file that `save_triplets` wrote for a split of `num_examples` (N).

    Returns:
        int32 [N, 3].

    Raises:
        TripletsLost: the file is missing or damaged.
        UserError: the file belongs to another split or is not a regular file.
    """
    accepted = (
        "accepted: the triplets that train.py mined there; put the file back, or start afresh "
        "with --overwrite"
    )
    try:
        with open_regular(path) as file:
            content = file.read()
    except FileNotFoundError:
        raise TripletsLost(f"{path}: missing; {accepted}") from None
    content, checksum = content[:-64], content[-64:]
    if checksum != digest([content]).encode():
        raise TripletsLost(f"{path}: damaged; {accepted}")
    triplets: NDArray[np.int32] = np.load(io.BytesIO(content), allow_pickle=False)
    is_valid = triplets.shape == (num_examples, 3) and triplets.dtype == np.int32
    if not is_valid or triplets.min() < 0 or triplets.max() >= num_examples:
        raise UserError(f"{path}: not triplets of {num_examples} images; {accepted}")
    return triplets
