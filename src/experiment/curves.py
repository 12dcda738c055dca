"""Reads curves from event files with TensorBoard's own reader, without TensorFlow."""

from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.compat.tensorflow_stub import errors  # type: ignore[import-untyped]
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]
    PyRecordReader_New,
)

from src.experiment.tags import name_of

_DAMAGES = (DecodeError, OverflowError, MemoryError)
"""What a record raises whose checksums are right, but not its content or length."""

# Steps in ascending order, and the value at each step.
Curve = tuple[list[int], list[float]]


def read_curves(directory: Path) -> dict[str, Curve]:
    """Read the scalars of all event files in a directory.

    Args:
        directory: a run's directory, such as an experiment's `eval_validation`; may be missing.

    Returns:
        A curve for each name (`src/experiment/tags.py`). If an interrupted run wrote a step again,
        the latest value counts. An incomplete file, for example one still being written, gives the
        values it has.
    """
    values: dict[str, dict[int, float]] = {}
    for path in sorted(directory.glob("events.out.tfevents.*")):
        if path.is_symlink() or not path.is_file():  # a pipe would be waited for
            continue
        for event in _events(path):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    values.setdefault(name_of(value.tag), {})[event.step] = value.simple_value
    return {
        tag: (sorted(of_tag), [of_tag[step] for step in sorted(of_tag)])
        for tag, of_tag in values.items()
    }


def _events(path: Path) -> list[Event]:
    """Return the events of a file, up to the first incomplete one."""
    events = []
    reader = PyRecordReader_New(str(path))
    try:
        while True:
            reader.GetNext()
            events.append(Event.FromString(reader.record()))
    except (errors.OutOfRangeError, errors.DataLossError, *_DAMAGES):
        return events
