"""The sprite sheet: every picture at its place, readable, within the projector's limit."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

import src.projector.sprite
from src.projector.legend import PALETTE
from src.projector.sprite import MAX_SHEET_SIDE, sprite_sheet, tint_sheet, write_sheet


def random_images(shape, seed=0):
    """Pictures on a light background, which are therefore not inverted."""
    return np.random.default_rng(seed).integers(128, 256, shape, dtype=np.uint8)


def tile(sheet, index, tile_size):
    """The pixels of the tile at `index`, row-major in a square grid."""
    width, height = tile_size
    tiles_a_row = sheet.width // width
    row, column = divmod(index, tiles_a_row)
    return np.asarray(sheet)[row * height : (row + 1) * height, column * width :][:, :width]


@pytest.mark.parametrize(
    ("num_images", "grid_side"), [(1, 1), (2, 2), (4, 2), (5, 3), (9, 3), (10, 4), (60, 8)]
)
def test_grid_is_square_and_each_picture_is_at_its_place_unchanged(num_images, grid_side):
    images = random_images((num_images, 28, 28, 1))
    sheet, tile_size = sprite_sheet(images)
    assert tile_size == (28, 28)
    assert sheet.size == (28 * grid_side, 28 * grid_side)
    assert sheet.mode == "L"
    for index in range(num_images):
        np.testing.assert_array_equal(tile(sheet, index, tile_size), images[index, :, :, 0])
    for index in range(num_images, grid_side**2):
        assert (tile(sheet, index, tile_size) == 255).all()


def test_colour_pictures_keep_their_colours_also_on_a_dark_background():
    images = random_images((3, 32, 32, 3))
    images[:, :4] = images[:, -4:] = images[:, :, :4] = images[:, :, -4:] = 0
    sheet, tile_size = sprite_sheet(images)
    assert sheet.mode == "RGB"
    for index in range(3):
        np.testing.assert_array_equal(tile(sheet, index, tile_size), images[index])


@pytest.mark.parametrize(("height", "width"), [(40, 30), (30, 41), (64, 1)])
def test_picture_that_is_not_square_stands_centred_on_a_square_white_tile(height, width):
    images = random_images((5, height, width, 1))
    side = max(height, width)
    sheet, tile_size = sprite_sheet(images)
    assert tile_size == (side, side)
    top, left = (side - height) // 2, (side - width) // 2
    for index in range(5):
        expected = np.full((side, side), 255, np.uint8)
        expected[top : top + height, left : left + width] = images[index, :, :, 0]
        np.testing.assert_array_equal(tile(sheet, index, tile_size), expected)


def test_light_ink_on_a_dark_grey_background_is_inverted():
    images = np.zeros((4, 28, 28, 1), np.uint8)
    images[:, 10:18, 10:18] = random_images((4, 8, 8, 1))
    sheet, tile_size = sprite_sheet(images)
    for index in range(4):
        np.testing.assert_array_equal(tile(sheet, index, tile_size), 255 - images[index, :, :, 0])


def test_a_few_pictures_that_touch_the_border_do_not_change_the_inversion():
    images = np.zeros((10, 28, 28, 1), np.uint8)
    images[:3] = 255
    sheet, tile_size = sprite_sheet(images)
    assert (tile(sheet, 0, tile_size) == 0).all()
    assert (tile(sheet, 3, tile_size) == 255).all()


@pytest.mark.parametrize("grey", [64, 128, 255])
def test_grey_photographs_and_dark_ink_are_not_inverted(grey):
    images = np.full((4, 28, 28, 1), grey, np.uint8)
    sheet, tile_size = sprite_sheet(images)
    assert (tile(sheet, 0, tile_size) == grey).all()


@pytest.mark.parametrize(
    ("side", "num_images", "tile_side"),
    [(1, 1, 28), (8, 4, 32), (14, 4, 28), (20, 4, 40), (27, 4, 54), (28, 4, 28), (29, 4, 29)],
)
def test_small_pictures_are_enlarged_by_a_whole_factor(side, num_images, tile_side):
    images = random_images((num_images, side, side, 1))
    sheet, tile_size = sprite_sheet(images)
    assert tile_size == (tile_side, tile_side)
    factor = tile_side // side
    enlarged = images.repeat(factor, axis=1).repeat(factor, axis=2)
    for index in range(num_images):
        np.testing.assert_array_equal(tile(sheet, index, tile_size), enlarged[index, :, :, 0])


def test_enlarging_stops_where_the_sheet_would_pass_the_limit(monkeypatch):
    monkeypatch.setattr(src.projector.sprite, "MAX_SHEET_SIDE", 100)
    for num_images, tile_side in [(9, 32), (16, 24), (36, 16), (37, 8), (144, 8)]:
        sheet, tile_size = sprite_sheet(random_images((num_images, 8, 8, 1)))
        assert tile_size == (tile_side, tile_side)
        assert max(sheet.size) <= 100


def test_pictures_shrink_where_the_sheet_would_pass_the_limit(monkeypatch):
    monkeypatch.setattr(src.projector.sprite, "MAX_SHEET_SIDE", 100)
    images = np.empty((9, 60, 120, 1), np.uint8)
    images[:] = np.arange(150, 159)[:, None, None, None]
    sheet, tile_size = sprite_sheet(images)
    assert tile_size == (33, 33)  # 100 // 3; the picture on it is 33 x 16, as 120 x 60 was
    assert sheet.size == (99, 99)
    for index in range(9):
        pixels = tile(sheet, index, tile_size)
        assert (pixels[8:24] == 150 + index).all()
        assert (pixels[:8] == 255).all() and (pixels[24:] == 255).all()


def test_shrunk_picture_is_averaged_and_keeps_at_least_one_pixel_each_way(monkeypatch):
    monkeypatch.setattr(src.projector.sprite, "MAX_SHEET_SIDE", 16)
    stripes = np.zeros((1, 64, 64, 1), np.uint8)
    stripes[:, :, ::2] = 255
    stripes[:, :1] = stripes[:, -1:] = stripes[:, :, :1] = stripes[:, :, -1:] = 255
    sheet, _ = sprite_sheet(stripes)
    assert sheet.size == (16, 16)
    assert (np.abs(np.asarray(sheet)[2:-2, 2:-2].astype(int) - 128) < 10).all()

    sheet, tile_size = sprite_sheet(np.full((1, 1, 200, 1), 130, np.uint8))
    assert tile_size == (16, 16)
    assert np.count_nonzero((np.asarray(sheet) == 130).all(axis=1)) == 1


def test_real_limit_with_one_picture_more_than_fit_at_28_pixels():
    # 292 x 28 = 8176 pixels hold 292**2 = 85 264 pictures; 293 a row leave 8192 // 293 = 27.
    image = random_images((1, 28, 28, 1))
    sheet, tile_size = sprite_sheet(np.broadcast_to(image, (85_265, 28, 28, 1)))
    assert tile_size == (27, 27)
    assert sheet.size == (293 * 27, 293 * 27)
    assert max(sheet.size) <= MAX_SHEET_SIDE
    np.testing.assert_array_equal(tile(sheet, 85_264, tile_size), tile(sheet, 0, tile_size))


def test_no_second_array_of_the_size_of_the_sheet():
    images = np.broadcast_to(random_images((1, 400, 400, 1)), (100, 400, 400, 1))
    tracemalloc.start()
    sheet, _ = sprite_sheet(images)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sheet.size == (4000, 4000)  # 15 MB, held by Pillow, which tracemalloc does not see
    assert peak < 2 * 2**20


def test_written_file_is_a_png_with_the_sheet(tmp_path):
    images = random_images((5, 28, 28, 3))
    path = tmp_path / "projector" / "test" / "sprite.png"
    write_sheet(path, sprite_sheet(images)[0])
    with Image.open(path) as written:
        assert written.format == "PNG"
        np.testing.assert_array_equal(np.asarray(written), np.asarray(sprite_sheet(images)[0]))
    assert [file.name for file in path.parent.iterdir()] == ["sprite.png"]


def test_grey_tiles_are_multiplied_with_a_paler_colour_of_theirs():
    images = np.zeros((5, 28, 28, 1), np.uint8)
    images[:, 10:18, 10:18] = 255  # white ink on black, which is inverted
    sheet, (side, _) = sprite_sheet(images)
    tinted = tint_sheet(sheet, side, np.array([3, 1, 3, 9, 0]))
    assert tinted.size == sheet.size
    pixels = np.asarray(tinted.convert("RGB"))
    for index, color in enumerate([3, 1, 3, 9, 0]):
        row, column = divmod(index, 3)
        corner, ink = pixels[row * 28, column * 28], pixels[row * 28 + 14, column * 28 + 14]
        np.testing.assert_allclose(corner, (np.array(PALETTE[color]) + 255) / 2, atol=1)
        assert (ink == 0).all()
    assert (pixels[56:, 56:] == 255).all()  # the tiles left over


def test_greys_keep_their_order_and_distance_under_a_tint():
    images = np.full((1, 28, 28, 1), 255, np.uint8)
    images[0, 5:23, 5:23, 0] = np.linspace(0, 255, 18 * 18).reshape(18, 18)
    sheet, (side, _) = sprite_sheet(images)
    tinted = np.asarray(tint_sheet(sheet, side, np.array([4])).convert("RGB")).astype(float)
    expected = np.asarray(sheet)[..., None] / 255 * (np.array(PALETTE[4]) + 255) / 2
    assert np.abs(tinted - expected).max() < 255 / 22 + 1


def test_colour_pictures_get_a_frame_and_stay_as_they_are_within():
    images = random_images((2, 40, 40, 3))
    sheet, (side, _) = sprite_sheet(images)
    pixels = np.asarray(tint_sheet(sheet, side, np.array([2, 5])))
    for index, color in enumerate([2, 5]):
        left = index * 40
        assert (pixels[:40, left : left + 4] == PALETTE[color]).all()
        assert (pixels[36:40, left : left + 40] == PALETTE[color]).all()
        np.testing.assert_array_equal(pixels[4:36, left + 4 : left + 36], images[index, 4:36, 4:36])
