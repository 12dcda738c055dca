"""Divides each batch among replicas, and brings the parts together so that it is mined whole.

A replica is a device that holds the network. A worker is a process, and has one or more replicas. A
step is the same for any number of them:

1. Each replica embeds its own rows of the batch.
2. The embeddings are gathered, so that every replica has those of the whole batch.
3. Each replica mines its own anchors against all candidates; sums and counts are added up.
4. The gradient by the embeddings is added up over replicas, and each continues with its own rows.
5. The gradients by the weights are added up, and every worker makes the same step.

Within a process, the parts are tensors of one graph: gathering is a concatenation, and gradients
add up by themselves. Between processes they are exchanged by collective ops. Every worker has the
same batches' labels (a function of seed and step), so labels are not exchanged.

docs/decisions/0020-several-workers.md says why this is no `tf.distribute.Strategy`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from model.estimator import keras, tf
from model.mining.loss import TripletLoss
from model.rows import Rows, drawing_layer, trained_batch_norms
from src.errors import UserError
from src.system.signals import SIGNALS

# All workers build their collective ops in the same order, so that these numbers agree.
_keys = count(1)

# Where workers exchange: the ring over the network was tested with memory of the host.
_HOST = "/device:CPU:0"


@dataclass(frozen=True)
class Distribution:
    """Which part of each batch this process has. The default is one replica, which has it all.

    A batch has `size` rows: B examples or, offline, T triplets, which are stacked in thirds.

    Attributes:
        rank: this worker's number; 0 is the chief.
        num_workers: the number of processes.
        devices: the devices of this process's replicas; every worker has equally many.
        max_size: the size of the largest batch. Collective ops need fixed shapes, and the last
            batch of an epoch may be smaller.
        stack: 3 if batches are stacked triplets, else 1.
    """

    rank: int = 0
    num_workers: int = 1
    devices: tuple[str, ...] = ("",)
    max_size: int = 1
    stack: int = 1

    @property
    def num_replicas(self) -> int:
        """The number of replicas of all workers."""
        return self.num_workers * len(self.devices)

    def replicas(self, size: tf.Tensor) -> Iterator[tuple[AbstractContextManager, "Range"]]:
        """Yield for each replica of this process its device and its range of the batch's rows."""
        for number, device in enumerate(self.devices, start=self.rank * len(self.devices)):
            own = Range.of(number, self.num_replicas, size)
            yield tf.device(device) if device else nullcontext(), own

    def own(self, size: tf.Tensor | int) -> "Range":
        """Return this process's range of the batch's rows, which its replicas share."""
        return Range.of(self.rank, self.num_workers, size)

    def own_columns(self, size: int) -> NDArray[np.intp]:
        """Return the positions of this process's rows in the batch, as it is stacked: int [n]."""
        own = self.own(size)
        return np.concatenate(
            [np.arange(own.first, own.end) + third * size for third in range(self.stack)]
        )

    def rows(self, own: "Range", size: tf.Tensor) -> Rows:
        """Return a range as rows of the batch, as it is stacked."""
        return Rows(
            [own.first + third * size for third in range(self.stack)],
            [own.end - own.first] * self.stack,
        )

    def split(self, values: tf.Tensor, size: tf.Tensor) -> list[tf.Tensor]:
        """Divide this process's rows among its replicas: [n, ...] -> a list of [m, ...]."""
        if len(self.devices) == 1:
            return [values]
        start, stacked = self.own(size).first, self._thirds(values)
        parts = [stacked[:, own.first - start : own.end - start] for _, own in self.replicas(size)]
        return [tf.reshape(part, [-1, *values.shape[1:]]) for part in parts]

    def join(self, parts: list[tf.Tensor]) -> tf.Tensor:
        """Undo `split`."""
        if len(parts) == 1:
            return parts[0]
        joined = tf.concat([self._thirds(part) for part in parts], axis=1)
        return tf.reshape(joined, [-1, *parts[0].shape[1:]])

    def _thirds(self, values: tf.Tensor) -> tf.Tensor:
        """Return [stack, n, ...]."""
        rows = tf.shape(values)[0] // self.stack
        return tf.reshape(values, tf.concat([[self.stack, rows], tf.shape(values)[1:]], 0))

    def gather(self, embeddings: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Return the embeddings of all workers' rows.

        Args:
            embeddings: float32 [n, D], of this process's rows, not stacked.
            size: integer scalar, the batch's.

        Returns:
            float32 [size, D], in the batch's order. With several workers, it has no gradient
            towards `embeddings`; see `gradient_of_own`.
        """
        if self.num_workers == 1:
            return embeddings
        room = -(-self.max_size // self.num_workers)
        padded = _pad(tf.stop_gradient(embeddings), room)
        gathered = self.gather_all(padded)
        gathered = tf.reshape(gathered, [self.num_workers * room, embeddings.shape[1]])
        workers = tf.range(self.num_workers, dtype=tf.int64)
        firsts = Range.of(workers, self.num_workers, tf.cast(size, tf.int64)).first
        positions = tf.range(tf.cast(size, tf.int64))
        owners = tf.searchsorted(firsts, positions, side="right", out_type=tf.int64) - 1
        return tf.gather(gathered, owners * room + positions - tf.gather(firsts, owners))

    def gradient_of_own(self, gradient: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Return the gradient of the whole loss by this process's embeddings.

        Args:
            gradient: float32 [size, D], of the loss of this process's anchors by all embeddings.
            size: integer scalar, the batch's.

        Returns:
            float32 [n, D].
        """
        if self.num_workers == 1:
            return gradient
        own = self.own(size)
        return self._add(_pad(gradient, self.max_size))[own.first : own.end]

    def total(self, triplets: TripletLoss) -> TripletLoss:
        """Add up loss and counts over all workers; the gradient is that of the own loss.

        If there are several workers, hooks can feed `distribution/stop`, float64, with a number for
        each of SIGNALS, and fetch its sum over workers, `distribution/stop_sum`.
        """
        if self.num_workers == 1:
            return triplets
        with tf.name_scope("distribution"):
            flags = tf.zeros([len(SIGNALS)], tf.float64, name="stop")  # hooks may feed any tensor
            # float64 holds counts up to 9e15 exactly.
            numbers = [tf.cast(tf.stop_gradient(field), tf.float64) for field in triplets]
            added = self._add(tf.concat([tf.stack(numbers), flags], 0))
            tf.identity(added[len(numbers) :], name="stop_sum")
        own_gradient = triplets.loss_sum - tf.stop_gradient(triplets.loss_sum)
        counts = [tf.cast(added[i], tf.int64) for i in range(1, len(numbers))]
        return TripletLoss(added[0] + own_gradient, *counts)

    def add_gradients(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Add up gradients by the weights over all workers, in one exchange."""
        if self.num_workers == 1:
            return gradients
        sizes = [gradient.shape.num_elements() for gradient in gradients]
        added = self._add(tf.concat([tf.reshape(gradient, [-1]) for gradient in gradients], 0))
        return [
            tf.reshape(part, gradient.shape)
            for part, gradient in zip(tf.split(added, sizes), gradients, strict=True)
        ]

    def from_chief(self, values: tf.Tensor) -> tf.Tensor:
        """Return the chief's tensor on every worker; type and shape agree."""
        if self.num_workers == 1:
            return values
        with tf.device(_HOST):
            if self.rank == 0:
                return tf.raw_ops.CollectiveBcastSendV2(input=values, **self._group())
            received = tf.raw_ops.CollectiveBcastRecvV2(
                T=values.dtype, shape=tf.shape(values), **self._group()
            )
            return tf.ensure_shape(received, values.shape)

    def gather_all(self, values: tf.Tensor) -> tf.Tensor:
        """Return the tensors of all workers by rank: [n, ...] of each -> [num_workers * n, ...]."""
        with tf.device(_HOST):
            return tf.raw_ops.CollectiveGatherV2(input=values, **self._collective())

    def _add(self, values: tf.Tensor) -> tf.Tensor:
        """Return the sum of all workers' tensors, whose fixed shapes agree."""
        with tf.device(_HOST):
            added = tf.raw_ops.CollectiveReduceV2(
                input=values, merge_op="Add", final_op="Id", **self._collective()
            )
        return tf.stop_gradient(tf.ensure_shape(added, values.shape))

    def _collective(self) -> dict[str, object]:
        return {**self._group(), "ordering_token": []}

    def _group(self) -> dict[str, object]:
        return {
            "group_size": self.num_workers,
            "group_key": 1,
            "instance_key": next(_keys),
            "communication_hint": "ring",
        }


@dataclass(frozen=True)
class Range:
    """Rows `first` ... `end - 1` of a batch; integers or integer tensors."""

    first: tf.Tensor | int
    end: tf.Tensor | int

    @classmethod
    def of(cls, number: tf.Tensor | int, parts: int, size: tf.Tensor | int) -> "Range":
        """Return part `number` of `size` rows that are divided as equally as possible."""
        return cls(size * number // parts, size * (number + 1) // parts)


ONE_REPLICA = Distribution()


def _pad(values: tf.Tensor, length: int) -> tf.Tensor:
    """Append zeros: [n, D] -> [length, D], a shape that is known when the graph is built."""
    missing = length - tf.shape(values)[0]
    return tf.ensure_shape(tf.pad(values, [[0, missing], [0, 0]]), [length, values.shape[1]])


def check_network(network: keras.Model, num_replicas: int) -> None:
    """Refuse what several replicas cannot compute exactly as one.

    Call this in the graph in which the network was built; it adds ops.

    Raises:
        UserError: the network has batch normalization that is trained, because each replica would
            normalize by its own rows; or a random layer that does not draw by row.
    """
    if num_replicas == 1:
        return
    for layer in trained_batch_norms(network):
        accepted = "use_batch_norm false, or frozen_layers that include it"
        raise _refused(f'"{layer.name}" ({type(layer).__name__})', num_replicas, accepted)
    if name := drawing_layer(network):
        drawing = f'"{name}", which draws at random, but not by row'
        raise _refused(drawing, num_replicas, "a network without it")


def _refused(found: str, num_replicas: int, accepted: str) -> UserError:
    return UserError(
        f"network: found the layer {found}; {num_replicas} replicas do not compute it as one does; "
        f"accepted: {accepted}, or one replica"
    )
