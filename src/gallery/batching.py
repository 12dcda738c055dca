"""Runs requests that come together as one batch."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

_Request = TypeVar("_Request")
_Result = TypeVar("_Result")


class Batcher(Generic[_Request, _Result]):
    """A thread that runs all requests that wait as one batch.

    While a batch runs, the next requests gather. So batches grow with the load, and a single
    request never waits for others.
    """

    def __init__(
        self, run: Callable[[Sequence[_Request]], Sequence[_Result]], max_size: int = 64
    ) -> None:
        """Start the thread.

        Args:
            run: returns the results of a batch, in order.
            max_size: of a batch.
        """
        self._run = run
        self._max_size = max_size
        self._waiting: queue.SimpleQueue[tuple[_Request, Future[_Result]] | None]
        self._waiting = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run_all, name="batches", daemon=True)
        self._thread.start()

    def submit(self, request: _Request) -> "Future[_Result]":
        """Add a request, and return its future result."""
        future: Future[_Result] = Future()
        self._waiting.put((request, future))
        return future

    def close(self) -> None:
        """Run what waits, and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run_all(self) -> None:
        is_open = True
        while is_open:
            batch = [self._waiting.get()]
            while len(batch) < self._max_size and batch[-1] is not None:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            is_open = batch[-1] is not None
            # A request that its client has given up is left out.
            asked = [pair for pair in batch if pair and pair[1].set_running_or_notify_cancel()]
            if asked:
                self._answer(asked)

    def _answer(self, asked: Sequence[tuple[_Request, "Future[_Result]"]]) -> None:
        try:
            results = self._run([request for request, _ in asked])
        except BaseException as error:  # every waiting client must learn of it
            for _, future in asked:
                future.set_exception(error)
            return
        for (_, future), result in zip(asked, results, strict=True):
            future.set_result(result)
