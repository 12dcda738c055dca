"""The projector's files, as they are written."""

import json
import logging
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from src.data.split import Split
from src.errors import UserError
from src.projector.files import (
    EVENT_FILE,
    as_tensor,
    write_evolution,
    write_projector,
)

FILES = [
    "e.bytes",
    "events.out.tfevents.0.projector",
    "metadata.tsv",
    "projector_config.pbtxt",
    "sprite.png",
]


def make_split(num_examples, class_names=("a", "b", "c"), seed=0):
    """Examples whose picture is one grey: its position in the split."""
    rng = np.random.default_rng(seed)
    images = np.empty((num_examples, 28, 28, 1), np.uint8)
    images[:] = (100 + np.arange(num_examples) % 150)[:, None, None, None]
    labels = rng.integers(0, len(class_names), num_examples).astype(np.int32)
    return Split(images, labels, class_names)


def make_embeddings(num_examples, embedding_size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((num_examples, embedding_size)).astype(np.float32)


def read_config(directory):
    return text_format.Parse((directory / "projector_config.pbtxt").read_text(), ProjectorConfig())


def read_tensor(directory):
    tensor = read_config(directory).embeddings[0]
    return np.fromfile(directory / tensor.tensor_path, "<f4").reshape(tensor.tensor_shape)


def test_config_names_the_files_and_the_shapes(tmp_path):
    files = write_projector(
        tmp_path, name="e", embeddings=make_embeddings(50, 8), split=make_split(50)
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES
    (tensor,) = read_config(tmp_path).embeddings
    assert tensor.tensor_name == "e"
    assert tensor.tensor_path == "e.bytes"
    assert list(tensor.tensor_shape) == [50, 8]
    assert tensor.metadata_path == "metadata.tsv"
    assert tensor.sprite.image_path == "sprite.png"
    assert list(tensor.sprite.single_image_dim) == [28, 28]
    with Image.open(tmp_path / "sprite.png") as sheet:
        assert sheet.size == (8 * 28, 8 * 28)
    assert tensor.bookmarks_path == ""
    assert (files.directory, files.tensors, files.tile_size) == (tmp_path, ("e",), (28, 28))


def test_tensor_is_raw_float32_that_no_one_takes_for_text(tmp_path):
    for seed in range(5):
        embeddings = make_embeddings(7, 5, seed)
        write_projector(tmp_path, name="e", embeddings=embeddings, split=make_split(7))
        raw = (tmp_path / "e.bytes").read_bytes()
        assert len(raw) == 7 * 5 * 4
        assert raw[0] == 0xFF
        with pytest.raises(UnicodeDecodeError):
            raw.decode()
        written = read_tensor(tmp_path)
        np.testing.assert_allclose(written, embeddings, rtol=255 / 2**23, atol=0)
        np.testing.assert_array_equal(written.ravel()[1:], embeddings.ravel()[1:])


def test_bytes_that_are_valid_text_become_a_tensor_that_is_not(tmp_path):
    text = b"0.5\t1.5\t" * 6
    embeddings = np.frombuffer(text, "<f4").reshape(4, 3)
    write_projector(tmp_path, name="e", embeddings=embeddings, split=make_split(4))
    with pytest.raises(UnicodeDecodeError):
        (tmp_path / "e.bytes").read_bytes().decode()
    assert embeddings.tobytes() == text  # the caller's array is untouched


@pytest.mark.parametrize("first", [0.0, 1.0, -1.0, np.float32(3.4028235e38)])
def test_first_number_stays_finite_and_close_in_the_worst_cases(tmp_path, first):
    embeddings = np.full((2, 3), first, np.float32)
    write_projector(tmp_path, name="e", embeddings=embeddings, split=make_split(2))
    written = read_tensor(tmp_path)
    np.testing.assert_allclose(written, embeddings, rtol=255 / 2**23, atol=1e-42)


@pytest.mark.parametrize("embedding_size", [1, 2, 3])
@pytest.mark.parametrize("num_examples", [2, 10])
def test_fewer_than_three_columns_are_filled_up_with_zeros(tmp_path, num_examples, embedding_size):
    embeddings = make_embeddings(num_examples, embedding_size)
    write_projector(tmp_path, name="e", embeddings=embeddings, split=make_split(num_examples))
    written = read_tensor(tmp_path)
    assert written.shape == (num_examples, 3)
    np.testing.assert_allclose(written[:, :embedding_size], embeddings, rtol=255 / 2**23)
    assert (written[:, embedding_size:] == 0).all()


def test_metadata_has_label_and_index_first_and_room_for_more(tmp_path):
    split = make_split(4, class_names=("zero", "", "日本\t語"))
    split = Split(split.images, np.array([0, 1, 2, 0], np.int32), split.class_names)
    write_projector(
        tmp_path,
        name="e",
        embeddings=make_embeddings(4, 8),
        split=split,
        columns={"nearest": ["w", "x", "y", "z"], "distance": np.array([0.5, 1, 2, 4])},
    )
    assert (tmp_path / "metadata.tsv").read_text(encoding="utf-8") == (
        "label\tindex\tnearest\tdistance\tlabel_number\n"
        "zero\t0\tw\t0.5\t0\n"
        "(empty)\t1\tx\t1\t1\n"
        "日本 語\t2\ty\t2\t2\n"
        "zero\t3\tz\t4\t0\n"
    )


def test_files_of_images_stand_after_the_index(tmp_path):
    split = make_split(3)
    paths = np.array(["a/1.png", "b/\ttab.png", "c/\x1b]0;x\x07\u202e.png"], dtype=object)
    split = Split(split.images, split.labels, split.class_names, paths)
    embeddings = make_embeddings(3, 8)
    write_projector(tmp_path, name="e", embeddings=embeddings, split=split, columns={"more": "xyz"})
    lines = (tmp_path / "metadata.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "label\tindex\tpath\tmore\tlabel_number"
    assert [line.split("\t")[2] for line in lines[1:]] == [
        *("a/1.png", "b/ tab.png", "c/\\x1b]0;x\\x07\\u202e.png")
    ]


@pytest.mark.parametrize("columns", [{"label": ["x"] * 4}, {"more": ["x"] * 3}])
def test_columns_that_do_not_fit_are_refused(tmp_path, columns):
    with pytest.raises(ValueError, match="column"):
        write_projector(
            tmp_path,
            name="e",
            embeddings=make_embeddings(4, 8),
            split=make_split(4),
            columns=columns,
        )


def test_a_sample_keeps_its_positions_in_the_split(tmp_path):
    split = make_split(9)
    indices = np.array([1, 4, 8])
    write_projector(
        tmp_path,
        name="e",
        embeddings=make_embeddings(3, 4),
        split=split.take(indices),
        indices=indices,
        columns={"twice": indices * 2},
    )
    rows = [line.split("\t") for line in (tmp_path / "metadata.tsv").read_text().splitlines()[1:]]
    assert [row[1:3] for row in rows] == [["1", "2"], ["4", "8"], ["8", "16"]]
    assert [row[0] for row in rows] == [split.class_names[i] for i in split.labels[indices]]
    with Image.open(tmp_path / "sprite.png") as sheet:
        greys = np.asarray(sheet)[14::28, 14::28].ravel()[:3]
    np.testing.assert_array_equal(greys, split.images[indices, 0, 0, 0])


def test_more_points_than_the_projector_takes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("src.projector.files.MAX_POINTS", 5)
    with pytest.raises(ValueError, match="6 examples: the projector shows 5 at most"):
        write_projector(tmp_path, name="e", embeddings=make_embeddings(6, 4), split=make_split(6))


def browsers_pca(tensor):
    """Three components as the projector computes them: of the products, not centred."""
    _, axes = np.linalg.eigh(tensor.astype(np.float64).T @ tensor)
    return tensor @ axes[:, ::-1]


@pytest.mark.parametrize("seed", range(4))
def test_a_layout_opens_as_itself_under_pca_that_does_not_centre(seed):
    """Neither moved, turned nor mixed, however its axes are correlated and long."""
    rng = np.random.default_rng(seed)
    layout = rng.standard_normal((300, 2)) @ rng.uniform(-9, 9, (2, 2)) + rng.uniform(-99, 99, 2)
    components = browsers_pca(as_tensor(layout.astype(np.float32)))
    for axis in (0, 1):
        assert abs(np.corrcoef(components[:, axis], layout[:, axis])[0, 1]) > 1 - 1e-6
    np.testing.assert_allclose(components[:, 2], 0, atol=1e-12)


@pytest.mark.parametrize("layout", [np.zeros((4, 2)), [[0, 0], [0, 5], [0, 9]], [[3, 3], [4, 4]]])
def test_a_flat_layout_stays_finite(layout):
    tensor = as_tensor(np.array(layout, np.float32))
    assert tensor.shape == (len(layout), 3)
    assert np.isfinite(tensor).all()


def test_layouts_open_first_and_stand_in_the_bookmarks(tmp_path):
    split = make_split(40)
    layouts = {name: make_embeddings(40, 2, seed) for seed, name in enumerate(["tsne", "pca"])}
    written = write_projector(
        tmp_path, name="step_7", embeddings=make_embeddings(40, 8), split=split, layouts=layouts
    )
    first, second = read_config(tmp_path).embeddings
    assert written.tensors == ("1_t-SNE_step_7", "2_embeddings_step_7")
    assert (first.tensor_name, second.tensor_name) == written.tensors
    assert written.tensors == tuple(sorted(written.tensors))  # as the projector sorts them
    assert list(first.tensor_shape) == [40, 3]
    assert list(second.tensor_shape) == [40, 8]
    assert first.sprite.image_path == "sprite_by_label.png"
    assert second.sprite.image_path == "sprite.png"
    assert first.metadata_path == second.metadata_path == "metadata.tsv"
    assert first.bookmarks_path == second.bookmarks_path == "bookmarks.json"

    states = json.loads((tmp_path / "bookmarks.json").read_text())
    assert [state["label"] for state in states] == ["t-SNE", "PCA"]
    for state, layout in zip(states, layouts.values(), strict=True):
        assert state["selectedProjection"] == "umap"  # the one that stands still
        assert state["umapIs3d"] is False
        assert state["selectedColorOptionName"] == "label"
        points = [[point["umap-0"], point["umap-1"]] for point in state["projections"]]
        np.testing.assert_allclose(points, layout, rtol=1e-4)


def test_more_classes_than_colours_have_none(tmp_path):
    split = make_split(60, class_names=tuple(f"class {label}" for label in range(60)))
    split = Split(split.images, np.arange(60, dtype=np.int32), split.class_names)
    write_projector(
        tmp_path,
        name="e",
        embeddings=make_embeddings(60, 8),
        split=split,
        layouts={"tsne": make_embeddings(60, 2)},
    )
    (state,) = json.loads((tmp_path / "bookmarks.json").read_text())
    assert state["selectedColorOptionName"] == "No color map"
    assert not (tmp_path / "sprite_by_label.png").exists()
    assert {tensor.sprite.image_path for tensor in read_config(tmp_path).embeddings} == {
        "sprite.png"
    }


def test_an_evolution_has_a_tensor_and_a_bookmark_for_each_checkpoint(tmp_path):
    layouts = {f"step_{step:02}": make_embeddings(9, 2, step) for step in (0, 5, 10)}
    written = write_evolution(tmp_path, layouts=layouts, split=make_split(9), indices=np.arange(9))
    assert written.tensors == ("step_00", "step_05", "step_10")
    assert len(list(tmp_path.glob("*.bytes"))) == 3
    states = json.loads((tmp_path / "bookmarks.json").read_text())
    assert [state["label"] for state in states] == ["step 00", "step 05", "step 10"]


def test_writing_without_layouts_leaves_no_old_bookmarks(tmp_path):
    options = {"embeddings": make_embeddings(9, 4), "split": make_split(9)}
    write_projector(tmp_path, name="e", layouts={"tsne": make_embeddings(9, 2)}, **options)
    write_projector(tmp_path, name="e", **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path, value):
    embeddings = make_embeddings(6, 4)
    embeddings[[2, 5], 3] = value
    with pytest.raises(UserError, match=r"found NaN or infinity in 2 of 6 rows \(first: row 2\)"):
        write_projector(tmp_path, name="e", embeddings=embeddings, split=make_split(6))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_examples", [0, 1])
def test_split_too_small_for_the_projector_is_refused(tmp_path, num_examples):
    with pytest.raises(
        UserError, match=f"found {num_examples} examples in the split; accepted: 2 or"
    ):
        write_projector(
            tmp_path,
            name="e",
            embeddings=make_embeddings(num_examples, 4),
            split=make_split(num_examples),
        )
    assert list(tmp_path.iterdir()) == []


def test_embeddings_of_another_split_are_refused(tmp_path):
    with pytest.raises(ValueError, match="do not fit"):
        write_projector(tmp_path, name="e", embeddings=make_embeddings(3, 4), split=make_split(4))


def test_writing_again_replaces_the_files_and_leaves_one_event_file(tmp_path):
    for num_examples in (9, 4):
        write_projector(
            tmp_path,
            name="e",
            embeddings=make_embeddings(num_examples, 4),
            split=make_split(num_examples),
        )
    assert sorted(file.name for file in tmp_path.iterdir()) == FILES
    assert read_tensor(tmp_path).shape == (4, 4)


def test_failure_half_way_leaves_no_config_beside_new_files(tmp_path, monkeypatch):
    write_projector(tmp_path, name="e", embeddings=make_embeddings(9, 4), split=make_split(9))

    def disk_full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("src.projector.files.write_sheet", disk_full)
    with pytest.raises(OSError, match="disk full"):
        write_projector(tmp_path, name="e", embeddings=make_embeddings(4, 4), split=make_split(4))
    assert not (tmp_path / "projector_config.pbtxt").exists()


def test_event_file_holds_the_version_and_nothing_else(tmp_path):
    write_projector(tmp_path, name="e", embeddings=make_embeddings(2, 4), split=make_split(2))
    record = (tmp_path / EVENT_FILE).read_bytes()
    (length,) = struct.unpack("<Q", record[:8])
    assert len(record) == 8 + 4 + length + 4  # length, its checksum, event, its checksum
    event = Event.FromString(record[12:-4])
    assert event.file_version == "brain.Event:2"
    assert abs(event.wall_time + time.time()) < 600


def test_tensor_name_loses_what_the_projector_cannot_open(tmp_path):
    write_projector(
        tmp_path, name="a&b #+%:0", embeddings=make_embeddings(2, 4), split=make_split(2)
    )
    assert read_config(tmp_path).embeddings[0].tensor_name == "a_b_0"


def test_run_that_the_projector_cannot_open_is_said(tmp_path, caplog):
    directory = tmp_path / "lr+margin" / "projector" / "test"
    with caplog.at_level(logging.WARNING):
        write_projector(directory, name="e", embeddings=make_embeddings(2, 4), split=make_split(2))
    assert "rename the folder" in caplog.text


def test_tensorflow_is_not_imported(tmp_path):
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from src.projector.files import write_projector\n"
        "from src.data.split import Split\n"
        "split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.zeros(2, np.int32), ('a',))\n"
        "write_projector(Path(sys.argv[1]), name='e', embeddings=np.ones((2, 3), np.float32),\n"
        "                split=split)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
