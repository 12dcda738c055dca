"""Chooses the examples of each batch, as a function of only the seed and the step.

Training that resumes at step s gets the same batches as without the interruption, and no sampler
state is saved. A batch is given as indices into a split.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import gcd

import numpy as np
from numpy.typing import NDArray

from src.seeds import stream


class ShuffledBatches:
    """Draws each example once per epoch, reshuffled every epoch.

    The last batch of an epoch may be smaller.

    Attributes:
        steps_per_epoch: the number of batches in an epoch, ceil(N / B).
    """

    def __init__(self, num_examples: int, batch_size: int, seed: int) -> None:
        """Draw from `num_examples` (N) examples, `batch_size` (B) at a time."""
        self._num_examples = num_examples
        self._batch_size = batch_size
        self._seed = seed
        self.steps_per_epoch = -(-num_examples // batch_size)

    def from_step(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of steps `step`, `step + 1`, ... endlessly, each int [<= B]."""
        epoch, position = divmod(step, self.steps_per_epoch)
        while True:
            order = stream("order of examples", self._seed, epoch).permutation(self._num_examples)
            for start in range(position * self._batch_size, self._num_examples, self._batch_size):
                yield order[start : start + self._batch_size]
            epoch, position = epoch + 1, 0

    def examples_before(self, step: int) -> int:
        """Return how many examples the batches before `step` hold."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return epoch * self._num_examples + position * self._batch_size

    def one_epoch(self) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of the first epoch, each int [<= B]."""
        batches = self.from_step(0)
        for _ in range(self.steps_per_epoch):
            yield next(batches)


class BalancedBatches:
    """Draws batches of P classes x K examples, so that every anchor has positives and negatives.

    In a round, each class has one turn, in a new order. A turn draws K examples of the class. A
    class starts again after all its examples have been drawn. At every step, the numbers of turns
    of any two classes differ by at most 1. So do the numbers of uses of any two examples of one
    class. Examples of a class half as large are drawn twice as often.

    An epoch is the number of batches that hold N examples on average. If classes are unbalanced,
    an epoch does not contain each example once: some of a large class come in later epochs.

    Attributes:
        classes_per_batch: P as used; the number of classes if that is smaller than requested.
        steps_per_epoch: ceil(N / (P * K)); more if classes with fewer than K examples make the
            batches smaller.

    Source: P x K batches are from arXiv:1703.07737, section 2.
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
            examples_per_class: > 0; a class with fewer examples uses all of them.
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
        # On average, a batch holds P / C of a round's examples. Divide N by that, and round up.
        per_round = int(self._turn_sizes.sum())
        self.steps_per_epoch = -(
            -len(labels) * len(members) // (self.classes_per_batch * per_round)
        )

    def from_step(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of steps `step`, `step + 1`, ... endlessly, each int [<= P * K].

        The examples of a class are adjacent.
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


class MixedBatches:
    """Draws P x K batches of which a share of the classes is of the last examples, `extra_data`.

    A batch is one of `BalancedBatches` of the other examples, then one of the last examples. So 700
    extra classes do not crowd out ten.

    Attributes:
        classes_per_batch: P as used.
        steps_per_epoch: as if there were only the other examples and their part of the batches.
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        num_extra: int,
        classes_per_batch: int,
        extra_per_batch: int,
        examples_per_class: int,
        seed: int,
    ) -> None:
        """Draw `classes_per_batch` (P) classes, `extra_per_batch` of them extra ones.

        Args:
            labels: integer [N], of any values; the last `num_extra` have none of the others'.
            num_extra: from 1 to N - 1.
            classes_per_batch: > extra_per_batch.
            extra_per_batch: > 0.
            examples_per_class: K, > 0; a class with fewer examples uses all of them.
            seed: >= 0.
        """
        self._num_own = len(labels) - num_extra
        own, extra = labels[: self._num_own], labels[self._num_own :]
        num_own = classes_per_batch - extra_per_batch
        self._own = BalancedBatches(own, num_own, examples_per_class, seed)
        self._extra = BalancedBatches(extra, extra_per_batch, examples_per_class, seed)
        self.classes_per_batch = self._own.classes_per_batch + self._extra.classes_per_batch
        self.steps_per_epoch = self._own.steps_per_epoch

    def from_step(self, step: int) -> Iterator[NDArray[np.intp]]:
        """Yield the batches of steps `step`, `step + 1`, ... endlessly, each int [<= P * K]."""
        for own, extra in zip(self._own.from_step(step), self._extra.from_step(step), strict=True):
            yield np.concatenate([own, self._num_own + extra])

    def examples_before(self, step: int) -> int:
        """Return how many examples the batches before `step` hold."""
        return self._own.examples_before(step) + self._extra.examples_before(step)


class _Deck:
    """Draws fixed-size hands of distinct items; each round draws every item once.

    If the hand size does not divide the number of items, a hand may span two rounds: the end of
    one and the start of the next. To keep the hand distinct, both parts come from the same order.
    This order is kept until a hand ends with a round, for at most hand_size rounds. The items
    between these parts are reshuffled each round.

    Attributes:
        hand_size: the number of items in a hand; all items if there are fewer than requested.
    """

    def __init__(
        self,
        items: NDArray[np.intp],
        hand_size: int,
        generator: Callable[[int], np.random.Generator],
    ) -> None:
        """Draw from n `items`, int [n], `hand_size` at a time.

        `generator` returns the random generator for a round's number.
        """
        self.hand_size = min(hand_size, len(items))
        self._items = items
        self._generator = generator
        self._rounds_per_order = self.hand_size // gcd(self.hand_size, len(items))
        self._latest = (-1, items)  # the number and the order of the latest round

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
            return self._items  # no shuffling needed, because a hand holds all items
        first = number - number % self._rounds_per_order
        order = self._generator(first).permutation(self._items)
        if number != first:
            head = -number * size % self.hand_size  # items of a hand begun in the previous round
            tail = (number + 1) * size % self.hand_size  # items of a hand that ends in the next
            self._generator(number).shuffle(order[head : size - tail])
        self._latest = (number, order)
        return order


def batches_in_order(num_examples: int, batch_size: int) -> Iterator[NDArray[np.intp]]:
    """Yield each index once, in ascending order, int [<= B]."""
    for start in range(0, num_examples, batch_size):
        yield np.arange(start, min(start + batch_size, num_examples))
