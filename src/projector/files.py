"""The files that TensorBoard's projector opens: tensor, metadata, sprite sheet, configuration."""

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

# These three modules of TensorBoard do not import TensorFlow; `tensorboard.summary.Writer` does.
from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.plugins.projector.projector_config_pb2 import (  # type: ignore[import-untyped]
    ProjectorConfig,
)
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

from src.data.split import Split
from src.errors import UserError
from src.projector.bookmarks import bookmarks
from src.projector.legend import MAX_VALUES, legend
from src.projector.metadata import as_written, write_metadata
from src.projector.sprite import sprite_sheet, tint_sheet, write_sheet
from src.system.atomic import atomic_write
from src.system.progress import phase

MAX_POINTS = 100_000
"""The projector asks for the first 100 000 points of a tensor and leaves out the rest."""

MIN_POINTS = 2
"""The projector does not list a tensor of a single row."""

MIN_DIMENSIONS = 3
"""The projector opens on three principal components; with fewer columns its page stays blank."""

TENSOR_SUFFIX = ".bytes"
METADATA_FILE = "metadata.tsv"
SPRITE_FILE = "sprite.png"
TINTED_SPRITE_FILE = "sprite_by_label.png"
BOOKMARKS_FILE = "bookmarks.json"
EVENT_FILE = "events.out.tfevents.0.projector"
CONFIG_FILE = "projector_config.pbtxt"  # the name is TensorBoard's

TITLES = {"tsne": "t-SNE", "pca": "PCA", "umap": "UMAP"}
"""What people call the layouts."""

# The projector puts the names of runs and tensors into its addresses as they are.
_ENDS_AN_ADDRESS = re.compile(r"[&#+%]")
# In a tensor's name a colon would start the number of a TensorFlow output.
_NOT_IN_TENSOR_NAME = re.compile(r"[^\w./=-]+")

logger = logging.getLogger(__name__)


Columns = Mapping[str, Sequence[object] | NDArray[Any]]
"""Names and values of the metadata, N values each."""


@dataclass(frozen=True)
class ProjectorFiles:
    """What was written.

    Attributes:
        directory: the folder with the files; a run to TensorBoard.
        tensors: what the projector calls the tensors, the one that it opens first.
        tile_size: width and height of one picture on the sprite sheet, in pixels.
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
    """Write the embeddings of a split such that `tensorboard --logdir` finds and shows them.

    With layouts, the projector opens on the first of them, and its bookmarks hold them all.

    Args:
        directory: the folder to write into, two levels below the checkpoints
            (`experiments/X/projector/test`): in its own folder and the one above TensorBoard looks
            for a checkpoint, and would list all its weights beside the embeddings.
        name: what the projector calls the embeddings; characters that it cannot open become "_".
        embeddings: float32 [N, D], in the order of the split. Fewer than three columns are filled
            up with zeros, which changes no distance.
        split: the N examples that were embedded; 2 to MAX_POINTS.
        indices: int [N], the positions of those in the whole split; None where they are all of it.
        columns: more metadata beside `label` (the name of the class), `index` (the position in the
            whole split), `path` (the file, where images have one) and `label_number`.
        layouts: of the embeddings, by their names in TITLES, each float32 [N, 2], finite.

    Returns:
        What the projector will list, and the size of the pictures.

    Raises:
        UserError: the split has fewer than two examples, or an embedding holds NaN or infinity.
    """
    check_embeddings(directory, embeddings, split)
    if not layouts:
        tensors = [_Tensor(name, embeddings, SPRITE_FILE)]
    else:
        first, layout = next(iter(layouts.items()))
        tensors = [  # the projector opens the first by the alphabet
            _Tensor(f"1_{TITLES[first]}_{name}", as_tensor(layout), TINTED_SPRITE_FILE),
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
    """Write the layouts of one split by several checkpoints: a tensor and a bookmark for each.

    Args:
        directory: as for `write_projector`.
        layouts: by the name of the checkpoint, such as `step_0782`, in the alphabet's order; each
            float32 [N, 2], all in one frame.
        split: the N examples.
        indices: int [N], their positions in the whole split.
        columns: more metadata, as for `write_projector`.

    Returns:
        What the projector will list, and the size of the pictures.
    """
    for layout in layouts.values():
        check_embeddings(directory, layout, split)
    tensors = [
        _Tensor(step, as_tensor(layout), TINTED_SPRITE_FILE) for step, layout in layouts.items()
    ]
    titled = {step.replace("_", " "): layout for step, layout in layouts.items()}
    return _write_run(directory, tensors, titled, split, indices, columns or {})


def check_embeddings(directory: Path, embeddings: NDArray[np.float32], split: Split) -> None:
    """Raise unless there is a finite embedding for each example, and enough examples.

    Args:
        directory: where they are to be written, for the message.
        embeddings: float32 [N, D].
        split: the N examples.

    Raises:
        UserError: there are fewer than two examples, or an embedding holds NaN or infinity.
    """
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


class _Tensor(NamedTuple):
    """A name, float32 [N, D], and the sprite sheet with which it is shown."""

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
    """Write a folder that the projector lists as a run, with the bookmarks of `layouts`.

    The configuration is removed first and written last: a reader finds a complete set or none.
    """
    if _ENDS_AN_ADDRESS.search("/".join(directory.absolute().parts[-3:])):
        logger.warning(
            "%s: the projector cannot open a run whose path has one of & # + %%; rename the folder",
            directory,
        )
    if len(split) > MAX_POINTS:
        raise ValueError(f"{len(split)} examples: the projector shows {MAX_POINTS} at most")
    names = [split.class_names[label] for label in split.labels]
    fields: dict[str, Sequence[object] | NDArray[Any]] = {
        "label": names,
        "index": np.arange(len(split)) if indices is None else indices,
    }
    if split.paths is not None:
        fields["path"] = split.paths
    for column, values in {**columns, "label_number": split.labels}.items():
        if column in fields or len(values) != len(split):
            raise ValueError(f"column {column!r}: its name is taken, or not {len(split)} values")
        fields[column] = values
    colors = legend(as_written(name) for name in names)
    config = ProjectorConfig()

    (directory / CONFIG_FILE).unlink(missing_ok=True)
    for pattern in (f"*{TENSOR_SUFFIX}", BOOKMARKS_FILE, TINTED_SPRITE_FILE):  # of other names
        for stale in directory.glob(pattern):
            stale.unlink()
    with phase(f"writing {METADATA_FILE}"):
        write_metadata(directory / METADATA_FILE, fields)
    sheet, tile_size = sprite_sheet(split.images)
    write_sheet(directory / SPRITE_FILE, sheet)
    if layouts:
        color_of_points = np.array([colors[as_written(name)] for name in names])
        with phase("tinting the sprite sheet"):
            tinted = tint_sheet(sheet, tile_size[0], color_of_points)
        write_sheet(directory / TINTED_SPRITE_FILE, tinted)
        # Of many classes the projector colours only the numbers.
        color_by = "label" if len(colors) <= MAX_VALUES else "label_number"
        with (
            phase(f"writing {BOOKMARKS_FILE}"),
            atomic_write(directory / BOOKMARKS_FILE) as file,
        ):
            file.writelines(bookmarks(layouts, color_by=color_by, label_by="label"))
    for name, tensor_values, sprite_file in tensors:
        tensor = config.embeddings.add()
        tensor.tensor_name = _NOT_IN_TENSOR_NAME.sub("_", name)
        tensor.tensor_path = tensor.tensor_name.replace("/", "_") + TENSOR_SUFFIX
        num_dimensions = _write_tensor(directory / tensor.tensor_path, tensor_values)
        tensor.tensor_shape.extend([len(split), num_dimensions])
        tensor.metadata_path = METADATA_FILE
        tensor.sprite.image_path = sprite_file
        tensor.sprite.single_image_dim.extend(tile_size)
        if layouts:
            tensor.bookmarks_path = BOOKMARKS_FILE
    _write_event_file(directory / EVENT_FILE)
    with atomic_write(directory / CONFIG_FILE) as file:
        file.write(text_format.MessageToString(config).encode())
    return ProjectorFiles(
        directory, tuple(tensor.tensor_name for tensor in config.embeddings), tile_size
    )


def as_tensor(layout: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a layout, [N, 2], as a tensor, [N, 3], that the projector opens as that layout.

    It opens every tensor under PCA, which it computes without centring, and it stretches each axis
    to the same length. Two columns whose products sum to 0, the first of them longer, come out as
    they are, with minus signs, which its decomposition brings in; moving the columns makes the sum
    0. The third column is 0, for with two the page stays blank.
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
