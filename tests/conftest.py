"""What the tests share: a tiny dataset on disk, and both of TensorFlow's execution modes."""

import contextlib
import ctypes
import fcntl
import gc
import io
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from exports import name_without_waiting
from graphs import run_as_built
from programs import Server
from slurm_cluster import Cluster, missing_for_slurm, slurm_cluster
from tiny import TINY, bright_quadrants, write_idx, write_params

from src.system.process import prepare_for_tensorflow


def pytest_configure() -> None:
    """Prepare the process as the programs do, and heed signals as in a terminal.

    A suite in the background is started to ignore Ctrl-C. Until all tests are collected, their
    imports are garbage to nobody: collections would take an eighth of that time.
    """
    gc.disable()
    prepare_for_tensorflow()
    # What XLA compiles here runs once: LLVM's optimizations would take longer than they save.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """`-n logical`: a process per core. `-n auto`: one more, as a sixth of the time tests wait."""
    return (os.cpu_count() or 1) + (config.option.numprocesses == "auto")


# The files that take longest, in seconds of a processor or of the clock. They begin first: a
# process that takes one of them last would go on alone, while the others have nothing left to do.
# First those of `make test-system`, which wait for SLURM, signals and pages, then those of
# `make test`.
LONGEST = (
    *("test_slurm.py", "test_several_workers.py", "test_searches.py", "test_stopping.py"),
    *("test_processes.py", "test_benchmarks.py", "test_real_search.py", "test_slurm_search.py"),
    *("test_browser.py", "test_service_page.py", "test_resume.py", "test_open_digits.py"),
    *("test_end_to_end.py", "test_checkpoints.py", "test_remining.py", "test_pretrained.py"),
    *("test_triplet_strategies.py", "test_figures.py", "test_layouts.py", "test_half_precision.py"),
    *("test_embedder.py", "test_distribution.py", "test_live_figures.py", "test_micro_batches.py"),
    *("test_model_fn.py", "test_stores.py", "test_scatter.py", "test_fuzz_service.py"),
    *("test_tour.py", "test_commands.py", "test_reality.py"),
    *("test_errors.py", "test_image_folder.py", "test_view.py", "test_disk.py", "test_sweep.py"),
)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `make test` keeps this order.

    Tests that start programs many times over, or SLURM, are of `make test-system`. Others of it
    have the marker themselves.
    """
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
    for item in items:
        if {"programs", "slurm"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.system)


def pytest_collection_finish() -> None:
    """Exclude what the imports made from garbage collection, as a program does.

    Otherwise, full collections, which alone free a graph, are slow and so seldom that the graphs of
    many tests are in memory at once.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    name_without_waiting()


def pytest_runtest_setup() -> None:
    """Change TensorFlow for the tests, if it has been imported since the last one."""
    run_as_built()


@pytest.fixture(scope="module", autouse=True)
def _give_memory_back() -> Iterator[None]:
    """Free what the tests of a file leave: the graphs, and the pages that glibc keeps.

    What is left then, above all what they have imported, is excluded from garbage collection.
    """
    yield
    _free()
    gc.freeze()


@pytest.fixture(scope="session")
def _freed_at() -> list[int]:
    """The bytes of this process in memory when they were last freed: one number."""
    return [_bytes_in_memory()]


@pytest.fixture(autouse=True)
def _give_much_memory_back(_freed_at: list[int]) -> Iterator[None]:
    """Do so within a file too, once its tests have taken much: of Keras' networks each some."""
    yield
    if _bytes_in_memory() > _freed_at[0] + 64 * 2**20:
        _free()
        _freed_at[0] = _bytes_in_memory()


def _free() -> None:
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _bytes_in_memory() -> int:
    """Return what the process takes, with the programs' own pages; 0 except on Linux."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


@pytest.fixture(autouse=True)
def _close_event_files() -> Iterator[None]:
    """Close the event files of a test: TensorFlow keeps each open, with a thread, to the end."""
    yield
    if writers := sys.modules.get("tensorflow.python.summary.writer.writer_cache"):
        writers.FileWriterCache.clear()


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is remembered between runs out of the user's home, in the programs started too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


Graphs = WeakKeyDictionary[Callable[..., Any], dict[Any, Callable[..., Any]]]


@pytest.fixture(scope="module")
def graphs() -> Iterator[Graphs]:
    """The graphs of `run`, by function, then by types and shapes: kept as long as the function."""
    kept = Graphs()
    yield kept
    kept.clear()  # the last test still refers to it when memory is given back


@pytest.fixture(params=["eager", "v1_graph"])
def run(request: pytest.FixtureRequest, graphs: Graphs) -> Callable[..., Any]:
    """`run(function, *arrays)`: NumPy results of a function of tensors, in either mode.

    In the graph the arrays are placeholders without a static first dimension, as in the
    Estimator's graph, where several mistakes show that eager execution hides. To build takes
    longer than to run: a function that a test module keeps has its graph built once.
    """
    from model.estimator import tf

    def eager(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
        return tf.nest.map_structure(np.asarray, function(*(tf.constant(a) for a in arrays)))

    def v1_graph(function: Callable[..., Any], *arrays: np.ndarray) -> Any:
        of_function = graphs.setdefault(function, {})
        arguments = tuple((a.dtype, (None, *a.shape[1:]) if a.ndim else ()) for a in arrays)
        if arguments not in of_function:
            of_function[arguments] = _v1_graph(function, arguments)
        return of_function[arguments](*arrays)

    return {"eager": eager, "v1_graph": v1_graph}[request.param]


def _v1_graph(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Callable[..., Any]:
    from model.estimator import tf

    with tf.Graph().as_default():
        placeholders = [tf.compat.v1.placeholder(*argument) for argument in arguments]
        results = function(*placeholders)
        session = tf.compat.v1.Session()
    return lambda *arrays: session.run(results, dict(zip(placeholders, arrays, strict=True)))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose `mnist` is tiny: 240 images to train with, 60 to test."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "mnist").mkdir()
    for prefix, size, seed in (("train", 240, 1), ("t10k", 60, 2)):
        images, labels = bright_quadrants(size, seed)
        write_idx(directory / "mnist" / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(directory / "mnist" / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return directory


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """An experiment of TINY that was trained to its end: four epochs of 7 steps. To be copied.

    Beside it, `out.txt` is what the training printed. The processes that share the tests train it
    once: the first one that needs it does, and the others wait.
    """
    import train

    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "finished"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "out.txt").exists():
            model_dir = write_params(folder / "tiny", TINY)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                train.main(["--model_dir", str(model_dir), "--data_dir", str(data_dir)])
            (folder / "out.txt").write_text(out.getvalue())
    return folder / "tiny"


@pytest.fixture
def make_experiment(tmp_path: Path) -> Callable[..., Path]:
    """`make_experiment(**params)`: a directory with a params.json of a tiny experiment."""

    def make(name: str = "tiny", **params: Any) -> Path:
        tiny = dict(TINY)
        if params.get("network", "naive_cnn") != "naive_cnn":
            del tiny["num_channels"]  # which others do not read
        return write_params(tmp_path / name, {**tiny, **params})

    return make


@pytest.fixture
def no_umap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out UMAP, which takes longer than all other layouts and has tests of its own."""
    monkeypatch.setattr("src.embeddings.layouts.available_layouts", lambda: ("tsne", "pca"))


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one figure of all: for tests of `visualize.py` that are not about figures."""
    from src.registry import FIGURES

    monkeypatch.setattr("src.figures.FIGURES", {"pca": FIGURES["pca"]})


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts programs many times over, to be stopped and killed."""
    server = Server(tmp_path_factory.mktemp("programs"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def _slurm() -> Iterator[Cluster]:
    if reason := missing_for_slurm():
        if os.environ.get("REQUIRE_SLURM"):
            pytest.fail(f"REQUIRE_SLURM is set, but: {reason}")
        pytest.skip(reason)
    with slurm_cluster() as cluster:
        yield cluster


@pytest.fixture
def slurm(_slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Run a real SLURM of two nodes, found by `srun` and others through the environment.

    Started once, for all tests; after each, its jobs are cancelled and its nodes are up.
    """
    for key, value in _slurm.variables.items():
        monkeypatch.setenv(key, value)
    yield _slurm
    _slurm.clear()


@pytest.fixture
def obeys_permissions() -> Iterator[None]:
    """Root, too, for the length of a test: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    capabilities = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, capabilities) == 0
    kept = capabilities[0]
    capabilities[0] &= ~0b110
    assert libc.capset(header, capabilities) == 0
    yield
    capabilities[0] = kept
    assert libc.capset(header, capabilities) == 0
