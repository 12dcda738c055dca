"""Files that are complete or absent, whatever happens while they are written."""

import pytest

from src.atomic import atomic_write


class Stop(Exception):
    """What ends a block in the middle."""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_file(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new\r\n\x00")
    assert path.read_bytes() == b"new\r\n\x00"
    assert names(tmp_path) == ["file"]


def test_the_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_reader_sees_the_old_file_until_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_a_new_file_is_absent_until_the_end(tmp_path):
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_an_exception_leaves_no_new_file(tmp_path):
    with pytest.raises(Stop), atomic_write(tmp_path / "file") as file:
        file.write(b"half")
        raise Stop
    assert names(tmp_path) == []


def test_missing_folders_are_created(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_the_temporary_file_is_hidden_and_beside_the_file(tmp_path):
    # Beside it, for a rename works within one file system only.
    path = tmp_path / "metrics.json"
    with atomic_write(path):
        (temporary,) = names(tmp_path)
    assert temporary.startswith(".") and not temporary.endswith(".json")


def test_a_folder_of_the_same_name_is_not_replaced(tmp_path):
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError), atomic_write(path) as file:
        file.write(b"new")
    assert path.is_dir()
    assert names(tmp_path) == ["file"]
