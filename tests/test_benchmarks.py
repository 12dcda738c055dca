"""What the benchmarks share: contestants in processes of their own."""

import os

import pytest

from benchmarks.harness import Contestant


def make_counter(start):
    numbers = iter(range(start, start + 10**9))
    return lambda: (next(numbers), os.getpid())


def make_nothing():
    raise MemoryError


def test_a_contestant_counts_in_a_process_of_its_own():
    contestant = Contestant(make_counter, 7)
    contestant.wait()
    number, process = contestant.first
    assert number == 7 and process != os.getpid()
    assert 0 < contestant.seconds_a_step(0.01) < 0.01
    assert contestant.close() >= contestant.base_mb > 1


def test_a_contestant_that_dies_is_noticed():
    with pytest.raises(ChildProcessError, match="died, exit code 1"):
        Contestant(make_nothing).wait()
