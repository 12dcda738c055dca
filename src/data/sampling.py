"""Which examples form a batch: a function of the seed and the step, and of nothing else.

Training that stops at step s goes on with the very batches it would have had: there is no state
to save. Batches are given by their indices into a split.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import gcd

import numpy as np
from numpy.typing import NDArray

from src.seeds import stream


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
            order = stream("order of examples", self.seed, epoch).permutation(self.num_examples)
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


class BalancedBatches:
    """P classes x K examples a batch, by which every anchor has positives and negatives.

    A round gives every class one turn, in a new order; a turn gives K examples of the class, and a
    class begins anew when all of its examples have been given. So at every step the turns of any
    two classes differ by at most 1, and so do the uses of any two examples of one class. Between
    classes they differ: the examples of a class half as large come twice as often.

    An epoch is so many batches as hold N examples on average. In unbalanced data these are not
    each example once: some of a large class are left for the next epochs.

    Attributes:
        classes_per_batch: P as used: all classes, where there are fewer than were asked for.
        steps_per_epoch: ceil(N / (P * K)); more, where classes with fewer than K examples make the
            batches smaller.

    Source: P x K batches are those of arXiv:1703.07737, section 2.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        classes_per_batch: int,
        examples_per_class: int,
        seed: int,
    ) -> None:
        """Draw `classes_per_batch` (P) classes, and `examples_per_class` (K) examples of each.

        Args:
            labels: integer [N], N > 0, of any values.
            classes_per_batch: > 0.
            examples_per_class: > 0; a class with fewer gives all that it has.
            seed: >= 0.
        """
        class_sizes = np.unique(labels, return_counts=True)[1]  # [C], ascending labels
        members = np.split(np.argsort(labels, kind="stable"), np.cumsum(class_sizes)[:-1])
        self._examples = [
            _Deck(indices, examples_per_class, partial(stream, "order of a class", seed, position))
            for position, indices in enumerate(members)
        ]
        self._classes = _Deck(
            np.arange(len(members)),
            classes_per_batch,
            partial(stream, "order of the classes", seed),
        )
        self._turn_sizes = np.minimum(class_sizes, examples_per_class)  # [C]
        self.classes_per_batch = self._classes.hand_size
        # A batch holds P / C of a round's examples on average: N divided by that, rounded up.
        per_round = int(self._turn_sizes.sum())
        self.steps_per_epoch = -(
            -len(labels) * len(members) // (self.classes_per_batch * per_round)
        )

    def from_step(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of steps `step`, `step + 1`, ... without end, each int [<= P * K].

        The examples of a class stand together.
        """
        while True:
            classes = self._classes.hand(step).tolist()
            first_turn = step * self.classes_per_batch
            # Every class has had one turn in each round before this one.
            hands = [
                self._examples[position].hand(turn // len(self._examples))
                for turn, position in enumerate(classes, start=first_turn)
            ]
            yield np.concatenate(hands)
            step += 1

    def examples_before(self, step: int) -> int:
        """Return how many examples the batches before `step` hold."""
        rounds, turns = divmod(step * self.classes_per_batch, len(self._examples))
        begun = self._classes.round(rounds)[:turns]
        return int(rounds * self._turn_sizes.sum() + self._turn_sizes[begun].sum())


class _Deck:
    """Items given by the hand: distinct within a hand, and each item once a round.

    Where the hands do not divide the items, a hand takes the end of one round and the beginning of
    the next. To be distinct, these two come from one order, which is kept until a hand ends with a
    round, at most hand_size rounds; all that lies between them is shuffled anew each round.

    Attributes:
        hand_size: the items of a hand; all, where there are fewer than were asked for.
    """

    def __init__(
        self,
        items: NDArray[np.intp],
        hand_size: int,
        generator: Callable[[int], np.random.Generator],
    ) -> None:
        """Give the n `items`, int [n], `hand_size` at a time; `generator` is that of a round."""
        self.hand_size = min(hand_size, len(items))
        self._items = items
        self._generator = generator
        self._rounds_per_order = self.hand_size // gcd(self.hand_size, len(items))
        self._latest = (-1, items)  # the latest round's number and order

    def hand(self, number: int) -> NDArray[np.intp]:
        """Return hand `number`, int [hand_size]."""
        number_of_round, start = divmod(number * self.hand_size, len(self._items))
        end = start + self.hand_size
        hand = self.round(number_of_round)[start:end]
        if end <= len(self._items):
            return hand
        return np.concatenate([hand, self.round(number_of_round + 1)[: end - len(self._items)]])

    def round(self, number: int) -> NDArray[np.intp]:
        """Return all items in the order of round `number`, int [n]."""
        latest, order = self._latest
        if latest == number:
            return order
        size = len(self._items)
        if self.hand_size == size:
            return self._items  # not worth shuffling: a hand is all of them
        first = number - number % self._rounds_per_order
        order = self._generator(first).permutation(self._items)
        if number != first:
            head = -number * size % self.hand_size  # of a hand that began in the round before
            tail = (number + 1) * size % self.hand_size  # of a hand that ends in the next one
            self._generator(number).shuffle(order[head : size - tail])
        self._latest = (number, order)
        return order


def batches_in_order(num_examples: int, batch_size: int) -> Iterator[NDArray[np.intp]]:
    """Yield each index once, in ascending order, int [<= B]."""
    for start in range(0, num_examples, batch_size):
        yield np.arange(start, min(start + batch_size, num_examples))
