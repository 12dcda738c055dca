"""Keeps several workers together: they start with the chief's values and stop at the same step."""

from contextlib import suppress
from typing import Any

import numpy as np

from model.distribution import Distribution
from model.estimator import tf
from model.hooks.checkpoints import AlignedSaver
from model.workers import Workers
from src.system.signals import SIGNALS, Stopped, StopRequest


class StartTogether(tf.compat.v1.train.SessionRunHook):
    """Gives every worker the chief's variables, which it initialized or restored.

    So workers read no checkpoint. It must come before hooks that read variables, and after those
    that change the chief's.
    """

    def __init__(self, workers: Workers, distribution: Distribution) -> None:
        """Prepare the hook; it serves one run."""
        self._workers = workers
        self._distribution = distribution
        self._has_started = False

    def begin(self) -> None:
        """Build the exchange."""
        with tf.name_scope("distribution/start"):
            self._received = [
                variable.assign(self._distribution.from_chief(variable.read_value())).op
                for variable in tf.compat.v1.global_variables()
            ]

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Exchange the values.

        Raises:
            WorkerLost: this is not the first session. The Estimator creates another one if an
                exchange fails, but the other workers do not.
        """
        if self._has_started:
            raise self._workers.lost()
        self._has_started = True
        session.run(self._received)


class StopTogether(tf.compat.v1.train.SessionRunHook):
    """Ends the training of all workers after the same step if any of them gets a signal."""

    def __init__(self, request: StopRequest) -> None:
        """Tell the others of `request`, and make it if another worker has one."""
        self._request = request

    def before_run(self, run_context: Any) -> Any:
        """Pass the request on, with the exchange of the step's counts."""
        flags = np.zeros(len(SIGNALS))
        if self._request.number is not None:
            flags[SIGNALS.index(self._request.number)] = 1
        return tf.compat.v1.train.SessionRunArgs(
            "distribution/stop_sum:0", {"distribution/stop:0": flags}
        )

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Stop if any worker has a request."""
        if run_values.results.any():
            self._request.make(SIGNALS[int(run_values.results.argmax())])
            run_context.request_stop()


class ChiefDecides(tf.compat.v1.train.SessionRunHook):
    """After each checkpoint, a worker waits until the chief has evaluated it, and may stop."""

    def __init__(self, distribution: Distribution, every_steps: int) -> None:
        """Wait after the steps that are multiples of `every_steps`."""
        self._decision = _Decision(distribution, every_steps)

    def begin(self) -> None:
        """Build the exchange."""
        self._decision.build()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Count steps from the start."""
        self._decision.start(session)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Wait for the decision, unless all workers stop anyway."""
        self._decision.exchange(run_context, stops=False)


class DecidingSaver(AlignedSaver):
    """The chief's saver: tells the workers that wait after a checkpoint whether to go on.

    Saving includes the evaluation, which may end the training. A signal ends both, and the workers
    must learn of it, or else they would wait for this decision.
    """

    def __init__(self, model_dir: str, save_steps: int, distribution: Distribution) -> None:
        """Save as `AlignedSaver` does."""
        super().__init__(model_dir, save_steps)
        self._decision = _Decision(distribution, save_steps)

    def begin(self) -> None:
        """Build the exchange."""
        super().begin()
        self._decision.build()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Save; keep the coordinator, which an evaluation may stop."""
        with suppress(Stopped):  # the first step tells the workers
            super().after_create_session(session, coord)
        self._decision.start(session)
        self._coordinator = coord

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Save and evaluate, then tell the decision, unless all workers stop anyway."""
        stopped = None
        try:
            super().after_run(run_context, run_values)
        except Stopped as error:
            stopped = error
        stops = stopped is not None or self._coordinator.should_stop()
        self._decision.exchange(run_context, stops=stops)
        if stopped:
            raise stopped


class _Decision:
    """The exchange by which the chief decides whether all go on after a checkpoint."""

    def __init__(self, distribution: Distribution, every_steps: int) -> None:
        self._distribution, self._every_steps = distribution, every_steps

    def build(self) -> None:
        with tf.name_scope("distribution/decision"):
            self._stops = tf.zeros([1], tf.int32)
            self._decided = self._distribution.from_chief(self._stops)

    def start(self, session: Any) -> None:
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))

    def exchange(self, run_context: Any, *, stops: bool) -> None:
        """Stop after this step if it has a checkpoint, and the chief says so by `stops`."""
        self._step += 1
        if run_context.stop_requested or self._step % self._every_steps:
            return
        if run_context.session.run(self._decided, {self._stops: [int(stops)]})[0]:
            run_context.request_stop()
