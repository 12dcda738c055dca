"""The IDX reader against bytes written by hand, whole and damaged."""

import gzip
import os
import tracemalloc

import numpy as np
import pytest

from src.data.idx import read_idx
from src.errors import UserError

# Two images of 2 x 3 pixels: magic, three big-endian sizes, twelve values.
HEADER = b"\x00\x00\x08\x03" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03"
VALUES = bytes([0, 1, 2, 3, 4, 5, 250, 251, 252, 253, 254, 255])
IDX = HEADER + VALUES


def write(folder, content):
    path = folder / "file"
    path.write_bytes(content)
    return path


def message(path):
    with pytest.raises(UserError) as caught:
        read_idx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and ";" in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_values_and_shape(tmp_path, pack):
    array = read_idx(write(tmp_path, pack(IDX)))
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(
        array, [[[0, 1, 2], [3, 4, 5]], [[250, 251, 252], [253, 254, 255]]]
    )


def test_labels_are_one_dimensional(tmp_path):
    path = write(tmp_path, b"\x00\x00\x08\x01\x00\x00\x00\x03\x07\x02\x01")
    np.testing.assert_array_equal(read_idx(path), [7, 2, 1])


def test_sizes_are_big_endian(tmp_path):
    path = write(tmp_path, b"\x00\x00\x08\x01\x00\x00\x01\x02" + bytes(0x102))
    assert read_idx(path).shape == (0x102,)


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    raw, packed = tmp_path / "raw.gz", tmp_path / "packed"
    raw.write_bytes(IDX)
    packed.write_bytes(gzip.compress(IDX))
    np.testing.assert_array_equal(read_idx(raw), read_idx(packed))


def test_missing(tmp_path):
    assert message(tmp_path / "nothing").startswith("missing;")


def test_folder(tmp_path):
    assert "irectory" in message(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "byte 0: the file ends;"),
        (IDX[:3], "byte 3: the file ends;"),
        (b"\x89PNG\r\n\x1a\n", "bytes 0-1: found 89 50;"),
        (b"<html>404</html>", "bytes 0-1: found 3c 68;"),
        (b"\x00\x00\x0d" + IDX[3:], "byte 2: found type code 0x0d (float32);"),
        (b"\x00\x00\x09" + IDX[3:], "byte 2: found type code 0x09 (int8);"),
        (b"\x00\x00\x07" + IDX[3:], "byte 2: found type code 0x07 (not a type of IDX);"),
        (b"\x00\x00\x08\x00", "byte 3: found 0 dimensions;"),
        (b"\x00\x00\x08\x05" + bytes(20), "byte 3: found 5 dimensions;"),
        (IDX[:9], "byte 9: the file ends within its header;"),
        (IDX[:-1], "byte 16: truncated: found 11 bytes of values;"),
        (HEADER, "byte 16: truncated: found 0 bytes of values;"),
        (IDX + b"\x00", "byte 28: found trailing bytes; accepted: 12 bytes"),
        (b"\x00\x00\x08\x03" + bytes(4) + IDX[8:16], "byte 4: found sizes 0 x 2 x 3;"),
        (IDX[:8] + bytes(4) + IDX[12:], "byte 4: found sizes 2 x 0 x 3;"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_damaged(tmp_path, pack, content, expected):
    assert message(write(tmp_path, pack(content))).startswith(expected)


def test_truncated_names_what_the_header_announces(tmp_path):
    assert message(write(tmp_path, IDX[:-5])).endswith(
        "accepted: 12, because the header states sizes 2 x 2 x 3"
    )


@pytest.mark.parametrize("num_dimensions", [1, 2, 3, 4])
def test_absurd_sizes_allocate_nothing(tmp_path, num_dimensions):
    content = b"\x00\x00\x08" + bytes([num_dimensions]) + b"\xff" * (4 * num_dimensions)
    assert f"accepted: {(2**32 - 1) ** num_dimensions}, because" in message(
        write(tmp_path, content)
    )


@pytest.mark.parametrize("size", [2, 9, 12, 25, -9, -8, -4, -1])
def test_truncated_gzip(tmp_path, size):
    assert message(write(tmp_path, gzip.compress(IDX)[:size])).startswith("damaged gzip (")


def test_gzip_with_flipped_bits(tmp_path):
    packed = gzip.compress(np.random.default_rng(0).bytes(1000), mtime=0)
    for position in range(10, len(packed), 37):
        damaged = bytearray(packed)
        damaged[position] ^= 0xFF
        assert message(write(tmp_path, bytes(damaged))).startswith("damaged gzip (")


def test_bytes_after_the_gzip_stream(tmp_path):
    assert message(write(tmp_path, gzip.compress(IDX) + b"more")).startswith("damaged gzip (")


def test_a_bomb_is_unpacked_no_further_than_its_header_says(tmp_path):
    bomb = gzip.compress(IDX + bytes(60 << 20), compresslevel=1)
    path = write(tmp_path, bomb)
    tracemalloc.start()
    assert "trailing bytes" in message(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 << 20


def test_the_values_are_read_only(tmp_path):
    with pytest.raises(ValueError, match="read-only"):
        read_idx(write(tmp_path, IDX))[0, 0, 0] = 1


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a directory"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    path = tmp_path / "images"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(UserError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path}: {kind}; accepted: a regular file"


def test_a_bomb_whose_header_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("src.data.idx.MAX_BYTES", 5 << 20)
    header = b"\0\0\x08\x03" + np.array([2**31, 28, 28], ">u4").tobytes()
    path = write(tmp_path, gzip.compress(header + bytes(30 << 20), compresslevel=1))
    assert message(path) == (
        "found sizes 2147483648 x 28 x 28 in the header; accepted: at most 5242880 bytes"
    )
