"""Curves from event files that TensorFlow wrote."""

import os
import struct

import pytest
from fake_train import masked_crc

from model.estimator import tf
from src.experiment.curves import read_curves


def write(directory, points, suffix=""):
    """Write (tag, step, value) as the Estimator does, into a file of its own."""
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(directory), filename_suffix=suffix)
        for tag, step, value in points:
            summary = tf.compat.v1.Summary()
            summary.value.add(tag=tag, simple_value=value)
            writer.add_summary(summary, step)
        writer.close()


def test_every_tag_in_the_order_of_its_steps(tmp_path):
    write(tmp_path, [("loss", 20, 0.25), ("loss", 10, 0.5), ("recall", 10, 1.0)])
    assert read_curves(tmp_path) == {"loss": ([10, 20], [0.5, 0.25]), "recall": ([10], [1.0])}


def test_a_resumed_run_has_several_files_and_the_latest_counts(tmp_path):
    write(tmp_path, [("loss", 10, 4.0), ("loss", 20, 3.0)], ".1")
    write(tmp_path, [("loss", 20, 2.0), ("loss", 30, 1.0)], ".2")
    # Names begin with the second of their making, which may be the same: then the suffix counts.
    assert read_curves(tmp_path) == {"loss": ([10, 20, 30], [4.0, 2.0, 1.0])}


@pytest.mark.parametrize("missing", [1, 5, 20])
def test_a_file_that_breaks_off_gives_what_it_has(tmp_path, missing):
    write(tmp_path, [("loss", 10, 0.5), ("loss", 20, 0.25)])
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-missing])
    assert read_curves(tmp_path) == {"loss": ([10], [0.5])}


def test_a_damaged_file_gives_what_comes_before(tmp_path):
    write(tmp_path, [("loss", 10, 0.5), ("loss", 20, 0.25)])
    [path] = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-10] ^= 0xFF
    path.write_bytes(content)
    assert read_curves(tmp_path) == {"loss": ([10], [0.5])}


@pytest.mark.parametrize(
    ("length", "content"), [(5, b"\xff" * 5), (1 << 63, b""), ((1 << 64) - 1, b""), (1 << 45, b"")]
)
def test_a_record_whose_checksums_are_right_but_nothing_else(tmp_path, length, content):
    write(tmp_path, [("loss", 10, 0.5)])
    [path] = tmp_path.iterdir()
    head = struct.pack("<Q", length)
    with open(path, "ab") as file:
        file.write(head + masked_crc(head) + content + masked_crc(content))
    assert read_curves(tmp_path) == {"loss": ([10], [0.5])}


def test_what_is_no_file_is_passed_over(tmp_path):
    write(tmp_path / "real", [("loss", 10, 0.5)])
    os.mkfifo(tmp_path / "events.out.tfevents.1")
    (tmp_path / "events.out.tfevents.2").mkdir()
    (tmp_path / "events.out.tfevents.3").symlink_to(next((tmp_path / "real").iterdir()))
    assert read_curves(tmp_path) == {}


def test_nothing_there(tmp_path):
    assert read_curves(tmp_path / "nowhere") == {}
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    assert read_curves(tmp_path) == {}


def test_what_is_not_a_scalar_is_passed_over(tmp_path):
    with tf.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter(str(tmp_path))
        writer.add_graph(tf.compat.v1.get_default_graph())
        summary = tf.compat.v1.Summary()
        summary.value.add(tag="picture").image.encoded_image_string = b"x"
        writer.add_summary(summary, 1)
        writer.close()
    assert read_curves(tmp_path) == {}
