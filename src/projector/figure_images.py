"""Writes figures for TensorBoard's IMAGES tab, as an event file beside them."""

import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from src.system.atomic import atomic_write

EVENT_FILE = "events.out.tfevents.0.figures"
"""The name is constant, so that writing again leaves one file."""


def write_images(directory: Path, figures: Sequence[Path], step: int) -> Path:
    """Write PNG files as the images of a run, tagged with their names.

    Args:
        directory: of the figures. TensorBoard lists it as a run.
        figures: the files.
        step: the global step of the checkpoint that they show.

    Returns:
        The path of the event file.
    """
    event = Event(wall_time=time.time(), step=step)
    for path in figures:
        with Image.open(path) as image:
            width, height = image.size
        value = event.summary.value.add(tag=path.stem)
        value.image.width, value.image.height, value.image.colorspace = width, height, 4
        value.image.encoded_image_string = path.read_bytes()
    with atomic_write(directory / EVENT_FILE) as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        writer.write(event.SerializeToString())
    return directory / EVENT_FILE
