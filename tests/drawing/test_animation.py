"""Animated GIFs, read back."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from src.drawing.animation import write_gif


def frames(count, size=(40, 30)):
    """White frames with a red square that moves, and a blue one that stands still."""
    drawn = []
    for position in range(count):
        pixels = np.full((size[1], size[0], 3), 255, np.uint8)
        pixels[5:10, 3 * position : 3 * position + 5] = (200, 30, 20)
        pixels[20:25, 20:25] = (63, 144, 218)
        drawn.append(Image.fromarray(pixels))
    return drawn


def test_frames_durations_and_repetition(tmp_path):
    write_gif(tmp_path / "x.gif", frames(4), seconds=0.25, last_seconds=1.5)
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 4
        assert gif.info["loop"] == 0  # for ever
        read = [(f.info["duration"], f.convert("RGB")) for f in ImageSequence.Iterator(gif)]
    assert [duration for duration, _ in read] == [250, 250, 250, 1500]
    for (_, found), drawn in zip(read, frames(4), strict=True):
        assert found.size == (40, 30)
        np.testing.assert_allclose(np.asarray(found, int), np.asarray(drawn, int), atol=8)


def test_what_stands_still_does_not_flicker(tmp_path):
    rng = np.random.default_rng(0)
    noisy = rng.integers(256, size=(30, 40, 3), dtype=np.uint8)  # more colours than a palette has
    drawn = []
    for position in range(3):
        pixels = noisy.copy()
        pixels[:, 10 * position : 10 * position + 10] = 255
        drawn.append(Image.fromarray(pixels))
    write_gif(tmp_path / "x.gif", drawn)
    with Image.open(tmp_path / "x.gif") as gif:
        read = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    for one in read[1:]:
        np.testing.assert_array_equal(one[:, 30:], read[0][:, 30:])
    assert (read[0][:, :10] == 255).all()


@pytest.mark.parametrize("count", [1, 2])
def test_few_frames(tmp_path, count):
    write_gif(tmp_path / "x.gif", frames(count))
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == count


def test_equal_frames_are_one_for_the_time_of_all(tmp_path):
    first, second = frames(2)
    write_gif(tmp_path / "x.gif", [first, first, second], seconds=0.5, last_seconds=2)
    with Image.open(tmp_path / "x.gif") as gif:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(gif)]
    assert durations == [1000, 2000]


def test_the_frames_given_stay_as_they_are(tmp_path):
    given = frames(2, size=(600, 500))
    write_gif(tmp_path / "x.gif", given)
    assert [frame.size for frame in given] == [(600, 500)] * 2
