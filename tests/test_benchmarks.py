"""What the benchmarks share: contestants in processes of their own."""

import ast
import os
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.harness import Contestant
from benchmarks.training import convolutions, mflop_an_image, resident_batch
from src.params.schema import Params

ROOT = Path(__file__).parent.parent


def top_level(path):
    """The names that a module defines or imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_what_a_benchmark_imports_is_there(path):
    """Also inside functions, which run in hours, or on a GPU."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        source = ROOT / node.module.replace(".", "/")
        files = [one for one in (source.with_suffix(".py"), source / "__init__.py") if one.exists()]
        is_ours = node.module.split(".")[0] in ("src", "model", "benchmarks")
        assert files or not is_ours, node.module
        for alias in node.names if files else ():
            is_module = (source / f"{alias.name}.py").exists()
            assert is_module or alias.name in top_level(files[0]), f"{node.module}.{alias.name}"


def make_counter(start):
    numbers = iter(range(start, start + 10**9))
    return lambda: (next(numbers), os.getpid())


def make_nothing():
    raise MemoryError


def test_a_contestant_counts_in_a_process_of_its_own():
    contestant = Contestant(make_counter, 7)
    contestant.wait()
    number, process = contestant.first
    assert number == 7 and process != os.getpid()
    assert 0 < contestant.seconds_a_step(0.01) < 0.01
    assert contestant.close() >= contestant.base_mb > 1


def test_a_contestant_that_dies_is_noticed():
    with pytest.raises(ChildProcessError, match="died, exit code 1"):
        Contestant(make_nothing).wait()


def test_without_a_gpu_the_benchmark_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "find_card", lambda: None)
    monkeypatch.setattr(gpu, "why_no_gpu", lambda: None)
    with pytest.raises(SystemExit) as ended:
        gpu.main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err == ("benchmarks.gpu: TensorFlow sees no GPU; nothing was run\n")


@pytest.mark.system
def test_the_benchmark_of_gpus_runs_through_in_a_rehearsal(capsys):
    """From the tests to the page, on the processor."""
    before = gpu.PAGE.read_bytes()
    gpu.main(["--cpu"])
    page = capsys.readouterr().out
    assert re.search(r"Tests of mining there: \d+ passed", page)
    assert re.search(r"^\| batch_all \| 32 \| [\d.]+ \| [\d.]+ \|", page, re.MULTILINE)
    row = r"^\| naive_cnn, 16 px \| bfloat16 \| \d+ \| \d+ \| [\d.]+ \| 0.9 \|$"
    assert re.search(row, page, re.MULTILINE)
    assert gpu.PAGE.read_bytes() == before  # a rehearsal is no result


def test_the_bare_loop_trains_with_a_scaled_loss():
    params = Params(compute_dtype="float16", num_channels=2, num_blocks=1, batch_size=8)
    step = gpu.make_loop(params, (4, 4, 1))
    assert np.isfinite([step(), step()]).all()


def test_the_resident_batch_is_the_first_of_a_training():
    images, labels = resident_batch(Params())
    assert images.shape == (64, 28, 28, 1)
    assert images.dtype == np.float32
    assert 0.9 < images.max() <= 1
    assert len(labels) == 64
    assert set(labels.tolist()) <= set(range(10))


def test_convolutions_are_those_of_the_network():
    params = Params(num_blocks=3, num_channels=32)
    assert convolutions(params, (28, 28, 1)) == [
        *((28, 28, 1, 32), (14, 14, 32, 64), (7, 7, 64, 128))
    ]
    forward = [28 * 28 * 9 * 32, 14 * 14 * 9 * 32 * 64, 7 * 7 * 9 * 64 * 128]
    expected = 2 * (3 * sum(forward) - forward[0]) / 1e6
    assert mflop_an_image(params, (28, 28, 1)) == pytest.approx(expected)
