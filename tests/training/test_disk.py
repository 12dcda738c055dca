"""A disk without room, for what TensorFlow itself writes; on a real small one."""

import json
import os
import shlex
import sys

import pytest
from mounts import needs_mounts, run_mounted

import train
from src.errors import UserError
from src.experiment.experiment import Experiment


def train_on_small_disk(model_dir, data_dir, size, copy=None):
    command = [sys.executable, "train.py", "--model_dir", model_dir, "--data_dir", data_dir]
    afterwards = f"cp -a . {shlex.quote(str(copy))}" if copy else "ls -A"
    return run_mounted(model_dir, "tmpfs", command, afterwards, size=size)


@pytest.mark.system
@needs_mounts
def test_no_room_for_a_first_checkpoint(make_experiment, data_dir):
    model_dir = make_experiment()
    done = train_on_small_disk(model_dir, data_dir, "300k")
    assert done.returncode == 2
    start = f"error: {model_dir}: the disk is full: a first checkpoint takes "
    assert done.stderr.startswith(start) and done.stderr.count("\n") == 1
    assert int(done.stderr.removeprefix(start).split()[0].replace(",", "")) > 300_000
    assert "model.ckpt" not in done.stdout


@pytest.mark.system
@needs_mounts
def test_a_disk_that_fills_up_leaves_the_latest_checkpoint(make_experiment, data_dir, tmp_path):
    from model.training.checkpoints import fault_of

    model_dir = make_experiment(num_epochs=100, save_checkpoints_steps=5, keep_checkpoint_max=100)
    done = train_on_small_disk(model_dir, data_dir, "3m", copy=tmp_path / "copy")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {model_dir}/") and done.stderr.count("\n") == 1
    assert "the disk is full: " in done.stderr and done.stderr.endswith(
        "a disk with more free space\n"
    )
    copy = Experiment(tmp_path / "copy")
    step = copy.latest_step()
    assert step >= 10
    assert fault_of(copy.model_dir / f"model.ckpt-{step}") is None
    assert not [name for name in os.listdir(copy.model_dir) if "tmp" in name or "temp" in name]

    # With room the same command goes on from there.
    params = json.loads(copy.params_path.read_text())
    copy.params_path.write_text(
        json.dumps({**params, "save_checkpoints_steps": 70, "num_epochs": 10})
    )
    train.main(["--model_dir", str(copy.model_dir), "--data_dir", str(data_dir)])
    assert copy.latest_step() == 70


@pytest.mark.parametrize(
    "text",
    [
        "/a b/model.ckpt-2_temp/part-0; No space left on device\n\t [[{{node save/SaveV2}}]]",
        "Save failed: /a b/model.ckpt-2_temp/part-0; Disk quota exceeded",
    ],
)
def test_what_tensorflow_says_of_a_disk(tmp_path, text):
    from model.estimator import tf
    from model.training.disk import disk_errors

    (tmp_path / "model.ckpt-1.index").write_bytes(b"x" * 1000)
    (tmp_path / "model.ckpt-1.data-00000-of-00001").write_bytes(b"x" * 2000)
    (tmp_path / "graph.pbtxt.tmp123").write_bytes(b"half")
    error = tf.errors.ResourceExhaustedError(None, None, text)
    with pytest.raises(UserError) as caught, disk_errors(tmp_path):
        raise error
    message = str(caught.value)
    assert message.startswith("/a b/model.ckpt-2_temp/part-0: the disk is full: ")
    assert "a checkpoint takes 3,000 bytes or more" in message and "\n" not in message
    assert not (tmp_path / "graph.pbtxt.tmp123").exists()


def test_other_errors_stay_what_they_are(tmp_path):
    from model.estimator import tf
    from model.training.disk import disk_errors

    for error in (
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
        RuntimeError("a bug"),
        FileNotFoundError(2, "No such file or directory", "x"),
    ):
        with pytest.raises(type(error)) as caught, disk_errors(tmp_path):
            raise error
        assert caught.value is error
