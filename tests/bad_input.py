"""Gives every kind of bad input to the programs; `make errors` writes docs/errors.md from it.

Each case prepares a directory with an experiment and a tiny dataset, breaks one thing, and runs a
program's `main` as `python train.py ...` would.
"""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import struct
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tiny import TINY, bright_quadrants, write_idx  # noqa: E402

import compare  # noqa: E402
import export  # noqa: E402
import gallery  # noqa: E402
import sweep  # noqa: E402
import train  # noqa: E402
import visualize  # noqa: E402
from src.system.cli import run  # noqa: E402
from src.system.lock import one_writer  # noqa: E402

DOCUMENT = ROOT / "docs" / "errors.md"

EXPERIMENT, DATA = Path("experiments/x"), Path("data")
PARAMS = EXPERIMENT / "params.json"
TRAIN_IMAGES = DATA / "mnist/train-images-idx3-ubyte.gz"
TRAIN_LABELS = DATA / "mnist/train-labels-idx1-ubyte.gz"
TEST_LABELS = DATA / "mnist/t10k-labels-idx1-ubyte.gz"


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Attributes:
        group: the heading of its table.
        what: the input, in words.
        prepare: breaks what `prepare_all` has made; the working directory is the case's own.
        program: what is run.
        arguments: its command line.
        is_locked: whether another run holds the experiment's lock.
        num_lines: of the message: a line for each error of a params.json, and each bad picture.
        needs_tensorflow: whether the network is needed to find it.
        environment: variables.
    """

    group: str
    what: str
    prepare: Callable[[], None]
    program: Callable[[], None] = train.main
    arguments: tuple[str, ...] = ("--model_dir", str(EXPERIMENT))
    is_locked: bool = False
    num_lines: int = 1
    needs_tensorflow: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The input, with the heading of its table."""
        return f"{self.group}: {self.what}"


def prepare_all() -> None:
    """Make an experiment and a dataset that are as they should be."""
    EXPERIMENT.mkdir(parents=True)
    PARAMS.write_text(json.dumps(TINY))
    (DATA / "mnist").mkdir(parents=True)
    for prefix, size, seed in (("train", 60, 1), ("t10k", 20, 2)):
        images, labels = bright_quadrants(size, seed)
        write_idx(DATA / f"mnist/{prefix}-images-idx3-ubyte.gz", images)
        write_idx(DATA / f"mnist/{prefix}-labels-idx1-ubyte.gz", labels)


def params(what: str, content: bytes | str | dict, num_lines: int = 1) -> Case:
    """Return the case of a params.json with this content; a dict is put in place of some keys."""
    if isinstance(content, dict):
        content = json.dumps({**TINY, **content})
    data = content.encode() if isinstance(content, str) else content
    return Case("params.json", what, lambda: write(PARAMS, data), num_lines=num_lines)


def data(what: str, path: Path, change: Callable[[bytes], bytes]) -> Case:
    """Return the case of an IDX file whose unpacked content is changed."""
    return Case(
        "Data", what, lambda: write(path, gzip.compress(change(gzip.decompress(path.read_bytes()))))
    )


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> Callable[[], None]:
    return lambda: path.unlink()


def relabel(labels: Callable[[np.ndarray], np.ndarray]) -> Callable[[], None]:
    """Return what gives the training images other labels."""
    return lambda: write_idx(TRAIN_LABELS, labels(np.arange(60, dtype=np.uint8)).astype(np.uint8))


def resize(**sizes: int) -> Callable[[], None]:
    """Return what leaves so many training or test images."""

    def prepare() -> None:
        for prefix, size in sizes.items():
            images, labels = bright_quadrants(size, 0)
            write_idx(DATA / f"mnist/{prefix}-images-idx3-ubyte.gz", images)
            write_idx(DATA / f"mnist/{prefix}-labels-idx1-ubyte.gz", labels)

    return prepare


def experiment_file() -> None:
    PARAMS.unlink()
    EXPERIMENT.rmdir()
    EXPERIMENT.write_text("")


def is_a_directory() -> None:
    PARAMS.unlink()
    PARAMS.mkdir()


def repack(change: Callable[[bytes], bytes]) -> Callable[[], None]:
    """Return what changes the packed training images."""
    return lambda: write(TRAIN_IMAGES, change(TRAIN_IMAGES.read_bytes()))


PICTURES = DATA / "image_folder"
IMAGE_FOLDER = {**TINY, "dataset": "image_folder", "image_size": 8}


def picture(what: str, prepare: Callable[[], object], num_lines: int = 2, **keys: object) -> Case:
    """Return the case of a folder of pictures, of which `prepare` spoils something."""

    def prepare_folder() -> None:
        PARAMS.write_text(json.dumps({**IMAGE_FOLDER, **keys}))
        for name in ("cat", "dog"):
            (PICTURES / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (9, 9), (30 * number, 99, 9)).save(
                    PICTURES / name / f"{number}.png"
                )
        prepare()

    return Case("Pictures", what, prepare_folder, num_lines=num_lines)


def png_of(width: int, height: int) -> bytes:
    """Return a PNG file of this size, of which the pixels are missing."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def link_out() -> None:
    (DATA / "secret.png").write_bytes((PICTURES / "cat/0.png").read_bytes())
    (PICTURES / "cat/link.png").symlink_to("../../secret.png")


def deep_picture() -> None:
    pixels = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(pixels).save(PICTURES / "cat/4.png")


def clear_picture() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(np.stack([pixels, 0 * pixels], axis=-1)).save(PICTURES / "cat/4.png")


def to_splits() -> None:
    """Put the class folders into `train`, beside a test split with an empty class."""
    (PICTURES / "train").mkdir()
    for name in ("cat", "dog"):
        (PICTURES / name).rename(PICTURES / "train" / name)
    (PICTURES / "test" / "cat").mkdir(parents=True)


def wrap() -> None:
    """Put the class folders into one more folder."""
    PICTURES.rename(DATA / "inner")
    PICTURES.mkdir()
    (DATA / "inner").rename(PICTURES / "pictures")


def csv(content: bytes) -> Callable[[], object]:
    return lambda: write(PICTURES / "labels.csv", content)


def trained_files(**files: str) -> Callable[[], None]:
    """Return what makes the experiment look trained, with these contents."""

    def prepare() -> None:
        state = 'model_checkpoint_path: "model.ckpt-7"\n'
        contents = {"checkpoint": state, "trained_params.json": json.dumps(TINY)}
        contents |= {name.replace("_json", ".json"): text for name, text in files.items()}
        for name, text in contents.items():
            (EXPERIMENT / name).write_text(text)

    return prepare


def finished_files() -> None:
    metrics = {"status": "finished", "global_step": 7, "image_shape": [8, 8, 1]}
    trained_files(metrics_json=json.dumps(metrics))()


def damaged_record() -> None:
    finished_files()
    (EXPERIMENT / "export").mkdir()
    (EXPERIMENT / "export/exports.json").write_text('[{"format": 1}]')


def linked_export() -> None:
    finished_files()
    (EXPERIMENT / "export").symlink_to("/tmp")


def foreign_best() -> None:
    trained_files()()
    best = {"metric": "loss", "value": 1, "step": "/../../x", "latest_step": 7}
    (EXPERIMENT / "best").mkdir()
    (EXPERIMENT / "best/best.json").write_text(json.dumps({**best, "num_evaluations_since": 0}))


def without_trained_params() -> None:
    trained_files()()
    (EXPERIMENT / "trained_params.json").unlink()


@cache
def files_of_a_training() -> dict[Path, bytes]:
    """Train the experiment of the working directory, the first time; return all of its files."""
    PARAMS.write_text(json.dumps({**TINY, "num_epochs": 1}))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train.main(["--model_dir", str(EXPERIMENT)])
    return {path: path.read_bytes() for path in EXPERIMENT.rglob("*") if path.is_file()}


def trained(change: Callable[[], object]) -> Callable[[], None]:
    """Return what leaves the experiment trained, and then changes something."""

    def prepare() -> None:
        for path, content in files_of_a_training().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        change()

    return prepare


def cut_off() -> None:
    """Halve the checkpoint that is shown."""
    [path] = EXPERIMENT.glob("model.ckpt-[!0]*.data-*")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_index() -> None:
    """Remove the index of the checkpoint that is shown, the copy's too."""
    for path in EXPERIMENT.rglob("model.ckpt-[!0]*.index"):
        path.unlink()


def trained_with(**keys: object) -> None:
    """Write other params in place of those that trained."""
    path = EXPERIMENT / "trained_params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **keys}))


def nothing() -> None:
    """Leave everything as it should be."""


def sparse_archive() -> None:
    """Write an archive of CIFAR-10 in which a file is said to be gaps alone."""
    PARAMS.write_text(json.dumps({**TINY, "dataset": "cifar10"}))
    (DATA / "cifar10").mkdir()
    with tarfile.open(DATA / "cifar10/cifar-10-binary.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        member.size = 512
        member.pax_headers = {"GNU.sparse.map": "0,x,1", "GNU.sparse.size": "30730000"}
        archive.addfile(member, io.BytesIO(bytes(512)))


def small_images() -> None:
    """Choose a network that needs larger images than those of 8 x 8 pixels."""
    keys = {key: value for key, value in TINY.items() if key != "num_channels"}
    keys |= {"network": "keras_application", "application": "InceptionV3"}
    PARAMS.write_text(json.dumps(keys))


def header(*sizes: int, type_code: int = 8) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, type_code, len(sizes), *sizes)


SLURM = ("--launcher", "slurm")
SEARCH = ("--search", "tpe", "--trials", "9")


def sweeps(what: str, *arguments: str) -> Case:
    """Return the case of a command line of `sweep.py`."""
    return Case(
        "Sweeps and tables",
        what,
        nothing,
        sweep.main,
        ("--parent_dir", str(EXPERIMENT), *arguments),
    )


def tables(what: str, *arguments: str) -> Case:
    """Return the case of a command line of `compare.py`."""
    return Case("Sweeps and tables", what, nothing, compare.main, arguments)


def exports(what: str, prepare: Callable[[], None], *arguments: str) -> Case:
    """Return the case of a command line of `export.py`."""
    arguments = ("--model_dir", str(EXPERIMENT), *arguments)
    return Case("Exports", what, prepare, export.main, arguments)


def arrays(what: str, num_lines: int = 1, params: dict | None = None, **changes: object) -> Case:
    """Return the case of an .npz file in which some arrays are others, or none; or some params."""

    def prepare() -> None:
        PARAMS.write_text(json.dumps({**VECTORS, **(params or {})}))
        x = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
        content = {"x": x, "y": np.arange(12) % 3, **changes}
        np.savez(DATA / "data.npz", **{k: v for k, v in content.items() if v is not None})

    return Case("Arrays and vectors", what, prepare, num_lines=num_lines)


VECTORS = {"dataset": "npz", "network": "mlp", "num_epochs": 1}
X5 = np.ones((12, 5), np.float32)


HUGGING_FACE = {
    **TINY,
    "dataset": "hugging_face",
    "hf_name": "x.parquet",
    "image_size": 8,
}


def table(
    what: str, content: Mapping[str, object] | None = None, num_lines: int = 1, **keys: object
) -> Case:
    """Return the case of a Parquet file in which some columns are others, or none."""

    def prepare() -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        PARAMS.write_text(json.dumps({**HUGGING_FACE, **keys}))
        rows = {"image": [{"bytes": png(n), "path": None} for n in range(12)]}
        rows |= {"label": [0, 1, 2] * 4, **(content or {})}
        columns = {name: values for name, values in rows.items() if values is not None}
        pq.write_table(pa.table(columns), DATA / "x.parquet")

    return Case("Tables of pictures", what, prepare, num_lines=num_lines, environment=_HUB)


# Read when the library is imported: its cache is in the case's directory, and there is no network.
_HUB = {"HF_HOME": "hf", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}


def png(number: int) -> bytes:
    """Return the bytes of a picture that no other number has."""
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def library(what: str, package: str | None = None, **keys: object) -> Case:
    """Return the case of a dataset of a library, of which `package` cannot be imported."""

    class Missing:
        """Finds `package` missing, as in an environment without it."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == package:
                raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    def program(argv: list[str]) -> None:
        known = {name: sys.modules.pop(name) for name in [package] if name in sys.modules}
        try:
            with mock.patch.object(sys, "meta_path", [Missing(), *sys.meta_path]):
                train.main(argv)
        finally:
            sys.modules.update(known)

    def prepare() -> None:
        PARAMS.write_text(json.dumps({**TINY, "image_size": 8, **keys}))

    return Case("Tables of pictures", what, prepare, program, environment=_HUB)


def prepared(**keys: object) -> dict[str, object]:
    """Return params of a dataset of TensorFlow Datasets."""
    return {"dataset": "tfds", "tfds_data_dir": ".", **keys}


def vectors_finished() -> None:
    trained_files()()
    metrics = {"status": "finished", "global_step": 7, "image_shape": [5]}
    (EXPERIMENT / "metrics.json").write_text(json.dumps(metrics))


def machines(what: str, **environment: str) -> Case:
    """Return the case of `train.py` with these variables."""
    return Case("Several machines", what, nothing, environment=environment)


def _of_worker(workers: str, index: int = 0) -> str:
    task = f'{{"type": "worker", "index": {index}}}'
    return f'{{"cluster": {{"worker": {workers}}}, "task": {task}}}'


_STEP = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}
_STEP |= {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "1(x2)"}

CASES = [
    # params.json
    Case("params.json", "missing", remove(PARAMS)),
    Case("params.json", "a directory", is_a_directory),
    params("empty", b""),
    params("not JSON", "margin: 0.5"),
    params("cut off", '{"margin": '),
    params("not UTF-8", '{"dataset": "mnist"}'.encode("utf-16")),
    params("binary", bytes(16)),
    params("a list", "[]"),
    params("lists nested 100 000 deep", "[" * 100_000),
    params("an integer of 5 000 digits", f'{{"seed": {"9" * 5000}}}'),
    params("an unknown key after a byte order mark (which is ignored)", "\ufeff" + '{"margn": 1}'),
    params("a key twice", '{"margin": 1, "margin": 2}'),
    params("a nested key twice", '{"augment": {"shift": 1, "shift": 2}}'),
    params("unknown key", {"margn": 1}),
    params("unknown key that resembles none", {"xyzzy": 1}),
    params("unknown nested key", {"augment": {"shft": 1}}),
    params("unknown dataset", {"dataset": "minst"}),
    params("unknown network", {"network": "resnet"}),
    params("unknown strategy", {"triplet_strategy": "batch_al"}),
    params("text for a number", {"margin": "0.5"}),
    params("a number for text", {"dataset": 1}),
    params("a fraction for an integer", {"batch_size": 64.5}),
    params("true for an integer", {"batch_size": True}),
    params("null", {"num_epochs": None}),
    params("a list for a number", {"margin": [1]}),
    params("NaN", '{"margin": NaN}'),
    params("infinity", '{"learning_rate": 1e999}'),
    params("out of range", {"num_epochs": 0}),
    params("too large", {"embedding_size": 10**6}),
    params("several errors", {"margin": -1, "batch_size": 1}, num_lines=2),
    params("a whole number that overflows", {"num_epochs": 10**13}),
    params("a list with a wrong element", {"hidden_sizes": [64, 0]}),
    params(
        "extra data of no dataset", {"extra_data": [{"dataset": "glyphs"}, {"dataset": "emnist"}]}
    ),
    params("extra data that nobody has made", {"extra_data": [{"dataset": "glyphs"}]}),
    params("text with terminal controls and letters", {"dataset": "\x1b[2J\u202eümnist"}),
    params("a NUL in a path", {**IMAGE_FOLDER, "image_dir": "pictures\0"}),
    params("half of a surrogate pair in a path", {**IMAGE_FOLDER, "image_csv": "\ud800.csv"}),
    params("a path of 300 letters", {**IMAGE_FOLDER, "image_dir": "x" * 300}),
    params("50 000 unknown keys", {f"k{number}": 1 for number in range(50_000)}, num_lines=21),
    params("more than a megabyte", {"dataset": "x" * 2**20}),
    Case("params.json", "a named pipe", lambda: (PARAMS.unlink(), os.mkfifo(PARAMS))),
    Case("params.json", "a device", lambda: (PARAMS.unlink(), PARAMS.symlink_to("/dev/zero"))),
    params("classes_per_batch without examples_per_class", {"classes_per_batch": 4}),
    params("soft margin with batch_all", {"margin": "soft", "triplet_strategy": "batch_all"}),
    params("a loss on similarities without them", {"triplet_strategy": "multi_similarity"}),
    params("two different distances", {"squared": True, "distance": "cosine"}),
    params("warmup_strategy without warmup_steps", {"warmup_strategy": "batch_all"}),
    params("a memory smaller than a batch", {"memory_size": 16}),
    params(
        "parts of a batch with batch normalization", {"micro_batch_size": 8, "use_batch_norm": True}
    ),
    params("an image size that differs from the data's", {"image_size": 28}),
    params("a number of classes that differs from the data's", {"num_labels": 4}),
    params("no validation image", {"validation_fraction": 0.001}),
    params("an unknown class is held out", {"holdout_classes": ["eleven", "3"]}),
    params("weights for a network that does not read them", {"weights": "weights.h5"}),
    params("a share of decay for an optimizer that has none", {"weight_decay": 0.1}),
    params("a learning rate that never drops", {"learning_rate_schedule": "steps"}),
    params("a source of weights that is not there", {"init_from": "experiments/y"}),
    params("a source of weights that is the experiment", {"init_from": "experiments/x"}),
    params("image_folder without image_size", {"dataset": "image_folder"}),
    params("the archive of CIFAR-10 is missing", {"dataset": "cifar10"}),
    # The command line
    Case("Command line", "a file as the experiment", experiment_file),
    Case("Command line", "no such experiment", nothing, arguments=("--model_dir", "experiments/y")),
    Case(
        "Command line",
        "a path that TensorFlow reads as a pattern",
        nothing,
        arguments=("--model_dir", "experiments/x[1]"),
    ),
    Case("Command line", "a path that is not UTF-8", nothing, arguments=("--model_dir", "x\udcff")),
    Case(
        "Command line",
        "no such data directory",
        nothing,
        arguments=("--model_dir", str(EXPERIMENT), "--data_dir", "nowhere"),
    ),
    # Data
    Case("Data", "a file is missing", remove(TRAIN_LABELS)),
    Case("Data", "damaged gzip", repack(lambda packed: packed[:40] + b"\xff" * 9 + packed[49:])),
    Case("Data", "gzip cut off", repack(lambda packed: packed[:-100])),
    Case("Data", "bytes after the gzip stream", repack(lambda packed: packed + b"more")),
    Case("Data", "empty", lambda: write(TRAIN_IMAGES, b"")),
    Case("Data", "not IDX", lambda: write(TRAIN_IMAGES, b"<html>404</html>")),
    Case("Data", "the archive of CIFAR-10 has a sparse member", sparse_archive),
    data("wrong type code", TRAIN_IMAGES, lambda content: b"\0\0\x0d" + content[3:]),
    data("no dimensions", TRAIN_IMAGES, lambda content: b"\0\0\x08\0"),
    data("nine dimensions", TRAIN_IMAGES, lambda content: b"\0\0\x08\x09" + content[4:]),
    data("cut off in the header", TRAIN_IMAGES, lambda content: content[:9]),
    data("fewer values than the header states", TRAIN_IMAGES, lambda content: content[:-1]),
    data("more values than the header states", TRAIN_IMAGES, lambda content: content + b"\0"),
    data("unpacks to 64 MB", TRAIN_IMAGES, lambda content: content + bytes(64 << 20)),
    data("a header of 2^128 values", TRAIN_IMAGES, lambda _: header(*[2**32 - 1] * 4)),
    data("images with height 0", TRAIN_IMAGES, lambda _: header(60, 0, 8)),
    data("images of two dimensions", TRAIN_IMAGES, lambda _: header(60, 8) + bytes(480)),
    data("images of two channels", TRAIN_IMAGES, lambda _: header(60, 8, 8, 2) + bytes(7680)),
    data("labels in two dimensions", TRAIN_LABELS, lambda content: header(60, 1) + content[8:]),
    data("fewer labels than images", TRAIN_LABELS, lambda _: header(59) + bytes(59)),
    data("a label without a class", TRAIN_LABELS, lambda content: content[:-1] + b"\x0a"),
    data("test labels cut off", TEST_LABELS, lambda content: content[:-1]),
    Case("Data", "a single class", relabel(lambda index: 0 * index)),
    Case(
        "Data",
        "no class with two examples",
        lambda: (resize(train=10)(), write_idx(TRAIN_LABELS, np.arange(10, dtype=np.uint8))),
    ),
    Case("Data", "a single example", resize(train=1)),
    # Pictures
    picture("no such folder", lambda: None, 1, image_dir="nowhere"),
    picture("a single class", lambda: shutil.rmtree(PICTURES / "dog"), 1),
    picture("not a picture", lambda: write(PICTURES / "cat/notes.txt", b"notes")),
    picture("an empty file", lambda: write(PICTURES / "cat/4.png", b"")),
    picture("a truncated picture", lambda: write(PICTURES / "cat/4.png", png_of(9, 9))),
    picture("a picture with width 0", lambda: write(PICTURES / "cat/4.png", png_of(0, 9))),
    picture(
        "a picture of 10^10 pixels", lambda: write(PICTURES / "cat/4.png", png_of(10**5, 10**5))
    ),
    picture(
        "a picture with 89 000 000 rows",
        lambda: write(PICTURES / "cat/4.png", png_of(1, 89_000_000)),
    ),
    picture("a HEIC picture", lambda: write(PICTURES / "cat/4.heic", bytes(4) + b"ftypheic")),
    picture("an SVG drawing", lambda: write(PICTURES / "cat/4.svg", b"<svg/>")),
    picture("12 of 16 bits used", deep_picture),
    picture("a picture that is transparent everywhere", clear_picture),
    picture("a link out of the folder", link_out),
    picture("a link to nothing", lambda: (PICTURES / "cat/4.png").symlink_to("absent")),
    picture(
        "a name that is not UTF-8", lambda: write(PICTURES / "cat" / os.fsdecode(b"\xff.png"), b"x")
    ),
    picture("a CSV file without the columns", csv(b"file,class\n"), 1, image_csv="labels.csv"),
    picture(
        "a CSV file that is not UTF-8", csv(b"path,label\n\xff,1\n"), 1, image_csv="labels.csv"
    ),
    picture("a path twice", csv(b"path,label\na.png,1\na.png,2\n"), 1, image_csv="labels.csv"),
    picture(
        "a query in the train split",
        csv(b"path,label,split,is_query\ncat/0.png,1,train,1\n"),
        1,
        image_csv="labels.csv",
    ),
    picture(
        "a query without a gallery",
        csv(b"path,label,split,is_query\ncat/0.png,1,train,\ncat/1.png,1,test,1\n"),
        1,
        image_csv="labels.csv",
    ),
    picture("groups to exclude that are not there", nothing, 1, exclude_same_group=True),
    picture("a share of too few classes", nothing, 1, holdout_classes=0.1),
    picture("an unknown split", csv(b"path,label,split\na,1,x\n"), 1, image_csv="labels.csv"),
    picture("no such CSV file", lambda: None, 1, image_csv="labels.csv"),
    picture("a column twice", csv(b"path,label,Path\n"), 1, image_csv="labels.csv"),
    picture(
        "a CSV file without training pictures",
        csv(b"path,label,split\ncat/0.png,1,test\ncat/1.png,2,test\n"),
        1,
        image_csv="labels.csv",
    ),
    picture("a folder that looks like a split", lambda: (PICTURES / "Testing").mkdir(), 1),
    picture("a split without pictures", to_splits, 1),
    picture("a folder around the class folders", wrap, 1),
    picture("equal pictures in two classes", nothing, 1, on_duplicates="error"),
    picture("a position instead of a class name", nothing, 1, holdout_classes=[0, 1]),
    picture("too few classes to draw validation by class", nothing, 1, validation_by="class"),
    # Arrays and vectors
    Case("Arrays and vectors", "no such file", lambda: write(PARAMS, json.dumps(VECTORS).encode())),
    Case(
        "Arrays and vectors",
        "not an .npz file",
        lambda: (
            write(PARAMS, json.dumps(VECTORS).encode()),
            write(DATA / "data.npz", b"\x93NUMPY"),
        ),
    ),
    arrays("no labels", y=None),
    arrays("no vectors", x=None),
    arrays("an array twice", x_train=X5),
    arrays("NaN", x=np.where(np.arange(60).reshape(12, 5) == 17, np.nan, 1).astype(np.float32)),
    arrays("too large for float32", x=np.full((12, 5), 1e60)),
    arrays("whole numbers", x=np.ones((12, 5), np.int64)),
    arrays("matrices", x=np.ones((12, 5, 1), np.float32)),
    arrays("vectors without numbers", x=np.ones((12, 0), np.float32)),
    arrays("fewer labels than vectors", y=np.arange(5)),
    arrays("fractions as labels", y=np.arange(12) / 2),
    arrays("a negative label", y=np.arange(12) % 3 - 1),
    arrays("a label beyond class_names", class_names=np.array(["oak", "ash"])),
    arrays("objects", y=np.array([None] * 12)),
    arrays("a single class", y=np.zeros(12, int)),
    arrays("a group of another length", group=np.arange(3)),
    arrays("groups of one split alone", group=np.arange(12), x_test=X5, y_test=np.arange(12) % 3),
    arrays("test vectors of another length", x_test=X5[:, :4], y_test=np.arange(12) % 3),
    arrays("test labels alone", y_test=np.arange(12) % 3),
    arrays(
        "a network, augmentations and views of images",
        num_lines=3,
        params={"network": "naive_cnn", "augment": {"shift": 1}, "embed_views": 2},
    ),
    arrays("vectors that look alike", params={"near_duplicates": 4}),
    Case(
        "Arrays and vectors",
        "a gallery of vectors",
        vectors_finished,
        gallery.main,
        ("build", "--model_dir", str(EXPERIMENT)),
    ),
    # Tables of pictures
    library("no library of Hugging Face", "datasets", dataset="hugging_face", hf_name="x"),
    library("no TensorFlow Datasets", "tensorflow_datasets", **prepared(tfds_name="mnist")),
    library("no name of a dataset", dataset="hugging_face"),
    library("no name of a prepared dataset", **prepared()),
    library("neither in data_dir nor in the hub", dataset="hugging_face", hf_name="owner/name"),
    library("a name that runs code", **prepared(tfds_name="owner:mnist")),
    Case(
        "Tables of pictures",
        "not a Parquet file",
        lambda: (
            write(PARAMS, json.dumps(HUGGING_FACE).encode()),
            write(DATA / "x.parquet", b"PAR1 no"),
        ),
        environment=_HUB,
    ),
    table("no column of pictures", {"image": [1.5] * 12}),
    table("no such column", label_column="class"),
    table("fractions for labels", {"label": [0.5, 1.5] * 6}),
    table("two columns that may be labels", {"label": None, "a": [0, 1] * 6, "b": [0, 1] * 6}),
    table("labels of -1, which are none", {"label": [0, 1, -1] * 4}),
    table("no label at all", {"label": [-1] * 12}),
    table("a single class", {"label": ["cat"] * 12}),
    table("rows without a picture", {"image": [{"bytes": b"", "path": None}] * 12}, num_lines=13),
    table("no such column of groups", group_column="person"),
    table("a column of groups without a value", {"person": [""] * 12}, group_column="person"),
    # The experiment
    Case("The experiment's directory", "another train.py is running", nothing, is_locked=True),
    Case(
        "The experiment's directory",
        "params changed since training began",
        trained_files(trained_params_json=json.dumps({**TINY, "margin": 1.5})),
    ),
    Case("The experiment's directory", "checkpoints of another program", without_trained_params),
    Case(
        "The experiment's directory",
        "trained_params.json damaged",
        trained_files(trained_params_json='{"margin": '),
    ),
    Case(
        "The experiment's directory",
        "a best.json whose step is a path",
        foreign_best,
        visualize.main,
    ),
    Case(
        "The experiment's directory",
        "a link where a training writes",
        lambda: (EXPERIMENT / "best").symlink_to("/tmp"),
    ),
    Case(
        "The experiment's directory",
        "a pipe where a training writes",
        lambda: os.mkfifo(EXPERIMENT / "metrics.json"),
    ),
    Case(
        "The experiment's directory",
        "a folder in place of the lock",
        lambda: (EXPERIMENT / "train.lock").mkdir(),
    ),
    Case("The experiment's directory", "visualize.py before training", nothing, visualize.main),
    # Many experiments
    sweeps("nothing to sweep"),
    sweeps("too many experiments", "--seeds", "999999999"),
    sweeps("no key", "--param", "=1,2"),
    sweeps("a key twice", "--param", "margin=1", "--param", "margin=2"),
    sweeps("a value twice", "--param", "margin=1,1"),
    sweeps("values out of range", "--param", "margin=1,-1", "--param", "seed=1,2"),
    sweeps(
        "values too long for a directory name", "--param", f'holdout_classes=["{"x" * 300}","y"]'
    ),
    sweeps("options of a launcher that is not used", "--seeds", "2", "--slurm", "time=60"),
    sweeps("no options of sbatch", "--seeds", "2", *SLURM, "--slurm", "-p gpu"),
    sweeps("an option of sbatch that sweeps set", "--seeds", "2", *SLURM, "--slurm", "array=1-4"),
    sweeps("a time limit beside SLURM's", "--seeds", "2", *SLURM, "--job_minutes", "60"),
    sweeps("one of two datasets is missing", "--param", "dataset=mnist,cifar10"),
    sweeps("a range without a step in a sweep of all", "--param", "margin=0.1..1"),
    sweeps("a range from high to low", "--param", "margin=1..0.1", *SEARCH),
    sweeps("a logarithm of 0", "--param", "margin=0..1:log", *SEARCH),
    sweeps("a range beyond a key's values", "--param", "margin=-1..1", *SEARCH),
    sweeps("a search without an end", "--param", "margin=0.1..1", "--search", "tpe"),
    sweeps("a search on the test split", "--param", "margin=1..2", *SEARCH, "--metric", "test.nmi"),
    sweeps("a key and one inside it", "--param", "augment={}", "--param", "augment.shift=1,2"),
    sweeps("options of a search without one", "--seeds", "2", "--trials", "9"),
    sweeps("a search that starts over", "--param", "margin=0.1..1", *SEARCH, "--overwrite"),
    tables("no such directory", "nowhere"),
    tables("a directory without experiments", "data"),
    tables("no such column", "experiments", "--columns", "recall_at_3"),
    tables("no such split", "experiments", "--split", "tset"),
    # Exports
    exports("nothing trained", nothing, "--to", "litert"),
    exports("a training that has not finished", trained_files(), "--to", "litert"),
    exports("int8 of a SavedModel", finished_files, "--to", "saved_model", "--quantize", "int8"),
    exports("a damaged record of exports", damaged_record, "--to", "saved_model"),
    exports("an export that is a link", linked_export, "--to", "saved_model"),
    # Several machines
    machines("no JSON", TF_CONFIG="{cluster"),
    machines("parameter servers", TF_CONFIG='{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}}'),
    machines("an address without a port", TF_CONFIG=_of_worker('["a", "b:1"]')),
    machines("a worker twice", TF_CONFIG=_of_worker('["a:1", "a:1"]')),
    machines("a task that is not in the cluster", TF_CONFIG=_of_worker('["a:1", "b:1"]', 2)),
    machines("a list of nodes cut off", **{**_STEP, "SLURM_STEP_NODELIST": "n[1-"}),
    machines("fewer tasks than there are", **{**_STEP, "SLURM_STEP_TASKS_PER_NODE": "1"}),
    # Errors that only TensorFlow can find
    Case(
        "Networks and checkpoints",
        "images too small for the network",
        small_images,
        needs_tensorflow=True,
    ),
    Case(
        "Networks and checkpoints",
        "a checkpoint cut off",
        trained(cut_off),
        visualize.main,
        needs_tensorflow=True,
    ),
    Case(
        "Networks and checkpoints",
        "a checkpoint without its index",
        trained(without_index),
        visualize.main,
        needs_tensorflow=True,
    ),
    Case(
        "Networks and checkpoints",
        "a checkpoint of another network",
        trained(lambda: trained_with(embedding_size=9)),
        visualize.main,
        needs_tensorflow=True,
    ),
]

_HOLDER = re.compile(r"process \d+ on \S+ since [\d-]+ [\d:]+")


def outcome(case: Case) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error of a case."""
    out, error = io.StringIO(), io.StringIO()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        stack.callback(os.chdir, before)
        os.chdir(directory)
        prepare_all()
        case.prepare()
        if case.is_locked:
            stack.enter_context(one_writer(EXPERIMENT))
        stack.enter_context(mock.patch.dict(os.environ, case.environment))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(error))
        try:
            run(lambda: case.program([*case.arguments]))
            code = 0
        except SystemExit as end:
            code = end.code
        # Libraries print whole paths.
        message = error.getvalue().replace(f"{os.path.realpath(directory)}/", "")
    return code, out.getvalue(), message


def outcomes(cases: Iterable[Case]) -> dict[str, tuple[int, str, str]]:
    """Return what comes of cases, by their names."""
    return {case.name: outcome(case) for case in cases}


def document(results: Mapping[str, tuple[int, str, str]]) -> str:
    """Return docs/errors.md."""
    lines = [
        "# Bad input and its error messages",
        "",
        "`make errors` writes this page from the cases of `tests/bad_input.py`, which the tests",
        "run. The exit code is always 2, that of bad input. Except in the last table, the programs",
        "find the error before they import TensorFlow. A line names the file, the key or the",
        "position, what was found, and what is accepted.",
    ]
    group = None
    for case in CASES:
        if case.group != group:
            group = case.group
            lines += ["", f"## {group}", "", "| input | message | exit code |", "|---|---|---|"]
        code, _, error = results[case.name]
        lines_of_it = error.rstrip("\n").split("\n")
        message = "<br>".join(f"`` {line} ``" for line in lines_of_it)
        message = _HOLDER.sub("process N on HOST since TIME", message)
        lines.append(f"| {case.what} | {message.replace('|', chr(92) + '|')} | {code} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--without-tensorflow" in sys.argv:
        results = outcomes(case for case in CASES if not case.needs_tensorflow)
        print(json.dumps({"results": results, "imports": "tensorflow" in sys.modules}))
    else:
        DOCUMENT.write_text(document(outcomes(CASES)))
