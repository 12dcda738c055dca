"""Writes points and pictures to a run's summaries, besides those that the graph writes."""

import io
from collections.abc import Mapping

from PIL import Image

from model.estimator import tf
from src.experiment.tags import tag_of


def write_scalars(directory: str, values: Mapping[str, float | None], step: int) -> None:
    """Write a point of each curve to the summaries in a directory, and flush them to disk.

    If a value is None, no point is written.
    """
    for name, value in values.items():
        if value is not None:
            write_scalar(directory, name, value, step)
    flush_summaries(directory)


def write_image(directory: str, tag: str, image: Image.Image, step: int) -> None:
    """Write an RGB image to the summaries in a directory, and flush them to disk."""
    png = io.BytesIO()
    image.save(png, format="PNG")
    summary = tf.compat.v1.Summary()
    summary.value.add(
        tag=tag,
        image=tf.compat.v1.Summary.Image(
            width=image.width,
            height=image.height,
            colorspace=3,
            encoded_image_string=png.getvalue(),
        ),
    )
    _writer(directory).add_summary(summary, step)
    flush_summaries(directory)


def flush_summaries(directory: str) -> None:
    """Flush to disk the summaries that this process wrote in a directory."""
    _writer(directory).flush()


def write_scalar(directory: str, name: str, value: float, step: int) -> None:
    """Write a point of a curve to the summaries in a directory, without flushing them to disk."""
    summary = tf.compat.v1.Summary()
    summary.value.add(tag=tag_of(name), simple_value=value)
    _writer(directory).add_summary(summary, step)


def _writer(directory: str) -> "tf.compat.v1.summary.FileWriter":
    """Return this process's writer of a directory."""
    with tf.Graph().as_default():  # otherwise, creating one fails
        return tf.compat.v1.summary.FileWriterCache.get(directory)
