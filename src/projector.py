"""The files that TensorBoard's projector opens: tensor, metadata, sprite sheet, configuration."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format  # type: ignore[import-untyped]
from numpy.typing import NDArray

# These three modules of TensorBoard do not import TensorFlow; `tensorboard.summary.Writer` does.
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.plugins.projector.projector_config_pb2 import (  # type: ignore[import-untyped]
    ProjectorConfig,
)
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from src.atomic import atomic_write
from src.errors import UserError
from src.metadata import write_metadata
from src.split import Split, validation_indices
from src.sprite import write_sprite

MAX_POINTS = 100_000
"""The projector asks for the first 100 000 points of a tensor and leaves out the rest."""

MIN_POINTS = 2
"""The projector does not list a tensor of a single row."""

MIN_DIMENSIONS = 3
"""The projector opens on three principal components; with fewer columns its page stays blank."""

TENSOR_FILE = "tensor.bytes"
METADATA_FILE = "metadata.tsv"
SPRITE_FILE = "sprite.png"
EVENT_FILE = "events.out.tfevents.0.projector"
CONFIG_FILE = "projector_config.pbtxt"  # the name is TensorBoard's

# The projector puts the names of runs and tensors into its addresses as they are.
_ENDS_AN_ADDRESS = re.compile(r"[&#+%]")
# In a tensor's name a colon would start the number of a TensorFlow output.
_NOT_IN_TENSOR_NAME = re.compile(r"[^\w./=-]+")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProjectorFiles:
    """What `write_projector` wrote.

    Attributes:
        directory: the folder with the files; a run to TensorBoard.
        indices: int [num_points], the positions in the split of the points shown, ascending.
        num_examples: the size N of the split.
        tile_size: width and height of one picture on the sprite sheet, in pixels.
    """

    directory: Path
    indices: NDArray[np.intp]
    num_examples: int
    tile_size: tuple[int, int]

    @property
    def num_points(self) -> int:
        """How many of the N examples the projector shows."""
        return len(self.indices)


def write_projector(
    directory: Path,
    *,
    name: str,
    embeddings: NDArray[np.float32],
    split: Split,
    columns: Mapping[str, Sequence[object] | NDArray[Any]] | None = None,
    max_points: int = MAX_POINTS,
    seed: int = 0,
) -> ProjectorFiles:
    """Write the embeddings of a split such that `tensorboard --logdir` finds and shows them.

    The configuration is removed first and written last: a reader finds a complete set or none.

    Args:
        directory: the folder to write into, two levels below the checkpoints
            (`experiments/X/projector/test`): in its own folder and the one above TensorBoard looks
            for a checkpoint, and would list all its weights beside the embeddings.
        name: what the projector calls the tensor; characters that it cannot open become "_".
        embeddings: float32 [N, D], in the order of the split. Fewer than three columns are filled
            up with zeros, which changes no distance.
        split: the N examples that were embedded.
        columns: more metadata, N values each, beside `label` (the name of the class) and `index`
            (the position in the split).
        max_points: of a larger split a stratified sample of this size is shown; at least 2.
        seed: fixes that sample.

    Returns:
        Which points were written, and the size of their tiles.

    Raises:
        UserError: the split has fewer than two examples, or an embedding holds NaN or infinity.
    """
    _check_embeddings(directory, embeddings, split)
    if _ENDS_AN_ADDRESS.search("/".join(directory.absolute().parts[-3:])):
        logger.warning(
            "%s: the projector cannot open a run whose path has one of & # + %%; rename the folder",
            directory,
        )
    indices = stratified_sample(split.labels, min(max_points, len(split)), seed)
    shown = split if len(indices) == len(split) else split.take(indices)
    fields: dict[str, Sequence[object] | NDArray[Any]] = {
        "label": [shown.class_names[label] for label in shown.labels],
        "index": indices,
    }
    for column, values in (columns or {}).items():
        if column in fields or len(values) != len(split):
            raise ValueError(f"column {column!r}: its name is taken, or not {len(split)} values")
        fields[column] = [values[index] for index in indices]

    (directory / CONFIG_FILE).unlink(missing_ok=True)
    num_dimensions = _write_tensor(directory / TENSOR_FILE, embeddings[indices])
    write_metadata(directory / METADATA_FILE, fields)
    tile_size = write_sprite(directory / SPRITE_FILE, shown.images)
    _write_event_file(directory / EVENT_FILE)
    config = ProjectorConfig()
    tensor = config.embeddings.add()
    tensor.tensor_name = _NOT_IN_TENSOR_NAME.sub("_", name)
    tensor.tensor_path = TENSOR_FILE
    tensor.tensor_shape.extend([len(indices), num_dimensions])
    tensor.metadata_path = METADATA_FILE
    tensor.sprite.image_path = SPRITE_FILE
    tensor.sprite.single_image_dim.extend(tile_size)
    with atomic_write(directory / CONFIG_FILE) as file:
        file.write(text_format.MessageToString(config).encode())
    return ProjectorFiles(directory, indices, len(split), tile_size)


def stratified_sample(labels: NDArray[np.int32], size: int, seed: int) -> NDArray[np.intp]:
    """Choose exactly `size` examples, of every class in proportion to its share.

    Args:
        labels: int32 [N], the labels to choose from.
        size: how many, 0 <= size <= N.
        seed: fixes which.

    Returns:
        Their positions, int [size], in ascending order.
    """
    if size == len(labels):
        return np.arange(len(labels))
    _, chosen = validation_indices(labels, size / len(labels), seed)
    return chosen


def _check_embeddings(directory: Path, embeddings: NDArray[np.float32], split: Split) -> None:
    """Raise unless there is a finite embedding for each example, and enough examples."""
    if embeddings.ndim != 2 or len(embeddings) != len(split):
        raise ValueError(f"embeddings {embeddings.shape} do not fit {len(split)} examples")
    if len(split) < MIN_POINTS:
        raise UserError(
            f"{directory}: the split has {len(split)} examples; the projector shows no fewer than "
            f"{MIN_POINTS}"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken) > 0:
        raise UserError(
            f"{directory}: embeddings: row {broken[0]} has NaN or infinity, as have {len(broken)} "
            f"of {len(embeddings)} rows; expected finite numbers (the training has diverged)"
        )


def _write_tensor(path: Path, embeddings: NDArray[np.float32]) -> int:
    """Write float32 [N, D] as raw little-endian numbers; return D as written, at least 3."""
    num_points, embedding_size = embeddings.shape
    num_dimensions: int = max(MIN_DIMENSIONS, embedding_size)
    tensor = np.zeros((num_points, num_dimensions), dtype="<f4")
    tensor[:, :embedding_size] = embeddings
    # TensorBoard takes a file that happens to be valid UTF-8 for a table of text, and the byte 0xFF
    # never is. Here it is the lowest byte of one number, which changes by at most 255 / 2**23
    # (3.1e-5) of its value.
    tensor.view(np.uint8)[0, 0] = 0xFF
    with atomic_write(path) as file:
        file.write(tensor.data)
    return num_dimensions


def _write_event_file(path: Path) -> None:
    """Write an event file without events: TensorBoard takes a folder with one for a run.

    Its name is always the same, so that writing again leaves one file. The projector opens the run
    that started first, and it lists an experiment with a checkpoint as a run too, with weights in
    place of embeddings. So the time is negative: the files written last come first of all.
    """
    event = Event(wall_time=-time.time(), file_version="brain.Event:2")
    with atomic_write(path) as file:
        RecordWriter(file).write(event.SerializeToString())
