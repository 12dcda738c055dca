"""Letters drawn from fonts as MNIST's digits are; no digit, and nothing that looks like another."""

import contextlib
import io
import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pytest

import src.data.render_glyphs
from src.data.render_glyphs import draw, main
from src.data.written_glyphs import open_fonts, plain, shapes, with_character
from src.datasets import glyphs
from src.errors import UserError
from src.params.schema import Params

OF_MATPLOTLIB = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SYSTEMS = ("LATIN CAPITAL LETTER", "GREEK CAPITAL LETTER")


@pytest.fixture(scope="module")
def fonts(tmp_path_factory):
    """Three of DejaVu's fonts, which matplotlib brings, in a folder and one below it."""
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "below").mkdir()
    shutil.copy(OF_MATPLOTLIB / "DejaVuSans.ttf", folder)
    shutil.copy(OF_MATPLOTLIB / "DejaVuSerif.ttf", folder / "below")
    shutil.copy(OF_MATPLOTLIB / "DejaVuSans-Bold.ttf", folder / "below")
    (folder / "broken.ttf").write_bytes(b"no font")
    return folder


@pytest.fixture(scope="module")
def drawn(fonts):
    return draw(fonts, 3, SYSTEMS)


@pytest.fixture(scope="module")
def said_and_written(fonts, tmp_path_factory):
    """What the program prints when it draws the first system, and the split that it writes."""
    folder, out = tmp_path_factory.mktemp("data"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(src.data.render_glyphs, "SYSTEMS", SYSTEMS[:1])
        main(["--data_dir", str(folder), "--fonts", str(fonts), "--images_per_class", "2"])
    return out.getvalue(), glyphs.load(folder, Params()).splits["train"]


@pytest.fixture
def said(said_and_written):
    return said_and_written[0]


@pytest.fixture
def written(said_and_written):
    return said_and_written[1]


def test_they_are_drawn_as_mnist_was_made(drawn):
    assert drawn.images.dtype == np.uint8 and drawn.images.shape == (3 * len(drawn.names), 28, 28)
    np.testing.assert_array_equal(drawn.labels, np.repeat(np.arange(len(drawn.names)), 3))
    for image in drawn.images:
        rows, columns = (np.flatnonzero(image.any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) < 20  # the box
        mass = image / image.sum()
        center = [mass.sum(1) @ (np.arange(28) + 0.5), mass.sum(0) @ (np.arange(28) + 0.5)]
        np.testing.assert_allclose(center, 14, atol=0.51)  # in the middle, to half a pixel
        assert image.max() == 255
    of_class = drawn.images.reshape(-1, 3, 28, 28)
    assert all(len(np.unique(images, axis=0)) == 3 for images in of_class)


def test_no_digit_no_look_alike_and_each_shape_once(drawn):
    assert {"O", "Q", "S", "Z", "B", "I", "G", "T"} <= set(drawn.like_digits)
    assert {"Κ", "Λ", "Μ"} <= set(drawn.like_others)  # Greek, of Latin shape
    assert {"LATIN CAPITAL LETTER K", "GREEK CAPITAL LETTER XI"} <= set(drawn.names)
    assert not any("DIGIT" in name or " WITH " in name for name in drawn.names)


def test_the_same_fonts_give_the_same_images(drawn, written):
    """However many of each class, and with fewer classes after them."""
    assert set(written.class_names) == set(drawn.names[: len(written.class_names)])
    for label, name in enumerate(written.class_names):
        first = 3 * drawn.names.index(name)
        images = written.images[np.flatnonzero(written.labels == label)]
        np.testing.assert_array_equal(images[..., 0], drawn.images[first : first + 2])


def test_a_missing_character_is_not_drawn_as_a_box(fonts):
    fonts = open_fonts(fonts)
    assert len(fonts) == 3
    assert with_character(fonts, "\ua500") == []  # Vai
    assert len(with_character(fonts, "A")) == 3
    assert with_character(fonts, " ") == []


def test_shapes_are_correlations(fonts):
    fonts = open_fonts(fonts)
    images = [plain(with_character(fonts, letter), letter) for letter in "HN"]
    found = shapes(images)
    np.testing.assert_allclose((found @ found.T).diagonal(), 1, rtol=1e-5)
    expected = np.corrcoef(found)[0, 1]
    np.testing.assert_allclose((found @ found.T)[0, 1], expected, rtol=1e-4)


def test_the_dataset_reads_what_the_program_writes(written, said):
    assert written.images.shape[1:] == (28, 28, 1)
    assert f"{len(written)} images of {len(written.class_names)} classes" in said
    assert "LATIN CAPITAL LETTER K" in written.class_names


def test_without_fonts(tmp_path):
    with pytest.raises(UserError) as caught:
        draw(tmp_path, 2, SYSTEMS)
    assert str(caught.value).startswith(f"{tmp_path}: found no font with 0123456789; accepted")
    assert "\n" not in str(caught.value)


def test_fonts_without_the_characters(fonts):
    with pytest.raises(UserError, match=": found fonts for 0 of the characters to draw; accepted"):
        draw(fonts, 2, ("VAI SYLLABLE",))
