"""The Parquet file: as pyarrow reads it, a row for each point, pictures as PNG files."""

import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from src.data.split import Split
from src.errors import UserError
from src.projector.parquet import require_pyarrow, write_parquet
from src.projector.view import View

pq = pytest.importorskip("pyarrow.parquet", reason="the extra parquet is not installed")


def make_view(name, size, seed=0, channels=1, class_names=("zero", "é\t日"), paths=None):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (size, 9, 7, channels), dtype=np.uint8)
    labels = rng.integers(0, len(class_names), size).astype(np.int32)
    return View(
        name,
        Split(images, labels, class_names, paths),
        np.sort(rng.permutation(10 * size)[:size]),
        rng.standard_normal((size, 5)).astype(np.float32),
        {"tsne": rng.standard_normal((size, 2)).astype(np.float32)},
        {
            "prediction": np.where(rng.random(size) < 0.5, "right", "wrong"),
            "errors_nearby": rng.random(size).astype(np.float32),
        },
        step=7,
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_the_points_of_all_splits_in_their_order(tmp_path, monkeypatch, channels):
    monkeypatch.setattr("src.projector.parquet.ROWS_PER_GROUP", 4)
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


def test_files_have_their_names(tmp_path):
    paths = np.array(["zero/1.png", "é/\u202e\udce9.jpg", "b/3.png"], dtype=object)
    path = tmp_path / "points.parquet"
    write_parquet(path, [make_view("test", 3, paths=paths)])
    rows = pq.read_table(path).to_pylist()
    assert [row["path"] for row in rows] == ["zero/1.png", "é/\u202e\\udce9.jpg", "b/3.png"]
    assert [row["image"]["path"] for row in rows] == [row["path"] for row in rows]
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features["path"] == {"dtype": "string", "_type": "Value"}
    write_parquet(path, [make_view("test", 3)])
    assert "path" not in pq.read_schema(path).names


def test_a_class_name_that_utf_8_cannot_hold_is_escaped(tmp_path):
    path = tmp_path / "points.parquet"
    write_parquet(path, [make_view("test", 9, class_names=("caf\udce9",))])
    assert set(pq.read_table(path)["class_name"].to_pylist()) == {"caf\\udce9"}


def test_a_layout_that_one_split_lacks_is_left_out(tmp_path):
    views = [make_view("test", 3), make_view("train", 4)]
    del views[1].layouts["tsne"]
    for order in (views, views[::-1]):
        path = tmp_path / "points.parquet"
        write_parquet(path, order)
        table = pq.read_table(path)
        assert len(table) == 7 and "tsne_x" not in table.column_names
    write_parquet(path, views[:1])
    assert "tsne_x" in pq.read_table(path).column_names


def test_what_is_not_defined_is_null(tmp_path):
    view = make_view("test", 3)
    view.columns["prediction"] = np.array(["right", None, "wrong"], dtype=object)
    view.columns["own_class_distance"] = np.array([0.5, np.nan, 2])
    path = tmp_path / "points.parquet"
    write_parquet(path, [view])
    table = pq.read_table(path)
    assert table["prediction"].to_pylist() == ["right", None, "wrong"]
    assert table["own_class_distance"].to_pylist() == [0.5, None, 2]
    view.columns["prediction"] = np.array([None] * 3, dtype=object)  # of none known, still text
    write_parquet(path, [view])
    assert str(pq.read_schema(path).field("prediction").type) == "string"


def test_without_pyarrow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"pyarrow cannot be imported .*; .*\[parquet\]"):
        require_pyarrow()
