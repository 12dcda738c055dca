"""The processes of one training: their TensorFlow servers, and messages between them.

Messages are exchanged when all workers are at the same point of their program. Each of the methods
`tell`, `compare` and `close` is called by all of them, in the same order.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from model.distribution import Distribution
from model.estimator import tf
from src.errors import UserError, WorkerLost
from src.system.cluster import Cluster
from src.system.peers import HAS_ENDED, Peers

# Each notices within seconds that all others listen, unless some of them are slow to answer.
_MEET_SECONDS = 60


class Workers:
    """This process's place among the workers.

    Attributes:
        cluster: all of them, and the rank of this one.
        target: what a session connects to.
        config: the configuration of such a session.
    """

    def __init__(self, cluster: Cluster, config: "tf.compat.v1.ConfigProto") -> None:
        """Start the server, and wait until all others have started theirs.

        Args:
            cluster: the workers.
            config: the devices and threads of the server.

        Raises:
            UserError: the server cannot listen at its address.
            WorkerLost: another has not started, or another program listens at its address.
        """
        self.cluster = cluster
        self.config = tf.compat.v1.ConfigProto()
        self.config.CopyFrom(config)
        self.config.allow_soft_placement = True
        # A session uses the devices of its own process only; collective ops find the others.
        self.config.device_filters.append(f"/job:worker/task:{cluster.rank}")
        self.config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
        try:
            self._server = tf.distribute.Server(
                tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
                job_name="worker",
                task_index=cluster.rank,
                config=self.config,
            )
        except tf.errors.OpError as error:
            raise UserError(
                f"{cluster.place(cluster.rank)}: found an address where this process cannot listen "
                f"({_first_line(error)}); accepted: a free port of this machine"
            ) from None
        self.target = self._server.target
        self._peers = Peers(cluster)
        self._peers.wait_for_all()
        self._peers.watch()
        self._meet()

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the experiment's files and evaluates."""
        return self.cluster.rank == 0

    def _meet(self) -> None:
        """Make a first exchange, soon after all listen; a program of others would never join it."""
        try:
            self._exchange(np.zeros([1], np.int32), self._distribution.from_chief, _MEET_SECONDS)
        except tf.errors.DeadlineExceededError as error:
            self._peers.stop_watching()
            ranks = [rank for rank in range(self.cluster.size) if rank != self.cluster.rank]
            places = ", ".join(map(self.cluster.place, ranks))
            raise WorkerLost(
                f"{places}: found a program that has not joined after {_MEET_SECONDS} s"
                f"{' (one of these)' if len(ranks) > 1 else ''}; accepted: a worker of this "
                "training, with the same workers in its TF_CONFIG"
            ) from error

    def tell(self, message: bytes | None = None) -> bytes:
        """Return the chief's message, on every worker; the others pass None."""
        # The collective ops have no type of one byte.
        size = int(self._from_chief(np.array([len(message or b"")], np.int64))[0])
        padded = (message or b"").ljust(-(-size // 4) * 4, b"\0")
        words = self._from_chief(np.frombuffer(padded, np.int32)) if size else np.empty(0)
        return words.tobytes()[:size]

    def compare(self, facts: Mapping[str, str]) -> None:
        """Check that all workers have the same facts.

        Args:
            facts: by name, such as `params.json`; equally many on all workers.

        Raises:
            UserError: a worker's differ, on every worker.
        """
        digests = [hashlib.sha256(fact.encode()).digest() for fact in facts.values()]
        own = np.frombuffer(b"".join(digests), np.int32).reshape(1, len(facts), -1)
        gathered = self._exchange(own, self._distribution.gather_all)
        for position, name in enumerate(facts):
            differs = (gathered[:, position] != gathered[0, position]).any(axis=1)
            if differs.any():
                places = ", ".join(self.cluster.place(int(rank)) for rank in differs.nonzero()[0])
                raise UserError(
                    f"{name}: found another on {places}; accepted: that of {self.cluster.place(0)}"
                )

    def close(self) -> None:
        """From now on, the others may end."""
        self._peers.stop_watching()

    def lost(self) -> WorkerLost:
        """Return the error that names the workers that have ended."""
        return WorkerLost(f"{self._peers.lost() or 'another worker'} {HAS_ENDED}")

    @contextmanager
    def names_the_lost(self) -> Iterator[None]:
        """Raise `WorkerLost` if TensorFlow fails in the block because another worker has ended."""
        try:
            yield
        except tf.errors.OpError as error:
            if self._peers.lost() is None:
                raise
            raise self.lost() from error

    @property
    def _distribution(self) -> Distribution:
        return Distribution(self.cluster.rank, self.cluster.size)

    def _from_chief(self, values: np.ndarray) -> np.ndarray:
        return self._exchange(values, self._distribution.from_chief)

    def _exchange(
        self,
        values: np.ndarray,
        build: Callable[[tf.Tensor], tf.Tensor],
        seconds: int | None = None,
    ) -> np.ndarray:
        """Run an exchange in a session of its own; raise DeadlineExceededError after `seconds`."""
        options = tf.compat.v1.RunOptions(timeout_in_ms=1000 * seconds if seconds else 0)
        with self.names_the_lost(), tf.Graph().as_default():
            given = tf.compat.v1.placeholder(values.dtype, values.shape)
            received = build(given)
            with tf.compat.v1.Session(self.target, config=self.config) as session:
                return session.run(received, {given: values}, options)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
