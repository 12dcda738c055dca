"""The file `checkpoint`: names of the directory's own checkpoints, and nothing that leads out."""

import pytest

from src.errors import UserError
from src.experiment.checkpoint_files import (
    CheckpointState,
    checkpoint_steps,
    read_state,
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
