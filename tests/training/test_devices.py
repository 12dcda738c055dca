"""What a training says about the machine, for machines made up for this."""

from pathlib import Path

import pytest

from model.estimator import tf
from model.training import devices
from model.training.devices import check_devices
from src.errors import UserError
from src.params.schema import Params

PATH = Path("x/params.json")


@pytest.fixture
def machine(monkeypatch):
    """`machine(gpus=..., line=..., units=...)`: makes one up."""

    def make(*, gpus=0, line=None, units=False):
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["a GPU"] * gpus)
        monkeypatch.setattr(devices, "why_no_gpu", lambda: line)
        monkeypatch.setattr(devices, "has_bfloat16_units", lambda: units)

    return make


def check(dtype):
    return check_devices(Params(compute_dtype=dtype), PATH)


def test_float32_says_nothing(machine):
    machine()
    assert check("float32") == []


def test_a_missing_driver_is_told(machine):
    machine(line="an NVIDIA card is present, but ...", units=True)
    assert check("float32") == check("bfloat16") == ["an NVIDIA card is present, but ..."]


def test_bfloat16_is_slower_without_units(machine):
    machine(units=False)
    (line,) = check("bfloat16")
    assert line.startswith("x/params.json: compute_dtype: bfloat16 is slower than float32")
    machine(units=True)
    assert check("bfloat16") == []


def test_float16_needs_a_gpu(machine):
    machine(units=True)
    with pytest.raises(UserError, match='compute_dtype: found "float16", but TensorFlow sees no'):
        check("float16")
    machine(line="why")
    with pytest.raises(UserError, match=r"no GPU \(why\); accepted: 'bfloat16' or 'float32'"):
        check("float16")


def test_with_a_gpu_all_is_well(machine):
    machine(gpus=1)
    assert [check(dtype) for dtype in ("float32", "bfloat16", "float16")] == [[], [], []]
