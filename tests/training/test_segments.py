"""What the chief tells the other workers: a segment, the end, or a signal that has stopped it."""

import signal

import numpy as np
import pytest

from model.training.segments import Segment, stopped_message
from src.system.signals import SIGNALS, Stopped


@pytest.mark.parametrize("mined", [None, np.arange(6, dtype=np.int32).reshape(2, 3)])
def test_a_segment_is_understood(mined):
    found = Segment.from_message(Segment(3, 14, mined).to_message())
    assert found[:2] == (3, 14)
    np.testing.assert_array_equal(found.mined, mined)


def test_an_empty_message_is_the_end():
    assert Segment.from_message(b"") is None


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_the_workers_too(number):
    with pytest.raises(Stopped) as caught:
        Segment.from_message(stopped_message(Stopped(number)))
    assert caught.value.signal == signal.Signals(number)
