"""The image cache: always the pictures that are in the files, whatever happened to it or them."""

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mounts import needs_mounts, run_mounted
from PIL import Image

from src.data import picture_files
from src.data.checked_images import CheckedImages
from src.data.digests import digest, digests_of, file_digest
from src.data.image_cache import cached_images
from src.data.images import MappedImages
from src.errors import UserError
from src.system.cache import load_arrays, save_arrays

ROOT = Path(__file__).parents[2]
NAMES = [f"{name}/{number}.bmp" for name in ("red", "blue") for number in range(4)]
SIZE = 6


def write_picture(path, seed):
    """A picture that differs from that of any other seed; all take the same bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    os.utime(path, (1e9, 1e9))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    for seed, name in enumerate(NAMES):
        write_picture(folder / name, seed)
    return folder


def read(folder, names=NAMES, **options):
    options = {"size": SIZE, "mode": "RGB", "resize": "scale", **options}
    return cached_images(folder, names, cache_paths=[folder / ".cache" / "x.npy"], **options)


def pixels(cache):
    return cache.images[np.arange(len(cache.images))]


def in_files(folder, names=NAMES):
    return np.stack([np.array(Image.open(folder / name)) for name in names])


def files(folder):
    return sorted(path.name for path in (folder / ".cache").iterdir())


@pytest.fixture
def decoded(monkeypatch):
    """The names of the pictures that are decoded, in any order."""
    names = []
    decode = picture_files.decode

    def noted(path, **options):
        names.append(f"{path.parent.name}/{path.name}")
        return decode(path, **options)

    monkeypatch.setattr(picture_files, "decode", noted)
    return names


# Bound to the source


def copy_over(folder):
    """cp -p"""
    write_picture(folder.parent / "other.bmp", 99)
    shutil.copy2(folder.parent / "other.bmp", folder / "red/0.bmp")


def move_over(folder):
    write_picture(folder.parent / "other.bmp", 99)
    os.rename(folder.parent / "other.bmp", folder / "red/0.bmp")


def write_in_place(folder):
    write_picture(folder / "red/0.bmp", 99)


def swap_two(folder):
    for source, target in (("red/0", "0"), ("red/1", "red/0"), ("0", "red/1")):
        os.rename(folder / f"{source}.bmp", folder / f"{target}.bmp")


def swap_classes(folder):
    for source, target in (("red", "r"), ("blue", "red"), ("r", "blue")):
        os.rename(folder / source, folder / target)


def unpack(folder):
    """An archive of other pictures with the same times, over them."""
    for seed, name in enumerate(NAMES):
        write_picture(folder.parent / "other" / name, seed + 99)
    with tarfile.open(folder.parent / "a.tar", "w") as archive:
        archive.add(folder.parent / "other", "pictures")
    subprocess.run(["tar", "-xf", "a.tar"], cwd=folder.parent, check=True)


def link(folder):
    write_picture(folder / ".other.bmp", 99)
    (folder / "red/0.bmp").unlink()
    os.link(folder / ".other.bmp", folder / "red/0.bmp")


def turn_a_link(folder):
    """From one picture to another; the first time it replaces a file."""
    path = folder / "red/0.bmp"
    target = "1.bmp" if path.is_symlink() and os.readlink(path) == "2.bmp" else "2.bmp"
    path.unlink()
    path.symlink_to(target)


REPLACE = [copy_over, move_over, write_in_place, swap_two, swap_classes, unpack, link, turn_a_link]


@pytest.mark.parametrize("replace", REPLACE)
def test_pictures_of_the_same_size_and_time_are_told_apart(folder, replace):
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    for _ in range(2):
        replace(folder)
        assert {(folder / name).stat().st_mtime for name in NAMES} == {1e9}
        cache = read(folder)
        np.testing.assert_array_equal(pixels(cache), in_files(folder))
        np.testing.assert_array_equal(cache.digests, digests_of(in_files(folder)))


def test_a_picture_written_right_after_it_was_decoded(folder):
    """Within one tick of the file system's clock."""
    for seed in range(10):
        write_picture(folder / "red/0.bmp", seed)
        np.testing.assert_array_equal(pixels(read(folder, NAMES[:1])), in_files(folder, NAMES[:1]))


def test_only_what_is_new_is_decoded(folder, decoded):
    read(folder)
    assert sorted(decoded) == sorted(NAMES)
    decoded.clear()
    read(folder)
    assert decoded == []
    write_picture(folder / "red/9.bmp", 99)
    write_picture(folder / "blue/1.bmp", 98)
    names = ["red/9.bmp", *NAMES[::-1][:-1]]  # one less, and another order
    cache = read(folder, names)
    assert sorted(decoded) == ["blue/1.bmp", "red/9.bmp"]
    np.testing.assert_array_equal(pixels(cache), in_files(folder, names))
    np.testing.assert_array_equal(cache.digests, digests_of(in_files(folder, names)))


@pytest.mark.parametrize("move", ["renamed", "copied", "touched", "swapped", "in another folder"])
def test_files_of_the_same_content_are_not_decoded_again(folder, decoded, move):
    """But read: that no time or inode shows."""
    before, names = read(folder), list(NAMES)
    decoded.clear()
    if move == "renamed":
        os.rename(folder / "red/0.bmp", folder / "red/a.bmp")
        names[0] = "red/a.bmp"
    elif move == "copied":
        shutil.copy(folder / "red/0.bmp", folder / "red/a.bmp")
        names.append("red/a.bmp")
    elif move == "touched":
        (folder / "red/0.bmp").touch()
    elif move == "swapped":
        swap_two(folder)
    else:  # as after a restore of a backup
        shutil.copytree(folder, folder.parent / "copy")
        folder = folder.parent / "copy"
    cache = read(folder, names)
    assert decoded == []
    np.testing.assert_array_equal(pixels(cache), in_files(folder, names))
    assert set(cache.file_digests.tolist()) == set(before.file_digests.tolist())
    assert cache.file_digests.tolist() == [digest((folder / n).read_bytes()) for n in names]


def test_a_large_file_that_is_no_picture_is_not_read(folder, monkeypatch):
    read_whole = []
    monkeypatch.setattr(
        picture_files, "file_digest", lambda file: read_whole.append(Path(file.name).name) or 1
    )
    with open(folder / "red/0.bmp", "wb") as file:
        file.truncate(1 << 40)  # it takes no room
    with open(folder / "red/1.bmp", "r+b") as file:
        file.truncate(1 << 25)
    for names in (NAMES, NAMES[:3]):
        cache = read(folder, names)
        assert list(cache.bad) == [0] and cache.file_digests[0] == 0 < cache.file_digests[1]
    assert read_whole.count("0.bmp") == 1  # that of blue


@pytest.mark.parametrize("change", ["size", "mode", "resize", "decoder", "Pillow"])
def test_another_way_to_decode_decodes_all(folder, decoded, change, monkeypatch):
    before = pixels(read(folder))
    decoded.clear()
    options = {"size": {"size": 5}, "mode": {"mode": "L"}, "resize": {"resize": "pad"}}
    if change == "decoder":
        monkeypatch.setattr(picture_files, "VERSION", picture_files.VERSION + 1)
    if change == "Pillow":
        monkeypatch.setattr(picture_files, "pillow_version", "99.0")
    cache = read(folder, **options.get(change, {}))
    assert sorted(decoded) == sorted(NAMES)
    assert pixels(cache).shape == cache.images.shape
    assert (cache.images.shape == before.shape) == (change not in ("size", "mode"))


def test_bad_pictures_are_listed_tried_again_and_have_no_digest(folder, decoded):
    (folder / "red/1.bmp").write_bytes(b"no picture")
    (folder / "blue/0.bmp").unlink()
    for _ in range(2):
        cache = read(folder)
        assert cache.bad == {1: "not a picture", 4: "missing"}
        assert np.flatnonzero(cache.digests == 0).tolist() == [1, 4]
        assert not cache.images[np.array([1, 4])].any()
        listed = json.loads(cache.manifest_path.read_bytes())["bad"]
        assert listed == {"red/1.bmp": "not a picture", "blue/0.bmp": "missing"}
        cache.manifest_path.write_bytes(b"")  # the list is for people, and always whole
    write_picture(folder / "blue/0.bmp", 4)
    decoded.clear()
    assert read(folder).bad == {1: "not a picture"}
    assert sorted(decoded) == ["blue/0.bmp", "red/1.bmp"]
    write_picture(folder / "red/1.bmp", 1)
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert files(folder) == ["x.npy", "x.npz"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\udcff.bmp", "\ud800.bmp", "no/such"])
def test_names_that_no_file_has(folder, name):
    cache = read(folder, [*NAMES, name])
    assert list(cache.bad) == [len(NAMES)]
    np.testing.assert_array_equal(pixels(cache)[:-1], in_files(folder))


def test_whoever_has_opened_a_cache_keeps_it(folder):
    before, expected = read(folder), in_files(folder)
    copy_over(folder)
    after = read(folder)
    np.testing.assert_array_equal(pixels(before), expected)
    np.testing.assert_array_equal(pixels(after), in_files(folder))


def test_a_cache_of_the_first_version_is_made_anew(folder):
    (folder / ".cache").mkdir()
    np.save(folder / ".cache" / "x.npy", np.zeros((len(NAMES), SIZE, SIZE, 3), np.uint8))
    (folder / ".cache" / "x.json").write_text('{"fingerprint": "0", "cache": [1, 2], "bad": []}')
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    assert files(folder) == ["x.npy", "x.npz"]


# Damage


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << position % 8
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["npy", "npz", "json"])
def test_no_flipped_bit_is_served(folder, ending):
    (folder / "red/1.bmp").write_bytes(b"no picture")
    expected = pixels(read(folder))
    digests, path = read(folder).digests, folder / ".cache" / f"x.{ending}"
    whole = path.read_bytes()
    blank = range(128 + expected[0].size, 128 + 2 * expected[0].size)  # in the place of the bad one
    for position in range(0, len(whole), 37):
        flip(path, position)
        cache = read(folder)
        good = cache.digests > 0
        np.testing.assert_array_equal(cache.images[np.flatnonzero(good)], expected[good])
        np.testing.assert_array_equal(cache.digests, digests)
        assert cache.bad == {1: "not a picture"}
        if ending == "npy" and position not in blank or ending == "json":
            assert path.read_bytes() == whole  # mended
        path.write_bytes(whole)


def test_damage_is_said_once_and_mended_for_all(folder, decoded, caplog):
    cache, other = read(folder), read(folder)
    path = folder / ".cache" / "x.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-300] + bytes(300))  # of the last three pictures
    decoded.clear()
    for _ in range(3):
        np.testing.assert_array_equal(pixels(cache), in_files(folder))
        np.testing.assert_array_equal(pixels(other), in_files(folder))
    assert sorted(decoded) == sorted(NAMES[-3:])
    assert path.read_bytes() == whole
    [line] = [record.getMessage() for record in caplog.records]
    assert line == (
        f"warning: {path}: damaged; decoding {folder / NAMES[-3]} and any other damaged "
        "pictures again"
    )


@pytest.mark.parametrize("damage", ["header", "index", "cut off", "empty", "gone", "a directory"])
def test_files_that_cannot_be_used_are_made_anew(folder, decoded, damage):
    read(folder)
    decoded.clear()
    path = folder / ".cache" / ("x.npz" if damage == "index" else "x.npy")
    if damage == "header":
        flip(path, 20)
    elif damage in ("index", "empty"):
        path.write_bytes(b"")
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    if damage == "a directory":
        path.mkdir()
        with pytest.raises(UserError, match="x.npy: found a directory; accepted: a file"):
            read(folder)
        return
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    np.testing.assert_array_equal(np.load(folder / ".cache" / "x.npy"), in_files(folder))
    assert len(decoded) == (0 if damage == "header" else len(NAMES))


def test_damage_is_found_also_while_the_cache_is_built_anew(folder, decoded):
    read(folder)
    flip(folder / ".cache" / "x.npy", 128 + 2 * 108 + 7)
    (folder / "red/0.bmp").unlink()
    decoded.clear()
    np.testing.assert_array_equal(pixels(read(folder, NAMES[1:])), in_files(folder, NAMES[1:]))
    assert decoded == ["red/2.bmp"]


@pytest.mark.parametrize(
    ("lose", "found"),
    [
        (Path.unlink, "missing"),
        (lambda path: path.write_bytes(b"x"), "not a picture"),
        (lambda path: write_picture(path, 99), "another picture"),
    ],
)
def test_a_damaged_picture_whose_file_has_changed_is_no_longer_known(folder, lose, found):
    cache, path, expected = read(folder), folder / ".cache" / "x.npy", in_files(folder)
    flip(path, 128 + 2 * 108 + 7)
    lose(folder / "red/2.bmp")
    np.testing.assert_array_equal(cache.images[np.array([1, 3])], expected[[1, 3]])
    with pytest.raises(UserError) as caught:
        pixels(cache)
    assert str(caught.value) == (
        f"{folder}/red/2.bmp: {found}, and its copy in {path} is damaged; accepted: the picture "
        "as it was when the program started; to use the new files, start the program again"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"facts": np.zeros((len(NAMES), 2), np.uint64)},
        {"digests": np.zeros(3, np.uint64)},
        {"digests": np.array(["x"] * len(NAMES))},
        {"file_digests": np.zeros(len(NAMES))},
        {"digests": np.zeros(len(NAMES), np.uint64)},
        {"reasons": np.frombuffer(b"{", np.uint8)},
        {"reasons": np.frombuffer(b'["one too many"]', np.uint8)},
        {"key": np.array("another")},
    ],
)
def test_an_index_that_another_program_has_made(folder, change):
    """With the right checksum."""
    read(folder)
    path = folder / ".cache" / "x.npz"
    save_arrays(path, {**load_arrays(path), **change})
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))
    path.unlink()
    os.mkfifo(path)
    np.testing.assert_array_equal(pixels(read(folder)), in_files(folder))


# What cannot be written


def message(folder):
    with pytest.raises(UserError) as caught:
        read(folder)
    text = str(caught.value)
    assert "\n" not in text and "; accepted: a writable folder; " in text
    return text


def test_a_build_that_breaks_off_leaves_nothing(folder, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(picture_files, "decode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read(folder)
    assert files(folder) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOTCONN, errno.ENOMEM])
@pytest.mark.parametrize("where", ["status", "reading", "decoding"])
def test_an_error_of_the_disk_is_not_remembered_as_a_bad_picture(
    folder, monkeypatch, where, number
):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if where == "status":
            patch.setattr(picture_files.stat, "S_ISREG", fail)
        elif where == "reading":
            patch.setattr(picture_files, "_digest", fail)
        else:
            patch.setattr("src.data.decode._read_any", fail)
        said = f"{os.strerror(number)}; accepted: a picture that can be"
        with pytest.raises(UserError, match=said):
            read(folder)
    read(folder)


def test_what_the_system_refused_is_tried_again(folder, monkeypatch):
    """A file's own state does not change if the folder above it is there again, or memory is."""
    settings = {"size": SIZE, "mode": "RGB", "resize": "scale"}
    facts = picture_files.PictureFiles(folder, NAMES, settings).facts()
    monkeypatch.setattr(picture_files.PictureFiles, "facts", lambda self: facts)  # taken before
    (folder / "blue").rename(folder / "away")
    kept = read(folder)
    assert set(kept.bad.values()) == {"missing"} and len(kept.bad) == 4
    assert read(folder).bad == kept.bad
    (folder / "away").rename(folder / "blue")
    again = read(folder)
    assert again.bad == {} and (pixels(again) == in_files(folder)).all()

    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(picture_files, "decode", fails := Fails())
        write_picture(folder / "red" / "0.bmp", seed=99)
        assert read(folder).bad == {0: "MemoryError"} and fails.count == 1
    assert read(folder).bad == {}


def test_a_link_that_leads_inside_now_is_read(folder, tmp_path, monkeypatch):
    """To move its target within a disk changes the target's times on some file systems alone."""
    monkeypatch.setattr(picture_files, "_fact", lambda name, state: name[:8].encode().ljust(8))
    outside, link = tmp_path / "outside", folder / "red" / "0.bmp"
    link.rename(outside)
    link.symlink_to(outside)
    assert read(folder).bad == {0: "outside the folder of pictures"}
    outside.rename(folder / "inside")
    outside.symlink_to(folder / "inside")
    found = read(folder)
    assert found.bad == {} and (pixels(found) == in_files(folder)).all()


def test_a_picture_that_is_bad_itself_is_read_once(folder, decoded):
    (folder / NAMES[0]).write_bytes(b"no picture")
    for _ in range(2):
        assert read(folder).bad == {0: "not a picture"}
    assert decoded.count("red/0.bmp") == 1


class Fails:
    """Decodes nothing for want of memory, and counts how often it is asked."""

    def __init__(self):
        self.count = 0

    def __call__(self, *args, **options):
        self.count += 1
        raise picture_files.BadImage("MemoryError")


def test_a_file_in_the_place_of_the_folder(folder):
    (folder / ".cache").write_text("in the way")
    assert message(folder).startswith(f"{folder}/.cache/x.npy: cannot be written: File exists; ")


def test_a_full_disk_is_known_before_decoding(folder, decoded, monkeypatch):
    usage = shutil.disk_usage(folder)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "x.npy: cannot be written: No space left on device; " in message(folder)
    assert decoded == [] and files(folder) == []


@needs_mounts
def test_a_folder_that_is_only_read(folder):
    done = run_mounted(
        folder, "read-only", [sys.executable, "-c", USE, folder, folder, "/dev/null"]
    )
    found = f"{folder}/.cache/x.npy: cannot be written: Read-only file system; accepted: "
    assert done.returncode == 1 and found in done.stderr.splitlines()[-1]


# Reads the cache; what has to be decoded waits until there is a file `gate`.
USE = """
import sys, time
from pathlib import Path
import numpy as np
from src.data import picture_files
from src.data.image_cache import cached_images

folder, gate = Path(sys.argv[1]), Path(sys.argv[2])
decode, count = picture_files.decode, 0

def behind_the_gate(*args, **options):
    global count
    count += 1
    if count == 2:
        print("decoding", flush=True)
    while not gate.exists():
        time.sleep(0.01)
    return decode(*args, **options)

picture_files.decode = behind_the_gate
names = [f"{name}/{number}.bmp" for name in ("red", "blue") for number in range(4)]
cache = cached_images(folder, names, cache_paths=[folder / ".cache" / "x.npy"], size=6, mode="RGB",
                      resize="scale")
np.save(sys.argv[3], cache.images[np.arange(8)])
print("decoded", count)
"""


class User:
    """A process that reads the cache and saves what it gets as `NAME.npy` beside the folder."""

    def __init__(self, folder, name, gate):
        self.images = folder.parent / f"{name}.npy"
        self._messages = folder.parent / f"{name}.err"
        with open(self._messages, "wb") as stderr:
            command = [sys.executable, "-c", USE, folder, gate, self.images]
            self.process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def messages(self):
        return self._messages.read_text()

    def is_waiting(self):
        return "waiting for" in self.messages()

    def last_line(self):
        """What it prints in the end, once it has ended."""
        return self.process.communicate(timeout=60)[0].splitlines()[-1]


@pytest.fixture
def start(folder):
    """`start(name, gate)` starts a user of the cache; at the end all are stopped."""
    users = []

    def start(name, gate):
        users.append(User(folder, name, gate))
        return users[-1]

    yield start
    for user in users:
        user.process.kill()
        user.process.wait()
        user.process.stdout.close()


def wait_until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@needs_mounts
def test_a_damaged_cache_that_is_only_read_serves_what_is_right(folder, tmp_path):
    read(folder)
    flip(folder / ".cache" / "x.npy", 128 + 7)
    whole = (folder / ".cache" / "x.npy").read_bytes()
    command = [sys.executable, "-c", USE, folder, folder, tmp_path / "out.npy"]
    done = run_mounted(folder, "read-only", command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "decoded 1\n" and "x.npy: damaged; " in done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), in_files(folder))
    assert (folder / ".cache" / "x.npy").read_bytes() == whole


# Several processes


def test_of_several_processes_one_builds_and_the_others_wait(folder, start, tmp_path):
    gate = tmp_path / "gate"
    users = [start(name, gate) for name in "abc"]
    wait_until(lambda: sum(user.is_waiting() for user in users) == 2)
    gate.touch()
    lines = [user.last_line() for user in users]
    assert sorted(lines) == ["decoded 0", "decoded 0", "decoded 8"]
    builder = users[lines.index("decoded 8")].process.pid
    for user in users:
        assert user.process.returncode == 0
        waiting = f"x.npy: another run is building it; waiting for process {builder} on "
        assert (waiting in user.messages()) == (user.process.pid != builder)
        np.testing.assert_array_equal(np.load(user.images), in_files(folder))
    assert files(folder) == ["x.npy", "x.npz"]


def test_a_signal_ends_the_wait_at_once_and_the_death_of_the_builder_does(folder, start, tmp_path):
    builder = start("a", tmp_path / "never")
    assert builder.process.stdout.readline() == "decoding\n"
    stopped, next_one = (start(name, folder) for name in "bc")
    wait_until(lambda: stopped.is_waiting() and next_one.is_waiting())
    stopped.process.send_signal(signal.SIGINT)
    stopped.process.communicate(timeout=30)  # the builder would be waited for without end
    assert stopped.process.returncode != 0
    builder.process.kill()
    assert next_one.last_line() == "decoded 8" and next_one.process.returncode == 0
    np.testing.assert_array_equal(np.load(next_one.images), in_files(folder))
    assert files(folder) == ["x.npy", "x.npz"]


def test_twins_in_two_containers_wait_for_each_other(folder, decoded, monkeypatch):
    """Both process 1 of hosts of one name; here two threads."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    results = []
    twins = [
        threading.Thread(target=lambda: results.append(pixels(read(folder)))) for _ in range(4)
    ]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert len(results) == 4 and sorted(decoded) == sorted(NAMES)
    for result in results:
        np.testing.assert_array_equal(result, in_files(folder))


FOR_EVER = """
import sys, time
from pathlib import Path
from src.data.image_cache import cached_images

folder = Path(sys.argv[1])
names = [f"{name}/{number}.bmp" for name in ("red", "blue") for number in range(4)]
print("ready", flush=True)
while True:
    for some in (names, names[1:], names[::-1]):
        cached_images(folder, some, cache_paths=[folder / ".cache" / "x.npy"], size=6, mode="RGB",
                      resize="scale")
"""


def test_kills_at_any_moment_leave_a_cache_that_is_right(folder):
    for seed in range(4):
        builder = subprocess.Popen(
            [sys.executable, "-c", FOR_EVER, folder], cwd=ROOT, stdout=subprocess.PIPE
        )
        builder.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.05))
        builder.kill()
        builder.communicate()
        for names in (NAMES, NAMES[1:]):
            np.testing.assert_array_equal(pixels(read(folder, names)), in_files(folder, names))
        assert files(folder) == ["x.npy", "x.npz"]


# The parts


def test_digests_are_those_of_the_definition(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8)
    images[7] = images[30]
    expected = [
        int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest(), "little")
        for image in images
    ]
    found = digests_of(images)
    assert found.dtype == np.uint64 and found.tolist() == expected
    assert len(set(expected)) == 49 and expected[7] == expected[30]
    rows = np.array([3, 3, 49])
    assert digests_of(MappedImages(images, rows)).tolist() == [expected[row] for row in rows]
    assert digests_of(images[:, ::-1].copy()[:, ::-1]).tolist() == expected  # any strides
    assert digests_of(images[:0]).shape == (0,)
    assert [digest(image) for image in images] == expected
    content = os.urandom((5 << 20) // 2)
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        assert file_digest(file) == digest(content)


def test_a_row_is_verified_until_it_is_known_to_be_right():
    right = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1), np.uint8)
    stored = right.copy()
    stored[[1, 4]] += 1
    digests = digests_of(right)
    digests[5] = 0
    restored = []

    def restore(row):
        restored.append(row)
        return right[row]

    images = CheckedImages(stored, digests, restore)
    assert len(images) == 6 and images.shape == right.shape and images.dtype == right.dtype
    for rows in (0, 4, np.array([4, 2, 4]), np.array([[0, 1], [2, 3]]), np.array([], int)):
        np.testing.assert_array_equal(images[rows], right[rows])
    assert restored == [4, 4, 4, 1]
    stored[:] = right + 1
    stored[[1, 4]] = right[[1, 4]]
    np.testing.assert_array_equal(images[np.arange(6)], stored)  # 0, 2, 3 were right; any 5 is
    assert restored == [4, 4, 4, 1]
    stored[4] += 1
    np.testing.assert_array_equal(images[4], stored[4])  # it has been verified meanwhile
    assert stored[4, 0, 0, 0] != right[4, 0, 0, 0]
    images[4][:] = 0  # what is given is a copy
    assert images[4].any()
