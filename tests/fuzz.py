"""Random input to every reader and writer of files: no crash but `UserError`.

`python tests/fuzz.py 60` tries for 60 seconds and says how many inputs that were; the tests try a
few hundred of each kind, always the same ones.
"""

import gzip
import io
import json
import math
import re
import struct
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from src.atomic import atomic_write  # noqa: E402
from src.datasets import cifar10 as cifar  # noqa: E402
from src.datasets import image_folder  # noqa: E402
from src.decode import BadImage, decode  # noqa: E402
from src.errors import UserError  # noqa: E402
from src.experiment import Experiment  # noqa: E402
from src.idx import read_idx  # noqa: E402
from src.metadata import write_metadata  # noqa: E402
from src.params import Params, load_params, save_params  # noqa: E402
from src.projector import write_projector  # noqa: E402
from src.split import SPLITS, Split  # noqa: E402
from src.sprite import MAX_SHEET_SIDE, sprite_sheet  # noqa: E402

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


@target
def experiment(draw: st.DataObject, directory: Path) -> None:
    """The files of an experiment, as far as they are read: metrics.json, `checkpoint`."""
    found = Experiment(directory)
    metrics = {"status": draw.draw(st.sampled_from(["finished", "running"]) | json_values)}
    metrics |= draw.draw(st.dictionaries(st.sampled_from(["seconds", "splits"]), json_values))
    content = json.dumps(metrics if draw.draw(st.booleans()) else draw.draw(json_values)).encode()
    content = mutated(draw, content) if draw.draw(st.booleans()) else content
    found.metrics_path.write_bytes(content)
    state = b'model_checkpoint_path: "model.ckpt-7"\nall_model_checkpoint_paths: "model.ckpt-7"\n'
    (directory / "checkpoint").write_bytes(mutated(draw, state))
    refused_in_lines(found.metrics, found.metrics_path)
    refused_in_lines(found.latest_evaluation, found.metrics_path)
    step = found.latest_step()
    assert step is None or step >= 0
    refused_in_lines(lambda: found.is_finished(Params()), found.metrics_path)


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


@target
def cifar10(draw: st.DataObject, directory: Path) -> None:
    """CIFAR-10's archive and files, of two images each: damaged, renamed, of other sizes."""
    folder = directory / "cifar10"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(draw.draw(st.integers(0, 9)))
    record = cifar.RECORD_SIZE
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as archive:
        for name in cifar.TEST_FILES:
            content = bytearray(
                rng.bytes(2 * record + draw.draw(st.sampled_from([0, 0, 0, -1, 1])))
            )
            content[0] = content[record] = draw.draw(st.integers(0, 11))
            member = tarfile.TarInfo(draw.draw(st.sampled_from(["", "../", "/"])) + name)
            member.size = len(content)
            member.type = draw.draw(st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.SYMTYPE]))
            archive.addfile(member, io.BytesIO(content))
    path = folder / cifar.ARCHIVE
    if draw.draw(st.booleans()):
        path.write_bytes(mutated(draw, path.read_bytes()))
    with mock.patch.object(cifar, "IMAGES_PER_FILE", 2):
        split = refused_in_lines(lambda: cifar.load(directory, "test", Params()), path)
    if split is not None:
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
    listing = refused_in_lines(lambda: image_folder._read_csv(directory, path), path)
    if listing is not None:
        assert len(listing.names) == len(listing.classes) == len(listing.splits)
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


def main(seconds: float) -> None:
    """Go round the kinds until the time is over, and print how many inputs were tried."""
    started, num_inputs, round_number = time.monotonic(), dict.fromkeys(TARGETS, 0), 0
    while time.monotonic() - started < seconds:
        round_number += 1
        for name in TARGETS:
            fuzz(name, 200, first_seed=round_number)
            num_inputs[name] += 200
    for name, number in num_inputs.items():
        print(f"{name:12} {number:9,} inputs")
    total = sum(num_inputs.values())
    print(f"{total:,} inputs in {time.monotonic() - started:.0f} s: none but UserError")


if __name__ == "__main__":
    main(float(sys.argv[1]))
