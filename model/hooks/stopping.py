"""Ends a training at a signal: at the step it has come to, with a checkpoint of that step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from model.estimator import tf
from model.hooks.summaries import flush_summaries
from src.system.signals import Stopped, StopRequest


@contextmanager
def ends_in_order(request: StopRequest, model_dir: str) -> Iterator[None]:
    """Have a signal make the `request` that the hooks of a training in the block look at.

    Summaries are flushed then: hooks that would do so are not called any more.
    """
    with request.by_signal():
        try:
            yield
        except Stopped:
            flush_summaries(model_dir)
            raise


class StopTraining(tf.compat.v1.train.SessionRunHook):
    """Ends the training loop after the step in which the request was made.

    The Estimator then saves a checkpoint of that step.
    """

    def __init__(self, request: StopRequest) -> None:
        """Look at `request` after each step."""
        self._request = request

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Look."""
        if self._request:
            run_context.request_stop()


class StopAfterSaving(tf.compat.v1.train.CheckpointSaverListener):
    """Raises `Stopped` once a checkpoint is saved, where the Estimator would evaluate it next.

    To stand last among the listeners of `TrainSpec`: the one that evaluates comes after these.
    """

    def __init__(self, request: StopRequest) -> None:
        """Look at `request` after each save."""
        self._request = request

    def after_save(self, session: Any, global_step_value: int) -> None:
        """Look."""
        self._request.raise_if_made()

    def end(self, session: Any, global_step_value: int) -> None:
        """Look: the last step may have been saved before the request was made."""
        self._request.raise_if_made()


class StopEvaluation(tf.compat.v1.train.SessionRunHook):
    """Raises `Stopped` between two batches of an evaluation, whose part would be no result."""

    def __init__(self, request: StopRequest) -> None:
        """Look at `request` before each batch."""
        self._request = request

    def before_run(self, run_context: Any) -> None:
        """Look."""
        self._request.raise_if_made()


class StopAfterEvaluation(tf.compat.v1.train.SessionRunHook):
    """Lets an evaluation end the run at the very step that it evaluated; call it to do so.

    An evaluation runs while the step's checkpoint is saved, when it is too late for
    `request_stop()` of the step; the coordinator is asked before the next one.
    """

    def __init__(self) -> None:
        """Start with a run that goes on."""
        self._coordinator: Any = None

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Note whom to ask."""
        self._coordinator = coord

    def __call__(self) -> None:
        """End the run, if there is one by now."""
        if self._coordinator is not None:
            self._coordinator.request_stop()
