"""Requests that come together run together, each with its own result."""

import threading

import pytest

from src.gallery.batching import Batcher


class Recorder:
    """Doubles numbers; waits in its first batch until it is released."""

    def __init__(self):
        self.batches = []
        self.began, self.released = threading.Event(), threading.Event()

    def __call__(self, numbers):
        self.batches.append(list(numbers))
        self.began.set()
        assert self.released.wait(10)
        return [2 * number for number in numbers]


def test_what_waits_runs_together():
    recorder = Recorder()
    batcher = Batcher(recorder, max_size=3)
    futures = [batcher.submit(0)]
    assert recorder.began.wait(10)
    futures += [batcher.submit(number) for number in range(1, 6)]
    recorder.released.set()
    assert [future.result(10) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert recorder.batches == [[0], [1, 2, 3], [4, 5]]
    batcher.close()


def test_an_error_reaches_every_request_of_the_batch_and_no_other():
    def run(numbers):
        if 7 in numbers:
            raise RuntimeError("seven")
        return numbers

    batcher = Batcher(run)
    with pytest.raises(RuntimeError, match="seven"):
        batcher.submit(7).result(10)
    assert batcher.submit(1).result(10) == 1
    batcher.close()


def test_a_cancelled_request_is_left_out():
    recorder = Recorder()
    batcher = Batcher(recorder)
    first = batcher.submit(1)
    assert recorder.began.wait(10)
    given_up, last = batcher.submit(2), batcher.submit(3)
    assert given_up.cancel()
    recorder.released.set()
    assert (first.result(10), last.result(10)) == (2, 6)
    assert recorder.batches == [[1], [3]]
    batcher.close()


def test_closing_runs_what_waits():
    recorder = Recorder()
    batcher = Batcher(recorder)
    futures = [batcher.submit(1)]
    assert recorder.began.wait(10)
    futures += [batcher.submit(2), batcher.submit(3)]
    recorder.released.set()
    batcher.close()
    assert [future.result(0) for future in futures] == [2, 4, 6]
