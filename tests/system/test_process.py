"""Settings of a program's process."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src.system.process import prepare_for_tensorflow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("is_installed", [True, False])
def test_variables_for_tensorflow(monkeypatch, is_installed):
    for name in ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    found = object() if is_installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    prepare_for_tensorflow()
    assert os.environ.get("TF_USE_LEGACY_KERAS") == ("1" if is_installed else None)
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    prepare_for_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"  # what the user asked for


def test_what_comes_after_the_first_call_stays_collectable():
    code = """
import gc
from src.system.process import settle
settle()
frozen = gc.get_freeze_count()
later = [[] for _ in range(1000)]
settle()
assert gc.get_freeze_count() == frozen > 1000, gc.get_freeze_count()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_freed_memory_is_kept_after_tensorflow_has_built_a_generator():
    code = """
import ctypes
import numpy as np
from src.system.process import prepare_for_tensorflow, settle
prepare_for_tensorflow()
import tensorflow as tf
from model.input_fn import predict_input_fn
from src.data.split import Split
settle()
split = Split(np.zeros([3, 2, 2, 1], np.uint8), np.zeros(3, np.int32), ("a",))
assert sum(1 for _ in predict_input_fn(split)) == 1
libc = ctypes.CDLL(None)
class Mallinfo2(ctypes.Structure):  # malloc.h; hblks is the fourth: blocks with their own mapping
    _fields_ = [(f"f{number}", ctypes.c_size_t) for number in range(10)]
libc.mallinfo2.restype = Mallinfo2
libc.malloc.restype = ctypes.c_void_p
before = libc.mallinfo2().f3
held = [libc.malloc(2**20) for _ in range(4)]
assert libc.mallinfo2().f3 == before, (libc.mallinfo2().f3, before)
"""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33 or newer")
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
