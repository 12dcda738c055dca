"""The image cache divided among several folders, and used by several machines at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data import picture_files
from src.data.cache_files import ShardedImages, shards_of
from src.data.image_cache import cached_images
from src.errors import UserError

ROOT = Path(__file__).parents[2]
NAMES = [f"{number}.bmp" for number in range(8)]
SIZE = 5
FOLDERS = ("a", "b", "c")  # with rows 0 and 1, 2 to 4, 5 to 7


def write_picture(path, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for seed, name in enumerate(NAMES):
        write_picture(tmp_path / "pictures" / name, seed)
    return tmp_path


def paths_in(folder):
    return [folder / name / "x.npy" for name in FOLDERS]


def read(folder, names=NAMES):
    return cached_images(
        folder / "pictures",
        names,
        cache_paths=paths_in(folder),
        size=SIZE,
        mode="RGB",
        resize="scale",
    )


def pixels(cache):
    return cache.images[np.arange(len(cache.images))]


def in_files(folder, names=NAMES):
    return np.stack([np.array(Image.open(folder / "pictures" / name)) for name in names])


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pictures that are decoded, in any order."""
    names = []
    decode = picture_files.decode

    def noted(path, **options):
        names.append(path.name)
        return decode(path, **options)

    monkeypatch.setattr(picture_files, "decode", noted)
    return names


def test_rows_are_divided_in_order(folder, decoded):
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    stored = [np.load(path) for path in paths_in(folder)]  # ordinary .npy files
    assert [len(part) for part in stored] == [2, 3, 3]
    np.testing.assert_array_equal(np.concatenate(stored), in_files(folder))
    assert sorted(decoded) == NAMES
    decoded.clear()
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert decoded == []
    # Other pictures move the rows to other shards; those that stay are not decoded again.
    names = [*NAMES[3:], NAMES[0]]
    np.testing.assert_array_equal(pixels(read(folder, names)), in_files(folder, names))
    assert decoded == []


@pytest.mark.parametrize("row", [0, 2, 7])
def test_one_picture_per_shard_and_fewer_pictures_than_shards(folder, row):
    names = NAMES[row : row + 1]
    for _ in range(2):
        np.testing.assert_array_equal(pixels(read(folder, names)), in_files(folder, names))


@pytest.mark.parametrize(
    ("harm", "what", "keeps_others"),
    [
        (lambda path: path.unlink(), "missing", False),
        (lambda path: os.truncate(path, 99), "damaged", False),
        # The header, and of the first picture a part.
        (lambda path: path.write_bytes(b"\0" * 140 + path.read_bytes()[140:]), "damaged", True),
    ],
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_lost_shard_is_named_and_only_its_pictures_are_decoded(
    folder, decoded, caplog, harm, what, keeps_others, number
):
    read(folder)
    paths, lost = paths_in(folder), [NAMES[:2], NAMES[2:5]][number]
    others = [path.stat().st_ino for path in paths if path != paths[number]]
    decoded.clear()
    harm(paths[number])
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert sorted(decoded) == (lost[:1] if keeps_others else lost)
    assert caplog.messages == [
        f"warning: {paths[number]}: {what}; decoding its {len(lost)} pictures again"
    ]
    assert others == [path.stat().st_ino for path in paths if path != paths[number]]
    caplog.clear()
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert caplog.messages == []


@pytest.mark.parametrize("number", range(len(FOLDERS)))
def test_a_lost_folder_is_named_and_only_its_pictures_are_decoded(folder, decoded, caplog, number):
    read(folder)
    lost = paths_in(folder)[number]
    num_lost = len(np.load(lost))
    decoded.clear()
    shutil.rmtree(lost.parent)
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert len(decoded) == num_lost < len(NAMES)
    assert caplog.messages == [f"warning: {lost}: missing; decoding its {num_lost} pictures again"]


def test_damaged_pictures_are_restored_in_their_shards(folder, caplog):
    read(folder)
    for path in paths_in(folder)[1:]:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    cache = read(folder)
    np.testing.assert_array_equal(pixels(cache), in_files(folder))
    assert [message.partition(";")[0] for message in caplog.messages] == [
        f"warning: {path}: damaged" for path in paths_in(folder)[1:]
    ]
    np.testing.assert_array_equal(
        np.concatenate([np.load(path) for path in paths_in(folder)]), in_files(folder)
    )


def test_bad_pictures_keep_their_reasons_when_a_shard_is_lost(folder):
    for name in (NAMES[1], NAMES[3]):
        (folder / "pictures" / name).write_bytes(b"no picture")
    before = read(folder)
    assert sorted(before.bad) == [1, 3]
    paths_in(folder)[1].unlink()
    after = read(folder)
    assert after.bad == before.bad
    np.testing.assert_array_equal(after.digests, before.digests)


def test_a_folder_that_cannot_be_written_is_named(folder):
    (folder / "b").write_text("a file")
    with pytest.raises(UserError, match=rf"^{paths_in(folder)[1]}: cannot be written: [^\n]*$"):
        read(folder)


def test_only_the_shards_of_the_rows_are_read():
    class Unread(np.ndarray):
        def __getitem__(self, key):
            raise AssertionError("read")

    images = np.random.default_rng(0).integers(0, 256, (9, 2, 2, 1), np.uint8)
    shards = shards_of([Path(name) for name in "abc"], images.shape)
    assert [(shard.start, shard.stop) for shard in shards] == [(0, 3), (3, 6), (6, 9)]
    joined = ShardedImages([images[:3], images[3:6].view(Unread), images[6:]])
    assert len(joined) == 9 and joined.shape == images.shape
    for rows in (np.array([8, 0, 2, 8]), np.array([[7], [1]]), np.array(2), np.array([], int)):
        np.testing.assert_array_equal(joined.take(rows), images[rows])
    with pytest.raises(AssertionError, match="read"):
        joined.take(np.array([0, 4]))


# A machine that does not see the locks of others. It reads, or rebuilds, again and again.
MACHINE = """
import contextlib, sys
from pathlib import Path
import numpy as np
from PIL import Image
from src.data import image_cache

image_cache.in_turn = lambda path, on_wait: contextlib.nullcontext()
folder, rebuilds = Path(sys.argv[1]), sys.argv[2] == "rebuild"
names = [f"{number}.bmp" for number in range(8)]
expected = {n: np.array(Image.open(folder / "pictures" / n)) for n in names}
sys.stdin.readline()
for turn in range(12):
    some = names[turn % 3 :] if rebuilds else names
    cache = image_cache.cached_images(
        folder / "pictures", some, cache_paths=[folder / f / "x.npy" for f in "abc"], size=5,
        mode="RGB", resize="scale",
    )
    for _ in range(3):
        found = cache.images[np.arange(len(some))]
        assert (found == np.stack([expected[n] for n in some])).all()
"""


@pytest.mark.parametrize("kinds", [("read", "read"), ("read", "rebuild"), ("rebuild", "rebuild")])
def test_machines_without_common_locks(folder, kinds):
    """Both build at once; one reads while the other rebuilds. Each has the right pictures."""
    machines = [
        subprocess.Popen(
            [sys.executable, "-c", MACHINE, folder, kind],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    ]
    for machine in machines:
        machine.stdin.write("go\n")
        machine.stdin.flush()
    for machine in machines:
        _, errors = machine.communicate(timeout=60)
        assert machine.returncode == 0, errors
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert not [path for path in folder.rglob("*.tmp")]
