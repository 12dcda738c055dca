"""The cache: computed once for a key, whatever may have happened to the file."""

import os

import numpy as np
import pytest

from src.system.cache import cached, digest, load_arrays, save_arrays


@pytest.fixture
def compute():
    def compute():
        compute.calls += 1
        return np.arange(6, dtype=np.float32).reshape(3, 2)

    compute.calls = 0
    return compute


def test_second_call_computes_nothing_and_returns_the_same(tmp_path, compute):
    path = tmp_path / "deep" / "a.npz"
    first = cached(path, {"seed": 1}, compute)
    second = cached(path, {"seed": 1}, compute)
    assert compute.calls == 1
    np.testing.assert_array_equal(first, second)
    assert first.dtype == second.dtype == np.float32


def test_another_key_computes_anew_and_replaces(tmp_path, compute):
    path = tmp_path / "a.npz"
    for key in ({"seed": 1}, {"seed": 2}, {"seed": 2}, {"seed": 1}):
        cached(path, key, compute)
    assert compute.calls == 3
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def damages(content):
    yield b""
    yield b"not a zip file"
    yield content[: len(content) // 2]
    yield content[:-1]
    yield content[:200] + b"\0" * 50 + content[250:]


@pytest.mark.parametrize("number", range(5))
def test_damaged_file_is_written_anew(tmp_path, compute, number):
    path = tmp_path / "a.npz"
    expected = cached(path, {}, compute)
    whole = path.read_bytes()
    path.write_bytes(list(damages(whole))[number])
    np.testing.assert_array_equal(cached(path, {}, compute), expected)
    assert compute.calls == 2
    assert cached(path, {}, compute) is not None
    assert compute.calls == 2


def test_no_flipped_bit_is_served(tmp_path):
    """Not one of them all: names, headers of the archive, of the arrays, numbers, key."""
    path = tmp_path / "a.npz"
    arrays = {"array": np.arange(4.0), "key": np.array("{}")}
    save_arrays(path, arrays)
    whole = path.read_bytes()
    unnoticed = 0
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        if (found := load_arrays(path)) is not None:
            unnoticed += 1
            assert found.keys() == arrays.keys()
            for name, array in arrays.items():
                assert found[name].dtype == array.dtype
                np.testing.assert_array_equal(found[name], array)
    assert unnoticed < len(whole) / 4  # dates and the like


@pytest.mark.parametrize("other", [{"array": np.arange(5.0)}, {"key": np.array("[]")}, {"b": 1}])
def test_arrays_put_in_the_place_of_others_are_not_served(tmp_path, other):
    """By a program that keeps the archive's own sums."""
    path = tmp_path / "a.npz"
    save_arrays(path, {"array": np.arange(4.0), "key": np.array("{}")})
    with np.load(path) as stored:
        np.savez(path, **{**stored, **other})
    assert load_arrays(path) is None


def test_a_pipe_is_not_waited_for(tmp_path, compute):
    os.mkfifo(tmp_path / "a.npz")
    assert cached(tmp_path / "a.npz", {}, compute).shape == (3, 2)
    assert (tmp_path / "a.npz").is_file()


def test_pickled_objects_are_not_loaded(tmp_path, compute):
    path = tmp_path / "a.npz"
    np.savez(path, array=np.array([{}], dtype=object), key=np.array("{}"))
    assert cached(path, {}, compute).shape == (3, 2)


def test_digest_tells_numbers_types_and_shapes_apart():
    array = np.arange(6, dtype=np.float32)
    others = [array.reshape(2, 3), array.astype(np.float64), array[::-1], array[:5], b"abc"]
    assert len({digest([part]) for part in [array, *others]}) == 6
    assert digest([array]) == digest([array.copy()])
    assert digest([array[::2]]) == digest([array[::2].copy()])
    assert digest([array, b"a"]) != digest([b"a", array])
