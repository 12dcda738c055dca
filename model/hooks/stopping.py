"""Stops a training on a signal after the current step, and saves a checkpoint of that step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.estimator import tf
from model.hooks.summaries import flush_summaries
from src.system.signals import Stopped, StopRequest


@contextmanager
def ends_in_order(request: StopRequest, model_dir: str) -> Iterator[None]:
    """Inside the block, a signal sets `request`, which the hooks of a training check.

    After a stop, summaries are flushed here, because the hooks that do so are no longer called.
    """
    with request.by_signal():
        try:
            yield
        except Stopped:
            flush_summaries(model_dir)
            raise


class StopTraining(tf.compat.v1.train.SessionRunHook):
    """Ends the training loop after the step during which the request was made.

    The Estimator then saves a checkpoint of that step.
    """

    def __init__(self, request: StopRequest) -> None:
        """Check `request` after each step."""
        self._request = request

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Check the request."""
        if self._request:
            run_context.request_stop()


class StopAfterSaving(tf.compat.v1.train.CheckpointSaverListener):
    """Raises `Stopped` after a checkpoint is saved, before the Estimator evaluates it.

    It must be the last listener of `TrainSpec`; the evaluating listener comes after these.
    """

    def __init__(self, request: StopRequest) -> None:
        """Check `request` after each save."""
        self._request = request

    def after_save(self, session: Any, global_step_value: int) -> None:
        """Check the request."""
        self._request.raise_if_made()

    def end(self, session: Any, global_step_value: int) -> None:
        """Raise `Stopped` if requested: the last save may have come before the request."""
        self._request.raise_if_made()


class StopEvaluation(tf.compat.v1.train.SessionRunHook):
    """Raises `Stopped` between two batches of an evaluation: a partial evaluation has no result."""

    def __init__(self, request: StopRequest) -> None:
        """Check `request` before each batch."""
        self._request = request

    def before_run(self, run_context: Any) -> None:
        """Check the request."""
        self._request.raise_if_made()


class StopAfterEvaluation(tf.compat.v1.train.SessionRunHook):
    """Ends the run at the step that was just evaluated, if an evaluation calls this object.

    An evaluation runs while the step's checkpoint is saved. This is too late for the step's
    `request_stop()`, so this hook asks the coordinator, which is checked before the next step.
    """

    def __init__(self) -> None:
        """Prepare the hook; the run continues until it is called."""
        self._coordinator: Any = None

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Keep the coordinator."""
        self._coordinator = coord

    def __call__(self) -> None:
        """End the run, if it has started."""
        if self._coordinator is not None:
            self._coordinator.request_stop()
