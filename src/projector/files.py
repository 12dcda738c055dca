"""Writes the files of TensorBoard's projector: tensors, metadata, sprite sheets, configuration."""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf import text_format  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image

# These three TensorBoard modules do not import TensorFlow; `tensorboard.summary.Writer` does.
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.plugins.projector.projector_config_pb2 import (  # type: ignore[import-untyped]
    ProjectorConfig,
)
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from src.data.split import Split
from src.embeddings.layouts import TITLES
from src.errors import UserError
from src.projector.bookmarks import NO_COLORS, bookmarks
from src.projector.legend import MAX_VALUES, legend
from src.projector.metadata import as_written, write_metadata
from src.projector.sprite import sprite_sheet, tint_sheet, write_sheet
from src.system.atomic import atomic_write
from src.system.progress import phase

MAX_POINTS = 100_000
"""The projector loads the first 100 000 points of a tensor and ignores the rest."""

MIN_POINTS = 2
"""The projector does not list a tensor with a single row."""

MIN_DIMENSIONS = 3
"""The projector starts with three principal components. With fewer columns its page is blank."""

TENSOR_SUFFIX = ".bytes"
METADATA_FILE = "metadata.tsv"
SPRITE_FILE = "sprite.png"
TINTED_SPRITE_FILE = "sprite_by_label.png"
BOOKMARKS_FILE = "bookmarks.json"
EVENT_FILE = "events.out.tfevents.0.projector"
CONFIG_FILE = "projector_config.pbtxt"  # the name is TensorBoard's

# The projector puts run and tensor names into its URLs without escaping them.
_ENDS_AN_ADDRESS = re.compile(r"[&#+%]")
# In a tensor name, a colon would start a TensorFlow output number.
_NOT_IN_TENSOR_NAME = re.compile(r"[^\w./=-]+")

logger = logging.getLogger(__name__)


Columns = Mapping[str, Sequence[object] | NDArray[Any]]
"""Metadata columns: name -> N values."""


@dataclass(frozen=True)
class ProjectorFiles:
    """The files that were written.

    Attributes:
        directory: the folder with the files. TensorBoard lists it as a run.
        tensors: the tensor names in the projector. The projector opens the first one.
        tile_size: width and height of one tile on the sprite sheet, in pixels.
    """

    directory: Path
    tensors: tuple[str, ...]
    tile_size: tuple[int, int]


def write_projector(
    directory: Path,
    *,
    name: str,
    embeddings: NDArray[np.float32],
    split: Split,
    indices: NDArray[np.intp] | None = None,
    columns: Columns | None = None,
    layouts: Mapping[str, NDArray[np.float32]] | None = None,
) -> ProjectorFiles:
    """Write the embeddings of a split so that `tensorboard --logdir` shows them in the projector.

    If there are layouts, the projector opens with the first one, and its bookmarks contain all.

    Args:
        directory: the output folder, two levels below the checkpoints
            (`experiments/X/projector/test`). TensorBoard searches this folder and its parent for a
            checkpoint. If it found one, it would list all weights beside the embeddings.
        name: the name of the embeddings in the projector. Unsupported characters become "_".
        embeddings: float32 [N, D], in the order of the split. If D < 3, columns of zeros are added,
            which does not change distances.
        split: the N embedded examples; 2 to MAX_POINTS.
        indices: int [N], the positions of the examples in the whole split; None if `split` is the
            whole split.
        columns: additional metadata. These columns always exist: `label` (class name), `index`
            (position in the whole split), `path` (if images have files) and `label_number`.
        layouts: layouts of the embeddings, by their keys in TITLES; each float32 [N, 2], finite.

    Returns:
        The tensor names in the projector, and the tile size.

    Raises:
        UserError: the split has fewer than two examples, or an embedding holds NaN or infinity.
    """
    check_embeddings(directory, embeddings, split)
    if not layouts:
        tensors = [_Tensor(name, embeddings, SPRITE_FILE)]
    else:
        first, layout = next(iter(layouts.items()))
        tensors = [  # the projector opens the first by the alphabet
            _Tensor(f"1_{TITLES[first]}_{name}", as_tensor(layout), _sprite_of_layouts(split)),
            _Tensor(f"2_embeddings_{name}", embeddings, SPRITE_FILE),
        ]
    titled = {TITLES[layout]: points for layout, points in (layouts or {}).items()}
    return _write_run(directory, tensors, titled, split, indices, columns or {})


def write_evolution(
    directory: Path,
    *,
    layouts: Mapping[str, NDArray[np.float32]],
    split: Split,
    indices: NDArray[np.intp],
    columns: Columns | None = None,
) -> ProjectorFiles:
    """Write layouts of one split by several checkpoints: one tensor and one bookmark for each.

    Args:
        directory: as for `write_projector`.
        layouts: by checkpoint name, such as `step_0782`, in alphabetical order; each float32
            [N, 2], all in one coordinate frame.
        split: the N examples.
        indices: int [N], the positions of the examples in the whole split.
        columns: additional metadata, as for `write_projector`.

    Returns:
        The tensor names in the projector, and the tile size.
    """
    for layout in layouts.values():
        check_embeddings(directory, layout, split)
    tensors = [
        _Tensor(step, as_tensor(layout), _sprite_of_layouts(split))
        for step, layout in layouts.items()
    ]
    titled = {step.replace("_", " "): layout for step, layout in layouts.items()}
    return _write_run(directory, tensors, titled, split, indices, columns or {})


def check_embeddings(directory: Path, embeddings: NDArray[np.float32], split: Split) -> None:
    """Check that there are enough examples, and a finite embedding for each.

    Args:
        directory: the output folder, for the error message.
        embeddings: float32 [N, D].
        split: the N examples.

    Raises:
        UserError: there are fewer than two examples, or an embedding holds NaN or infinity.
    """
    if embeddings.ndim != 2 or len(embeddings) != len(split):
        raise ValueError(f"embeddings {embeddings.shape} do not fit {len(split)} examples")
    if len(split) < MIN_POINTS:
        raise UserError(
            f"{directory}: found {len(split)} examples in the split; accepted: {MIN_POINTS} or more"
        )
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken) > 0:
        raise UserError(
            f"{directory}: embeddings: found NaN or infinity in {len(broken)} of {len(embeddings)} "
            f"rows (first: row {broken[0]}); accepted: finite numbers; the training has diverged"
        )


class _Tensor(NamedTuple):
    """A tensor: name, values (float32 [N, D]), and the file of its sprite sheet."""

    name: str
    values: NDArray[np.float32]
    sprite_file: str


def _write_run(
    directory: Path,
    tensors: Sequence[_Tensor],
    layouts: Mapping[str, NDArray[np.float32]],
    split: Split,
    indices: NDArray[np.intp] | None,
    columns: Columns,
) -> ProjectorFiles:
    """Write a folder that the projector lists as a run, with bookmarks of `layouts`.

    The configuration is removed first and written last, so a reader finds a complete set or none.
    """
    if _ENDS_AN_ADDRESS.search("/".join(directory.absolute().parts[-3:])):
        logger.warning(
            "%s: the projector cannot open a run whose path has one of & # + %%; rename the folder",
            directory,
        )
    if len(split) > MAX_POINTS:
        raise ValueError(f"{len(split)} examples: the projector shows {MAX_POINTS} at most")
    fields = _metadata(split, indices, columns)
    (directory / CONFIG_FILE).unlink(missing_ok=True)
    for pattern in (f"*{TENSOR_SUFFIX}", BOOKMARKS_FILE, TINTED_SPRITE_FILE):  # of earlier runs
        for stale in directory.glob(pattern):
            stale.unlink()
    with phase(f"writing {METADATA_FILE}"):
        write_metadata(directory / METADATA_FILE, fields)
    sheet, tile_size = sprite_sheet(split.pictures)
    write_sheet(directory / SPRITE_FILE, sheet)
    if layouts:
        _write_layouts(directory, layouts, split, sheet, tile_size[0])
    config = ProjectorConfig()
    for one in tensors:
        tensor = config.embeddings.add()
        tensor.tensor_name = _NOT_IN_TENSOR_NAME.sub("_", one.name)
        tensor.tensor_path = tensor.tensor_name.replace("/", "_") + TENSOR_SUFFIX
        num_dimensions = _write_tensor(directory / tensor.tensor_path, one.values)
        tensor.tensor_shape.extend([len(split), num_dimensions])
        tensor.metadata_path = METADATA_FILE
        tensor.sprite.image_path = one.sprite_file
        tensor.sprite.single_image_dim.extend(tile_size)
        if layouts:
            tensor.bookmarks_path = BOOKMARKS_FILE
    _write_event_file(directory / EVENT_FILE)
    with atomic_write(directory / CONFIG_FILE) as file:
        file.write(text_format.MessageToString(config).encode())
    names = tuple(tensor.tensor_name for tensor in config.embeddings)
    return ProjectorFiles(directory, names, tile_size)


def _metadata(split: Split, indices: NDArray[np.intp] | None, columns: Columns) -> Columns:
    """Return all columns of the metadata, in their order."""
    fields: dict[str, Sequence[object] | NDArray[Any]] = {
        "label": _class_names(split),
        "index": np.arange(len(split)) if indices is None else indices,
    }
    if split.paths is not None:
        fields["path"] = split.paths
    for column, values in {**columns, "label_number": split.labels}.items():
        if column in fields or len(values) != len(split):
            raise ValueError(f"column {column!r}: its name is taken, or not {len(split)} values")
        fields[column] = values
    return fields


def _sprite_of_layouts(split: Split) -> str:
    """Return the sprite sheet of the tensors that are layouts: tinted if classes have colours."""
    different = {as_written(name) for name in _class_names(split)}
    return TINTED_SPRITE_FILE if len(different) <= MAX_VALUES else SPRITE_FILE


def _class_names(split: Split) -> list[str]:
    """Return the class name of each example."""
    return [split.class_names[label] for label in split.labels]


def _write_layouts(
    directory: Path,
    layouts: Mapping[str, NDArray[np.float32]],
    split: Split,
    sheet: Image.Image,
    tile_side: int,
) -> None:
    """Write the bookmarks, and the sprite sheet in the colours that they give the classes.

    With more than 50 classes there are no colours: the projector could colour only by the number of
    the class, and its gradient from light to dark would make late classes nearly black.
    """
    color_by = NO_COLORS
    if _sprite_of_layouts(split) == TINTED_SPRITE_FILE:
        color_by = "label"
        names = [as_written(name) for name in _class_names(split)]
        colors = legend(names)
        with phase("tinting the sprite sheet"):
            tinted = tint_sheet(sheet, tile_side, np.array([colors[name] for name in names]))
        write_sheet(directory / TINTED_SPRITE_FILE, tinted)
    with phase(f"writing {BOOKMARKS_FILE}"), atomic_write(directory / BOOKMARKS_FILE) as file:
        file.writelines(bookmarks(layouts, color_by=color_by, label_by="label"))


def as_tensor(layout: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a layout, [N, 2], as a tensor, [N, 3], that the projector displays unchanged.

    The projector applies an uncentred PCA to every tensor and scales all axes to equal length. The
    columns are shifted so that their products sum to 0, and the first is made longer. The PCA then
    only flips signs, which are flipped here in advance. The third column is 0, because the page is
    blank with two columns. See docs/decisions/0011-finished-layouts.md.
    """
    x, y = (layout - layout.mean(axis=0, dtype=np.float64)).T
    product = float(np.mean(x * y))
    move = np.sqrt(abs(product))
    x, y = x + move, y - np.copysign(move, product)  # mean((x + m)(y - p / m)) = p - p
    tensor = np.zeros((len(layout), MIN_DIMENSIONS), np.float32)
    for column, values, length in ((0, x, 2.0), (1, y, 1.0)):
        root_mean_square = np.sqrt(np.mean(values**2))
        tensor[:, column] = -length * values / (root_mean_square or 1)
    return tensor


def _write_tensor(path: Path, embeddings: NDArray[np.float32]) -> int:
    """Write float32 [N, D] as raw little-endian values; return the D written, at least 3."""
    num_points, embedding_size = embeddings.shape
    num_dimensions: int = max(MIN_DIMENSIONS, embedding_size)
    tensor = np.zeros((num_points, num_dimensions), dtype="<f4")
    tensor[:, :embedding_size] = embeddings
    # TensorBoard reads a file of valid UTF-8 as a text table. The byte 0xFF is never valid UTF-8.
    # It replaces the lowest byte of one value, whose relative change is at most 255 / 2**23
    # (3.1e-5).
    tensor.view(np.uint8)[0, 0] = 0xFF
    with atomic_write(path) as file:
        file.write(tensor.data)
    return num_dimensions


def _write_event_file(path: Path) -> None:
    """Write an event file without events, because TensorBoard lists only folders with one as runs.

    The file name is constant, so writing again leaves one file. The projector opens the run with
    the earliest start time. It would otherwise open the training run and show weights. The time is
    therefore negative: the run written last comes first.
    """
    event = Event(wall_time=-time.time(), file_version="brain.Event:2")
    with atomic_write(path) as file:
        RecordWriter(file).write(event.SerializeToString())
