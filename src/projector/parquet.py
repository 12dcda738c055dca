"""Writes all points to one Parquet file, for embedding viewers and data-frame libraries."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from src.errors import UserError
from src.system.atomic import atomic_write
from src.system.progress import progress_bar

if TYPE_CHECKING:
    import pyarrow

    from src.projector.view import View

ROWS_PER_GROUP = 5_000
"""Points per row group. A row group with its images and embeddings is encoded in memory."""


def require_pyarrow() -> None:
    """Raise a UserError if pyarrow cannot be imported. Call this before slow work starts."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:  # not installed, or built for another NumPy version
        raise UserError(
            f"--parquet: pyarrow cannot be imported ({error}); accepted: an environment with the "
            'extra parquet; install it with pip install ".[parquet]"'
        ) from None


def write_parquet(path: Path, views: Sequence["View"]) -> None:
    """Write one row for each point of all views.

    Undefined or missing values are null. The file's schema contains the column types of Hugging
    Face datasets. Columns:

    - `image`: PNG as the struct {bytes, path}, which Hugging Face datasets and embedding viewers
      read as an image.
    - `label` (number), `class_name`, `split`, `index` (position in the split).
    - `path`: only if images have their own files.
    - `embedding`: fixed-size list of float32.
    - `tsne_x`, `tsne_y`, and so on for each layout.
    - The metadata columns.

    Args:
        path: the file to create or replace.
        views: the splits. All have the same embedding size and the same columns. Layouts that one
            of them lacks are left out.
    """
    import pyarrow.parquet as pq

    layouts = [name for name in views[0].layouts if all(name in view.layouts for view in views)]
    num_rows = sum(len(view.split) for view in views)
    with atomic_write(path) as file, progress_bar(f"writing {path.name}", num_rows, "rows") as bar:
        writer = None
        for view in views:
            for start in range(0, len(view.split), ROWS_PER_GROUP):
                table = _table(view, slice(start, start + ROWS_PER_GROUP), layouts)
                writer = writer or pq.ParquetWriter(file, table.schema)
                writer.write_table(table)
                bar.update(len(table))
        if writer is not None:
            writer.close()


def _table(view: "View", rows: slice, layouts: Sequence[str]) -> "pyarrow.Table":
    """Return rows of a view as an Arrow table, with some of its layouts."""
    import pyarrow as pa

    labels = view.split.labels[rows]
    indices = view.indices[rows]
    embeddings = view.embeddings[rows]
    num_dimensions = embeddings.shape[1]
    paths = [f"{view.name}_{index}.png" for index in indices]
    if view.split.paths is not None:
        paths = [_encodable(path) for path in view.split.paths[rows]]
    images = [
        {"bytes": _png(image), "path": path}
        for image, path in zip(view.split.pictures[rows], paths, strict=True)
    ]
    class_names = [_encodable(name) for name in view.split.class_names]
    columns: dict[str, Any] = {
        "image": pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        "label": labels.astype(np.int64),
        "class_name": [class_names[label] for label in labels],
        "split": [view.name] * len(labels),
        "index": indices.astype(np.int64),
        **({} if view.split.paths is None else {"path": paths}),
        "embedding": pa.FixedSizeListArray.from_arrays(embeddings.ravel(), num_dimensions),
    }
    for name in layouts:
        columns[f"{name}_x"], columns[f"{name}_y"] = view.layouts[name][rows].T.copy()
    for name, values in view.columns.items():
        columns[name] = _column(values[rows])
    table = pa.table(columns)
    features = _features(table.schema, class_names, num_dimensions)
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def _column(values: NDArray[Any]) -> "pyarrow.Array":
    """Return a metadata column as an Arrow array, with null for None and NaN."""
    import pyarrow as pa

    if values.dtype == object:
        texts = [value if value is None else _encodable(value) for value in values]
        return pa.array(texts, pa.string())
    return pa.array(values, from_pandas=True)


def _encodable(text: str) -> str:
    """Return text that UTF-8 can encode: escape lone surrogates (from non-UTF-8 file names)."""
    return text.encode(errors="backslashreplace").decode()


def _features(
    schema: "pyarrow.Schema", class_names: Sequence[str], num_dimensions: int
) -> Mapping[str, object]:
    """Return the column types in the format of Hugging Face datasets."""
    special: dict[str, object] = {
        "image": {"_type": "Image"},
        "embedding": {
            "feature": {"dtype": "float32", "_type": "Value"},
            "length": num_dimensions,
            "_type": "Sequence",
        },
    }
    if len(set(class_names)) == len(class_names):  # ClassLabel requires unique names
        special["label"] = {"names": list(class_names), "_type": "ClassLabel"}
    arrow_names = {"float": "float32", "double": "float64"}
    return {
        field.name: special.get(
            field.name,
            {"dtype": arrow_names.get(str(field.type), str(field.type)), "_type": "Value"},
        )
        for field in schema
    }


def _png(image: NDArray[np.uint8]) -> bytes:
    """Return an image, uint8 [H, W, C], as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, format="PNG")
    return file.getvalue()
