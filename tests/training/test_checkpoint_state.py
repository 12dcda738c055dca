"""The file `checkpoint`: names of the directory's own checkpoints, and nothing that leads out."""

import os
import re
from pathlib import Path

import pytest

from src.errors import UserError
from src.experiment.checkpoint_files import (
    CheckpointState,
    checkpoint_path,
    checkpoint_steps,
    files_of,
    has_files,
    index_of,
    largest_size,
    read_state,
    remove_leftovers,
    remove_others,
    set_checkpoint_aside,
    state_or_aside,
    step_of,
    write_state,
)

PLAIN = 'model_checkpoint_path: "model.ckpt-28"\nall_model_checkpoint_paths: "model.ckpt-21"\n'


def test_as_tensorflow_writes_it(tmp_path):
    assert read_state(tmp_path) is None
    write_state(tmp_path, [28, 21])
    assert (tmp_path / "checkpoint").read_text() == (
        f'{PLAIN}all_model_checkpoint_paths: "model.ckpt-28"\n'
    )
    assert read_state(tmp_path) == CheckpointState(28, is_plain=True)
    with open(tmp_path / "checkpoint", "a") as file:
        file.write("all_model_checkpoint_timestamps: 1795351884.12\n")
        file.write("last_preserved_timestamp: 1.795e+09\n")
    assert read_state(tmp_path) == CheckpointState(28, is_plain=True)
    write_state(tmp_path, [])
    assert read_state(tmp_path) is None


def test_as_tensorflow_itself_reads_it(tmp_path):
    """That what is plain here is read alike there."""
    from model.estimator import tf

    write_state(tmp_path, [0, 7])
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert state.model_checkpoint_path == str(tmp_path / "model.ckpt-7")
    tf.compat.v1.train.update_checkpoint_state(
        str(tmp_path), "model.ckpt-9", ["model.ckpt-7", "model.ckpt-9"], None, [1e9, 1.5e9], 1e9
    )
    assert read_state(tmp_path) == CheckpointState(9, is_plain=True)


LEADING_OUT = [
    'model_checkpoint_path: "/elsewhere/model.ckpt-28"\n',
    'model_checkpoint_path: "../victim/model.ckpt-28"\n',
    f'{PLAIN}all_model_checkpoint_paths: "../victim/model.ckpt-7"\n',
    f'{PLAIN}all_model_checkpoint_paths: "/elsewhere/x"\n',
    f"{PLAIN}all_model_checkpoint_paths:'../victim/model.ckpt-7'\n",
    f'{PLAIN}model_checkpoint_path: "../victim/model.ckpt-7"\n',
    f'{PLAIN}# "\n',
]


@pytest.mark.parametrize("content", LEADING_OUT)
def test_paths_that_lead_out_are_not_plain_and_only_their_names_count(tmp_path, content):
    (tmp_path / "checkpoint").write_text(content)
    assert read_state(tmp_path) == CheckpointState(28, is_plain=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 99,
        b"\xff\xfe",
        b'model_checkpoint_path: "model.ckpt-"\n',
        b'model_checkpoint_path: "model.ckpt-7x"\n',
        b'model_checkpoint_path: "model.ckpt-007"\n',
        b'model_checkpoint_path: "weights-7"\n',
        b'model_checkpoint_path: "model.ckpt--7"\n',
        'model_checkpoint_path: "model.ckpt-\u0663"\n'.encode(),
        b'model_checkpoint_path: "model.ckpt-' + b"9" * 5000 + b'"\n',
    ],
)
def test_a_file_that_names_no_checkpoint(tmp_path, content):
    (tmp_path / "checkpoint").write_bytes(content)
    assert read_state(tmp_path) == CheckpointState(None, is_plain=False)


def test_no_regular_file(tmp_path):
    (tmp_path / "checkpoint").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="/checkpoint: a device; accepted: a regular file"):
        read_state(tmp_path)


def test_steps_of_files(tmp_path):
    for name in ("7.index", "30.data-00000-of-00001", "x.index", "07.index", "\u0663.index", "9"):
        (tmp_path / f"model.ckpt-{name}").touch()
    assert checkpoint_steps(tmp_path, "index") == {7}
    assert checkpoint_steps(tmp_path, "(?:index|data-.*)") == {7, 30}
    assert checkpoint_steps(tmp_path / "absent", "index") == set()


def make(folder, *names):
    for name in names:
        (folder / f"model.ckpt-{name}").write_bytes(b"x" * len(name))


def test_paths_and_steps(tmp_path):
    checkpoint = checkpoint_path(tmp_path, 782)
    assert checkpoint == tmp_path / "model.ckpt-782" and step_of(checkpoint) == 782
    assert index_of(checkpoint) == tmp_path / "model.ckpt-782.index"


def test_files_of_one_checkpoint_and_of_others(tmp_path):
    assert not has_files(tmp_path) and largest_size(tmp_path) == 0
    make(tmp_path, "7.index", "7.meta", "70.index", "8.data-00000-of-00001")
    assert has_files(tmp_path) and largest_size(tmp_path) == len("8.data-00000-of-00001")
    seven = checkpoint_path(tmp_path, 7)
    names = ["model.ckpt-7.index", "model.ckpt-7.meta"]
    assert sorted(path.name for path in files_of(seven)) == names
    remove_others(seven)
    assert sorted(os.listdir(tmp_path)) == names
    assert set_checkpoint_aside(seven) == tmp_path / "damaged"
    assert os.listdir(tmp_path) == ["damaged"] and not has_files(tmp_path)
    assert sorted(os.listdir(tmp_path / "damaged")) == names


def test_what_a_kill_leaves_is_removed(tmp_path):
    make(tmp_path, "7.index", "8.meta.tmp12")
    (tmp_path / "model.ckpt-9_temp").mkdir()
    for name in ("checkpoint", "checkpoint.tmp3", "graph.pbtxt", "graph.pbtxt.tmp4"):
        (tmp_path / name).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (tmp_path / "model.ckpt-10_temp").symlink_to(elsewhere)
    remove_leftovers(tmp_path)
    assert os.listdir(elsewhere) == ["kept"]
    kept = ["checkpoint", "elsewhere", "graph.pbtxt", "model.ckpt-7.index"]
    assert sorted(os.listdir(tmp_path)) == kept


def test_a_file_that_cannot_be_read_is_moved_away(tmp_path):
    assert state_or_aside(tmp_path) is None
    (tmp_path / "checkpoint").mkdir()
    assert state_or_aside(tmp_path) == CheckpointState(None, False)
    assert os.listdir(tmp_path) == ["damaged"] and has_files(tmp_path) is False


def test_names_of_checkpoints_are_known_in_one_file():
    """Elsewhere they stand in docstrings and messages alone, between backticks."""
    root = Path(__file__).parents[2]
    files = [path for top in ("src", "model") for path in (root / top).rglob("*.py")]
    found = {
        path.relative_to(root).as_posix()
        for path in files
        if re.search(r"(?<!`)model\.ckpt", path.read_text(encoding="utf-8"))
    }
    assert found == {"src/experiment/checkpoint_files.py"}
