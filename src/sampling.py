"""Which examples form a batch: a function of the seed and the step, and of nothing else.

Training that stops at step s goes on with the very batches it would have had: there is no state
to save. Batches are given by their indices into a split.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class ShuffledBatches:
    """Each example once per epoch, in a new order every epoch; an epoch's last batch is smaller.

    Attributes:
        steps_per_epoch: the batches in an epoch, ceil(N / B).
    """

    def __init__(self, num_examples: int, batch_size: int, seed: int) -> None:
        """Draw from `num_examples` (N) examples, `batch_size` (B) at a time."""
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = -(-num_examples // batch_size)

    def from_step(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of steps `step`, `step + 1`, ... without end, each int [<= B]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        while True:
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_examples)
            for start in range(position * self.batch_size, self.num_examples, self.batch_size):
                yield order[start : start + self.batch_size]
            epoch, position = epoch + 1, 0

    def examples_before(self, step: int) -> int:
        """Return how many examples the batches before `step` hold."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return epoch * self.num_examples + position * self.batch_size

    def one_epoch(self) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of the first epoch, each int [<= B]."""
        batches = self.from_step(0)
        for _ in range(self.steps_per_epoch):
            yield next(batches)


def batches_in_order(num_examples: int, batch_size: int) -> Iterator[NDArray[np.intp]]:
    """Yield each index once, in ascending order, int [<= B]."""
    for start in range(0, num_examples, batch_size):
        yield np.arange(start, min(start + batch_size, num_examples))
