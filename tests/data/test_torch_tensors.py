"""PyTorch files of before version 1.6, written here by hand: tensors, and nothing else."""

import io
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from src.data.torch_tensors import read_state_dict
from src.errors import UserError


class Global:
    """Pickled as a name of another module, which need not exist here."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a global."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Writer(pickle._Pickler):
    """Python's own pickler, which also writes `Global`, `Call` and storages."""

    def persistent_id(self, value):
        return value.identifier if isinstance(value, Storage) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(tuple(value.arguments))
            self.write(b"R")
        else:
            super().save(value, save_persistent_id)


class Storage:
    def __init__(self, key, array):
        name = {"float32": "FloatStorage", "int64": "LongStorage"}[array.dtype.name]
        self.key, self.array = key, array
        kind = Global("torch", name)
        self.identifier = ("storage", kind, key, "cpu", array.size, None)


def tensor(storage, shape, strides, offset=0):
    rebuild = Global("torch._utils", "_rebuild_tensor_v2")
    return Call(rebuild, storage, offset, shape, strides, False, OrderedDict())


def content(named, *storages, magic=0x1950A86A20F9469CFC6C):

    file = io.BytesIO()
    info = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    for value in (magic, 1001, info, named, [storage.key for storage in storages]):
        Writer(file, protocol=2).dump(value)
    for storage in storages:
        file.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())
    return file.getvalue()


def test_tensors_of_any_strides():
    numbers = Storage("7", np.arange(24, dtype=np.float32))
    count = Storage("8", np.array([5], np.int64))
    named = OrderedDict(
        whole=tensor(numbers, (2, 3, 4), (12, 4, 1)),
        turned=tensor(numbers, (4, 6), (1, 4)),
        part=tensor(numbers, (3,), (2,), offset=4),
        count=tensor(count, (), ()),
    )
    found = read_state_dict(content(named, numbers, count))
    expected = np.arange(24, dtype=np.float32)
    np.testing.assert_array_equal(found["whole"], expected.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["turned"], expected.reshape(6, 4).T)
    np.testing.assert_array_equal(found["part"], [4, 6, 8])
    assert found["count"] == 5 and found["count"].dtype == np.int64


def test_nothing_is_run(tmp_path):
    target = tmp_path / "x"
    evil = {"w": Call(Global("os", "system"), f"touch {target}")}
    with pytest.raises(UserError, match=r"state dict: found os.system; accepted: a PyTorch file"):
        read_state_dict(content(evil))
    with pytest.raises(UserError, match="found builtins.eval"):
        read_state_dict(pickle.dumps(eval, protocol=4))
    assert not target.exists()


NUMBERS = Storage("7", np.arange(6, dtype=np.float32))
WHOLE = content({"w": tensor(NUMBERS, (6,), (1,))}, NUMBERS)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (content({}, magic=5), "another format"),
        (content({"w": 3}), "values that are no tensors"),
        (content({"w": tensor(NUMBERS, (7,), (1,))}, NUMBERS), "beyond its storage"),
        (content({"w": tensor(NUMBERS, (3,), (2,), offset=2)}, NUMBERS), "beyond its storage"),
        (content({"w": tensor(NUMBERS, (3,), (-1,), offset=4)}, NUMBERS), "beyond its storage"),
        (content({"w": tensor(NUMBERS, (3,), (1,), offset=-1)}, NUMBERS), "beyond its storage"),
        (content({"w": tensor("a", (3,), (1,))}), "a tensor without storage"),
        (content({"w": tensor(NUMBERS, (6,), (1,))}), "KeyError"),
        (WHOLE[:-1], "ValueError"),
        (WHOLE[:40], "Error"),
        (b"", "EOFError"),
        (b"PK\3\4" + bytes(100), "Error"),
    ],
)
def test_damaged_and_foreign_files(data, found):
    with pytest.raises(UserError, match=found):
        read_state_dict(data)
