"""Keeps several workers together: they start with the chief's values and stop at the same step."""

from typing import Any

import numpy as np

from model.distribution import Distribution
from model.estimator import tf
from model.workers import Workers
from src.system.signals import SIGNALS, StopRequest


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
    """Ends the training of all workers after a step before which any of them got a signal."""

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
    """After each checkpoint, the workers wait until the chief has evaluated it, and may stop.

    On the chief, it must come after the hook that saves.
    """

    def __init__(self, distribution: Distribution, every_steps: int) -> None:
        """Wait after the steps that are multiples of `every_steps`."""
        self._distribution = distribution
        self._every_steps = every_steps

    def begin(self) -> None:
        """Build the exchange."""
        with tf.name_scope("distribution/decision"):
            self._stops = tf.zeros([1], tf.int32)
            self._decision = self._distribution.from_chief(self._stops)

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Count steps from the start; keep the coordinator, which an evaluation may stop."""
        self._step = int(session.run(tf.compat.v1.train.get_global_step()))
        self._coordinator = coord

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Wait for the decision, unless all workers stop anyway."""
        self._step += 1
        if run_context.stop_requested or self._step % self._every_steps:
            return
        stops = [int(self._coordinator.should_stop())]
        if run_context.session.run(self._decision, {self._stops: stops})[0]:
            run_context.request_stop()
