"""Gives random and damaged input to every reader and writer of files; only `UserError` may come.

`python tests/fuzz.py 60` tries inputs for 60 seconds and prints their number. With
`--inputs 1000000` it tries that many, and with `--processes 4` in 4 processes. The tests try 100
inputs of each kind, always the same ones.
"""

import argparse
import contextlib
import gzip
import io
import json
import math
import os
import random
import re
import shutil
import struct
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from src.comparing.comparison import compare  # noqa: E402
from src.comparing.formats import as_csv, as_json, as_markdown, for_console  # noqa: E402
from src.comparing.results import read_result, read_results  # noqa: E402
from src.data.decode import BadImage, decode  # noqa: E402
from src.data.idx import read_idx  # noqa: E402
from src.data.image_cache import cached_images  # noqa: E402
from src.data.image_csv import read_csv  # noqa: E402
from src.data.split import SPLITS, Split  # noqa: E402
from src.datasets import cifar10 as cifar  # noqa: E402
from src.errors import UserError  # noqa: E402
from src.experiment.curves import read_curves  # noqa: E402
from src.experiment.data_record import DataRecord, read_record, save_record  # noqa: E402
from src.experiment.experiment import Best, Experiment  # noqa: E402
from src.mining.triplets import load_triplets, save_triplets  # noqa: E402
from src.params.reading import load_params, save_params  # noqa: E402
from src.params.schema import Params  # noqa: E402
from src.projector.files import write_projector  # noqa: E402
from src.projector.metadata import write_metadata  # noqa: E402
from src.projector.sprite import MAX_SHEET_SIDE, sprite_sheet  # noqa: E402
from src.system.atomic import atomic_write  # noqa: E402
from src.system.cache import cached  # noqa: E402
from src.system.lock import LOCK_FILE, has_writer, one_writer  # noqa: E402

# In memory, where there is such a place: every file is synced to its disk.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

TARGETS: dict[str, Callable[[st.DataObject, Path], None]] = {}


def target(function: Callable[[st.DataObject, Path], None]) -> Callable[..., None]:
    """Register a function that draws an input and gives it to a reader or writer."""
    TARGETS[function.__name__] = function
    return function


def refused_in_lines(read: Callable[[], object], path: Path) -> object:
    """Return what `read` returns; None where it refuses in lines that name the file."""
    try:
        return read()
    except UserError as error:
        for line in str(error).split("\n"):
            assert re.match(rf"{re.escape(str(path))}[^:]*: ", line) and len(line) < 1500, line
            line.encode()  # no lone surrogates: it can be printed
        return None


# Any JSON, and such as resembles a params.json
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
keys = st.sampled_from(sorted(Params.model_fields)) | st.text(max_size=12)
likely_values = json_values | st.sampled_from(
    ["mnist", "batch_all", "batch_hard", "soft", "cosine", "naive_cnn", 0, 1, 2, 64, 0.5, -1, 1e9]
)


# All of Unicode, lone surrogates too
texts = st.text(st.characters(exclude_categories=[]), max_size=12)


def mutated(draw: st.DataObject, content: bytes) -> bytes:
    """Return `content` with some bytes changed, removed, added or repeated."""
    for _ in range(draw.draw(st.integers(0, 4))):
        start = draw.draw(st.integers(0, len(content)))
        end = draw.draw(st.integers(start, min(len(content), start + 16)))
        content = content[:start] + draw.draw(st.binary(max_size=8)) + content[end:]
    return content


@target
def params(draw: st.DataObject, directory: Path) -> None:
    """`load_params`: any bytes, any JSON, nearly right ones; what it takes can be written back."""
    path = directory / "params.json"
    kind = draw.draw(st.integers(0, 2))
    if kind == 0:
        content = draw.draw(st.binary(max_size=200))
    else:
        values = draw.draw(st.dictionaries(keys, likely_values, max_size=6))
        content = json.dumps(values if kind == 1 else draw.draw(json_values)).encode()
        content = mutated(draw, content) if draw.draw(st.booleans()) else content
    path.write_bytes(content)
    loaded = refused_in_lines(lambda: load_params(path), path)
    if loaded is not None:
        save_params(path, loaded)
        assert load_params(path) == loaded


@target
def idx(draw: st.DataObject, directory: Path) -> None:
    """`read_idx`: any bytes, headers that lie, damaged gzip; what is whole is read as written."""
    path = directory / "images"
    sides = st.integers(1, 9) | st.sampled_from([0, 2**16, 2**32 - 1])
    shape = draw.draw(st.lists(sides, max_size=5))
    type_code = draw.draw(st.just(8) | st.integers(0, 255))
    header = struct.pack(f">HBB{len(shape)}I", 0, type_code, len(shape), *shape)
    count = math.prod(shape)
    values = draw.draw(st.binary(min_size=1, max_size=64)) * 200
    content = header + values[: max(0, min(count, len(values)) + draw.draw(st.integers(-2, 2)))]
    if not draw.draw(st.booleans()):
        content = mutated(draw, content)
    if draw.draw(st.booleans()):
        content = gzip.compress(content, mtime=0)
        content = mutated(draw, content) if draw.draw(st.booleans()) else content
    path.write_bytes(content)
    array = refused_in_lines(lambda: read_idx(path), path)
    if array is not None:
        unpacked = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        assert array.dtype == np.uint8 and unpacked.endswith(array.tobytes())
        assert list(struct.unpack(f">{array.ndim}I", unpacked[4 : 4 + 4 * array.ndim])) == list(
            array.shape
        )


# What stands in place of a value in JSON: of every type, of every size, and of ill will
JSON_VALUES = [
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**53, -(2**63), 10**30, 10**400, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "x", "finished", "running", "\x1b[2J", "\u202e", "\0"),
    *("\ud800", "../../x", "/etc/passwd", "x" * 3000, "=1+1", "<script>", "|", [], [None], {}),
    *([[]] * 3, {"a": 1}, {"": {}}, list(range(300)), {"loss": "x"}),
]


def damaged(rng: random.Random, content: bytes, other: bytes = b"") -> bytes:
    """Return content as a failing disk, a kill, or somebody leaves it."""
    data = bytearray(content)
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice([1, 2, 8, 64, 4096]))
    match rng.randrange(9):
        case 0:  # bits
            for _ in range(rng.choice([1, 1, 2, 8])):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 1:  # cut off
            del data[start:]
        case 2:
            data[start:end] = bytes(end - start)
        case 3:
            data[start:end] = b"\xff" * (end - start)
        case 4:  # of another file
            data[start:end] = other[start:end] or other
        case 5:
            data[start:end] = data[start:end] * 2
        case 6:
            del data[start:end]
        case 7:
            data[start:end] = rng.randbytes(rng.randrange(16))
        case 8:
            data = bytearray(rng.choice([b"", b"\0" * 64, other, rng.randbytes(64), b"[" * 5000]))
    return bytes(data)


def damaged_json(rng: random.Random, content: bytes) -> bytes:
    """Return JSON with a value of another type, a key gone or another one, somewhere in it."""
    top = json.loads(content)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        inner = top
        while isinstance(inner, dict) and inner:
            key = rng.choice(list(inner))
            if not isinstance(inner[key], dict) or rng.random() < 0.3:
                break
            inner = inner[key]
        if not isinstance(inner, dict) or not inner:
            continue
        match rng.randrange(6):
            case 0:
                del inner[key]
            case 1:
                inner[rng.choice(["", "x", "\x1b[2J\u202e", "\ud800", "splits"])] = inner.pop(key)
            case _:
                inner[key] = rng.choice(JSON_VALUES)
    text = json.dumps(top if rng.random() < 0.97 else rng.choice(JSON_VALUES))
    return text.encode()


@cache
def state_files() -> dict[str, bytes]:
    """Return the files of an experiment that is trained, as the program writes them."""
    metrics = {"loss": 0.5, "map_at_r_within": 0.25, "recall_at_1": 0.75, "global_step": 7}
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        written = Experiment(Path(folder) / "x")
        written.best_dir.mkdir(parents=True)
        values = Params(num_epochs=2, holdout_classes=["a", "b"], augment={"shift": 1})
        save_params(written.params_path, values)
        with one_writer(written.model_dir):
            lock = (written.model_dir / LOCK_FILE).read_bytes()
        written.start(values)
        written.save_best(Best("map_at_r_within", 0.25, 7, 7, 0))
        written.save_progress(
            {"step": 7, "max_steps": 9, "loss": 0.1, "fraction_positive": 0.5}
            | {"images_per_second": 99.5}
        )
        written.save_metrics(
            {"status": "finished", "stopped_early": False, "global_step": 7, "seconds": 1.5}
            | {"images_per_second": 99.5, "collapsed": False, "evaluated_step": 7}
            | {"best": {"metric": "map_at_r_within", "value": 0.25, "step": 7}}
            | {"splits": dict.fromkeys(("train", "validation", "test"), metrics)}
            | {"baselines": {"test": {"raw_pixels": metrics}}, "class_names": ["a", "b"]}
            | {"confusions": {"test": {"knn": [[0, 1, 3]]}}}
        )
        save_triplets(written.triplets_path(7), np.array([[0, 1, 2], [1, 0, 3]] * 2, np.int32))
        save_record(written.data_record_path, DATA_RECORD)
        files = {
            path.relative_to(written.model_dir).as_posix(): path.read_bytes()
            for path in written.model_dir.rglob("*")
            if path.is_file()
        }
    state = b'model_checkpoint_path: "model.ckpt-7"\nall_model_checkpoint_paths: "model.ckpt-7"\n'
    files |= {"checkpoint": state, LOCK_FILE: lock, "model.ckpt-7.index": b""}
    return {**files, "best/model.ckpt-7.index": b""}


DATA_RECORD = DataRecord(
    paths=("a/1.png", "a/2.png", "b/1.png", "b/2.png"),
    digests=np.arange(4, dtype=np.uint64),
    labels=np.array([0, 0, 1, 1], np.int32),
    class_names=("a", "b"),
    splits=np.array([0, 1, 2, 0], np.int8),
    own=np.array([0, 0, 2, 0], np.int8),
    validation_by="image",
)


def refused_within(read: Callable[[], object], directory: Path) -> object:
    """Return what `read` returns; None where it refuses in lines that can be read."""
    try:
        return read()
    except UserError as error:
        for line in str(error).split("\n"):
            assert str(directory) in line and line.isprintable() and len(line) < 1500, line
        return None


@target
def state(draw: st.DataObject, directory: Path) -> None:
    """All that an experiment's directory holds, one or two files of it damaged, to all readers."""
    rng = random.Random(draw.draw(st.integers(0, 2**60)))
    folder = directory / "x"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "best").mkdir(parents=True)
    files = dict(state_files())
    for _ in range(rng.choice([1, 1, 2])):
        name = rng.choice(list(files))
        if name.endswith(".json") and rng.random() < 0.6:
            with contextlib.suppress(ValueError, RecursionError, AttributeError):
                files[name] = damaged_json(rng, files[name])
        elif rng.random() < 0.1:
            del files[name]
            break
        else:
            files[name] = damaged(rng, files[name], files[rng.choice(list(files))])
    for name, content in files.items():
        (folder / name).write_bytes(content)
    found = Experiment(folder)
    params = Params(num_epochs=2, holdout_classes=["a", "b"], augment={"shift": 1})
    for read in (
        found.metrics,
        found.best,
        found.progress,
        found.latest_evaluation,
        found.checkpoints,
        found.latest_step,
        found.evaluated_step,
        found.trained_params,
        lambda: found.best_checkpoint,
        lambda: found.latest_checkpoint,
        lambda: found.check_resumable(params),
        lambda: found.check_own(),
        lambda: found.is_finished(params),
        lambda: found.stopped_early(Params(patience_evaluations=1)),
        lambda: read_record(found.data_record_path),
        lambda: load_triplets(found.triplets_path(7), 4),
    ):
        refused_within(read, directory)
    assert has_writer(folder) in (True, False, None)
    results = refused_within(lambda: read_results([directory]), directory) or [read_result(folder)]
    table = refused_within(lambda: compare(results, baselines=True), directory)
    if table is not None:
        for write in (for_console, as_markdown, as_csv, as_json):
            text = write(table)
            text.encode()
            assert "\x1b" not in text and "\u202e" not in text and len(text) < 100_000
    refused_within(found.set_damaged_aside, directory)
    refused_within(lambda: found.is_finished(params), directory)


@target
def caches(draw: st.DataObject, directory: Path) -> None:
    """What is computed once, its files damaged: the same comes out, computed anew."""
    rng = random.Random(draw.draw(st.integers(0, 2**60)))
    folder = directory / "cached"
    if not folder.is_dir():
        (folder / "pictures").mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (9, 9), (90 * number, 50, 9)).save(
                folder / "pictures" / f"{number}.png"
            )
    names = [f"{number}.png" for number in range(3)]

    def images() -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()):
            cache = cached_images(
                folder / "pictures",
                names,
                cache_paths=[folder / "cache.npy"],
                size=4,
                mode="RGB",
                resize="scale",
            )
            assert not cache.bad
            return np.asarray(cache.images[np.arange(3)])

    def arrays() -> np.ndarray:
        return cached(folder / "a.npz", {"of": "it"}, lambda: np.arange(12.0).reshape(3, 4))

    images(), arrays()
    for path in list(folder.glob("*.np*")):
        if rng.random() < 0.6:
            content = path.read_bytes()
            path.write_bytes(damaged(rng, content, content[::-1]))
        elif rng.random() < 0.1:
            path.unlink()
    np.testing.assert_array_equal(images()[:, 0, 0, 0], [0, 90, 180])
    np.testing.assert_array_equal(arrays(), np.arange(12.0).reshape(3, 4))


@cache
def event_file() -> bytes:
    """Return an event file of TensorBoard's, of two curves."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    content = io.BytesIO()
    writer = RecordWriter(content)
    for step in range(5):
        values = [Summary.Value(tag=tag, simple_value=step / 2) for tag in ("loss", "embedding")]
        event = Event(wall_time=1.0, step=step, summary=Summary(value=values))
        writer.write(event.SerializeToString())
    writer.flush()
    return content.getvalue()


@target
def events(draw: st.DataObject, directory: Path) -> None:
    """`read_curves`: event files that break off or are damaged give what is whole."""
    rng = random.Random(draw.draw(st.integers(0, 2**60)))
    content = damaged(rng, event_file(), event_file()[::-1])
    (directory / "events.out.tfevents.1.x").write_bytes(content)
    curves = refused_within(lambda: read_curves(directory), directory) or {}
    for steps, values in curves.values():
        assert len(steps) == len(values) and steps == sorted(steps)


@target
def metadata(draw: st.DataObject, directory: Path) -> None:
    """`write_metadata`: any text; read as the projector does, it has a row for each point."""
    path = directory / "metadata.tsv"
    num_rows = draw.draw(st.integers(1, 5))
    names = draw.draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    values = texts | st.integers() | st.floats()
    columns = {
        name: draw.draw(st.lists(values, min_size=num_rows, max_size=num_rows)) for name in names
    }
    write_metadata(path, columns)
    lines = path.read_bytes().decode().split("\n")
    assert lines.pop() == ""
    assert len(lines) == num_rows + (len(names) > 1)
    for line in lines:
        fields = line.split("\t")
        assert len(fields) == len(names)
        assert line.strip() and len(line.splitlines()) == 1  # else the projector drops or splits it


@target
def sprite(draw: st.DataObject, directory: Path) -> None:
    """`sprite_sheet`: pictures of any size and number; the sheet has room for each."""
    num_images = draw.draw(st.integers(1, 30))
    height, width = (draw.draw(st.integers(1, 40) | st.integers(1, 3000)) for _ in "hw")
    shape = (
        num_images if height * width < 2000 else 1,
        height,
        width,
        draw.draw(st.sampled_from([1, 3])),
    )
    fill = draw.draw(st.integers(0, 255))
    images = np.full(shape, fill, np.uint8)
    sheet, (tile_width, tile_height) = sprite_sheet(images)
    columns = sheet.width // tile_width
    assert tile_width == tile_height >= 1 and sheet.width == sheet.height <= MAX_SHEET_SIDE
    assert columns**2 >= len(images) > (columns - 1) ** 2
    with atomic_write(directory / "sprite.png") as file:
        sheet.save(file, format="PNG")
    with Image.open(directory / "sprite.png") as read:
        assert read.size == sheet.size


@target
def projector(draw: st.DataObject, directory: Path) -> None:
    """`write_projector`: any finite embeddings are read back as written; others are refused."""
    shape = draw.draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    floats = st.floats(width=32, allow_nan=draw.draw(st.booleans()))
    embeddings = draw.draw(stnp.arrays(np.float32, shape, elements=floats))
    names = draw.draw(st.lists(texts, min_size=1, max_size=3))
    labels = draw.draw(
        stnp.arrays(np.int32, shape[0], elements=st.integers(0, len(names) - 1), fill=st.nothing())
    )
    split = Split(np.zeros((shape[0], 3, 3, 1), np.uint8), labels, tuple(names))
    folder = directory / "projector" / "test"
    written = refused_in_lines(
        lambda: write_projector(folder, name=draw.draw(texts), embeddings=embeddings, split=split),
        folder,
    )
    assert (written is None) == (shape[0] < 2 or not np.isfinite(embeddings).all())
    if written is not None:
        (path,) = folder.glob("*.bytes")
        tensor = np.fromfile(path, "<f4").reshape(shape[0], -1)
        tensor, expected = tensor[:, : shape[1]].copy(), embeddings.copy()
        tensor[0, 0] = expected[0, 0] = 0  # of which the lowest byte marks the file as binary
        np.testing.assert_array_equal(tensor, expected)
        assert len((folder / "metadata.tsv").read_text("utf-8").split("\n")) == shape[0] + 2


def damaged_tar(rng: random.Random, content: bytes) -> bytes:
    """Return an archive with other bytes in a header, whose sum is right again, as tar has it."""
    data = bytearray(content)
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    for at in rng.sample(headers, min(len(headers), rng.choice([1, 1, 3]))):
        header = data[at : at + 512]
        start, end = rng.choice([(0, 100), (124, 136), (156, 157), (157, 257), (345, 512)])
        field = rng.choice(TAR_FIELDS)[: end - start]
        header[start : start + len(field)] = field
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        data[at : at + 512] = header
    return bytes(data) if rng.random() < 0.8 else damaged(rng, bytes(data), content[512:])


TAR_FIELDS = [
    *(b"x", b"g", b"S", b"L", b"K", b"1", b"2", b"\0" * 12, b"\xff" * 12, b"77777777777\0"),
    *(b"-0000000001\0", b"abcdefghijk\0", b"\x80" + b"\0" * 10 + b"\1", b"\x80\x7f" + b"\xff" * 10),
]

MEMBER_TYPES = [tarfile.REGTYPE] * 40 + [
    *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.XGLTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.FIFOTYPE, tarfile.DIRTYPE),
]


@target
def cifar10(draw: st.DataObject, directory: Path) -> None:
    """CIFAR-10's archive and files, of two images each: damaged, renamed, of other sizes."""
    folder = directory / "cifar10"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(draw.draw(st.integers(0, 9)))
    record = cifar.RECORD_SIZE
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as archive:
        for name in (*cifar.TRAIN_FILES, *cifar.TEST_FILES):
            content = bytearray(
                rng.bytes(2 * record + draw.draw(st.sampled_from([0] * 20 + [-1, 1])))
            )
            content[0] = content[record] = draw.draw(
                st.sampled_from([*range(10), 1, 2, 3, 10, 255])
            )
            member = tarfile.TarInfo(draw.draw(st.sampled_from(["", "../", "/"])) + name)
            member.size = len(content)
            member.type = draw.draw(st.sampled_from(MEMBER_TYPES))
            archive.addfile(member, io.BytesIO(content))
    path = folder / cifar.ARCHIVE
    match draw.draw(st.integers(0, 2)):
        case 0:
            path.write_bytes(mutated(draw, path.read_bytes()))
        case 1:  # the archive, packed as it should be
            rng = random.Random(draw.draw(st.integers(0, 2**60)))
            content = damaged_tar(rng, gzip.decompress(path.read_bytes()))
            path.write_bytes(gzip.compress(content, 1, mtime=0))
    with mock.patch.object(cifar, "IMAGES_PER_FILE", 2):
        dataset = refused_in_lines(lambda: cifar.load(directory, Params()), path)
    if dataset is not None:
        split = dataset.splits["test"]
        assert split.images.shape == (2, 32, 32, 3) and split.labels.max() < 10


@target
def csv(draw: st.DataObject, directory: Path) -> None:
    """The CSV file of a folder of pictures: any bytes, any fields."""
    path = directory / "labels.csv"
    header = draw.draw(
        st.sampled_from(["path,label", "label,path,split", "path", "path,label,label"])
    )
    field = st.sampled_from(["a.png", "../b.png", "1", "train", "test", '"x\ny"', '"', ""]) | texts
    rows = draw.draw(st.lists(st.lists(field, min_size=1, max_size=4), max_size=4))
    content = "\n".join([header, *(",".join(row) for row in rows)]).encode(errors="surrogatepass")
    path.write_bytes(mutated(draw, content) if draw.draw(st.booleans()) else content)
    listing = refused_in_lines(lambda: read_csv(directory, path), path)
    if listing is not None:
        assert len(listing.paths) == len(listing.classes) == len(listing.splits)
        assert set(listing.splits) <= set(SPLITS)


@target
def picture(draw: st.DataObject, directory: Path) -> None:
    """`decode`: pictures of several formats and modes, damaged; none but `BadImage`."""
    path = directory / "picture"
    mode, kind = draw.draw(st.sampled_from(PICTURES))
    side = st.integers(1, 20)
    Image.new(mode, (draw.draw(side), draw.draw(side))).save(path, format=kind)
    if draw.draw(st.booleans()):
        path.write_bytes(mutated(draw, path.read_bytes()))
    size, target_mode = draw.draw(st.integers(1, 9)), draw.draw(st.sampled_from(["RGB", "L"]))
    try:
        resize = draw.draw(st.sampled_from(["scale", "pad"]))
        pixels = decode(path, size=size, mode=target_mode, resize=resize)
    except BadImage as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert pixels.shape == (size, size, len(target_mode)) and pixels.dtype == np.uint8


# A mode of pixels, and a format that has it
PICTURES = [
    *(("RGB", kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")),
    *(("L", kind) for kind in ("PNG", "JPEG", "TIFF")),
    *((mode, "PNG") for mode in ("1", "P", "LA", "RGBA", "I;16")),
    *(("CMYK", "JPEG"), ("F", "TIFF"), ("I", "TIFF")),
]


def fuzz(name: str, num_inputs: int, first_seed: int = 0) -> None:
    """Try so many inputs of one kind; raise at the first that is not handled."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:

        @seed(first_seed)
        @settings(
            max_examples=num_inputs,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def attempt(draw: st.DataObject) -> None:
            with warnings.catch_warnings():  # Pillow's, of damaged files
                warnings.simplefilter("ignore")
                TARGETS[name](draw, Path(directory))

        attempt()


BATCH = 200


def batch(name: str, first_seed: int) -> tuple[float, str | None]:
    """Try a batch of inputs; return the seconds that took, and what went wrong, if anything."""
    started = time.monotonic()
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            fuzz(name, BATCH, first_seed)
        except BaseException:
            return time.monotonic() - started, traceback.format_exc()
    return time.monotonic() - started, None


def main() -> None:
    """Try inputs of each kind for equally long; print how many."""
    parser = argparse.ArgumentParser(
        description="Give random and damaged input to every reader and writer of files."
    )
    parser.add_argument(
        "seconds", type=float, nargs="?", default=60.0, help="how long to try (default: 60)"
    )
    parser.add_argument("--inputs", type=int, help="the number of inputs, instead of the seconds")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="default: one per CPU core"
    )
    parser.add_argument(
        "--target",
        choices=TARGETS,
        nargs="+",
        default=list(TARGETS),
        help="the kinds of input; default: all",
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first batch")
    args = parser.parse_args()

    started = time.monotonic()
    num_inputs, spent = dict.fromkeys(args.target, 0), dict.fromkeys(args.target, 0.0)
    next_seed = dict.fromkeys(args.target, args.seed)
    running: dict[Future[tuple[float, str | None]], tuple[str, int]] = {}
    failed = False

    def is_enough() -> bool:
        if args.inputs is not None:
            return sum(num_inputs.values()) + BATCH * len(running) >= args.inputs
        return time.monotonic() - started >= args.seconds

    with ProcessPoolExecutor(args.processes) as pool:
        while running or not is_enough():
            while len(running) < args.processes and not is_enough():
                name = min(spent, key=lambda name: spent[name])
                task = name, next_seed[name]
                spent[name] += 0.001  # until it is known
                next_seed[name] += 1
                running[pool.submit(batch, *task)] = task
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name, first_seed = running.pop(future)
                seconds, error = future.result()
                num_inputs[name] += BATCH
                spent[name] += seconds
                if error:
                    failed = True
                    print(error)
                    print(
                        f"to repeat: python tests/fuzz.py 0.1 --target {name} --seed {first_seed}"
                    )
    for name, number in num_inputs.items():
        print(f"{name:12} {number:9,} inputs")
    total, seconds = sum(num_inputs.values()), time.monotonic() - started
    outcome = "FAILED, see above" if failed else "no error except UserError"
    print(f"{total:,} inputs in {seconds:.0f} s, {total / seconds:.0f} per second: {outcome}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
