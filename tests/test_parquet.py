"""The Parquet file: as pyarrow reads it, a row for each point, pictures as PNG files."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from src.errors import UserError
from src.parquet import require_pyarrow, write_parquet
from src.split import Split
from src.view import View

pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")


def make_view(name, size, seed=0, channels=1, class_names=("zero", "é\t日")):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 9, 7, channels), dtype=np.uint8)
    labels = rng.integers(0, len(class_names), size).astype(np.int32)
    return View(
        name,
        Split(images, labels, class_names),
        np.sort(rng.permutation(10 * size)[:size]),
        rng.standard_normal((size, 5)).astype(np.float32),
        {"tsne": rng.standard_normal((size, 2)).astype(np.float32)},
        {
            "prediction": np.where(rng.random(size) < 0.5, "right", "wrong"),
            "errors_nearby": rng.random(size).astype(np.float32),
        },
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_the_points_of_all_splits_in_their_order(tmp_path, monkeypatch, channels):
    monkeypatch.setattr("src.parquet.ROWS_PER_GROUP", 4)
    views = [make_view("train", 10, 1, channels), make_view("test", 6, 2, channels)]
    path = tmp_path / "points.parquet"
    write_parquet(path, views)
    assert pq.ParquetFile(path).num_row_groups == 5  # 4 + 4 + 2 and 4 + 2
    rows = pq.read_table(path).to_pylist()
    assert [row["split"] for row in rows] == ["train"] * 10 + ["test"] * 6
    expected = [(view, i) for view in views for i in range(len(view.split))]
    for row, (view, i) in zip(rows, expected, strict=True):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:
            assert picture.format == "PNG"
            pixels = np.asarray(picture).reshape(9, 7, channels)
        np.testing.assert_array_equal(pixels, view.split.images[i])
        assert row["image"]["path"] == f"{view.name}_{view.indices[i]}.png"
        label = view.split.labels[i]
        assert (row["label"], row["class_name"]) == (label, view.split.class_names[label])
        assert row["index"] == view.indices[i]
        np.testing.assert_array_equal(np.float32(row["embedding"]), view.embeddings[i])
        assert [row["tsne_x"], row["tsne_y"]] == view.layouts["tsne"][i].tolist()
        assert row["prediction"] == view.columns["prediction"][i]
        assert row["errors_nearby"] == view.columns["errors_nearby"][i]


def test_types_are_those_that_viewers_ask_for(tmp_path):
    path = tmp_path / "points.parquet"
    write_parquet(path, [make_view("test", 3)])
    schema = pq.read_schema(path)
    assert str(schema.field("image").type) == "struct<bytes: binary, path: string>"
    assert str(schema.field("embedding").type).startswith("fixed_size_list<")
    assert schema.field("embedding").type.list_size == 5
    assert str(schema.field("tsne_x").type) == "float"
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == schema.names
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": ["zero", "é\t日"], "_type": "ClassLabel"}
    assert features["errors_nearby"] == {"dtype": "float32", "_type": "Value"}
    assert features["prediction"] == {"dtype": "string", "_type": "Value"}


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"pyarrow cannot be imported .*; .*\[parquet\]"):
        require_pyarrow()
