"""Maps of layouts: names, thumbnails, frames."""

import itertools

import numpy as np
import pytest
from matplotlib.image import AxesImage

from src.drawing.layout_figure import cropped
from src.drawing.scatter import draw_classes, scatter_frame, square_limits
from src.drawing.style import figure_image, new_figure, style
from src.drawing.thumbnails import (
    arranged,
    boxes,
    compose,
    one_of_each_class,
    tinted,
    without_overlap,
)


def groups(num_classes, size, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(size) % num_classes).astype(np.int32)
    centers = rng.uniform(-10, 10, (num_classes, 2))
    return (centers[labels] + rng.normal(size=(size, 2)) * 0.5).astype(np.float32), labels


def drawn(layout, labels, class_names, **options):
    with style():
        figure = new_figure(5, 5)
        axes = figure.add_subplot()
        draw_classes(axes, layout, labels, class_names, **options)
        image = figure_image(figure)
    return axes, np.asarray(image)


def test_square_limits():
    layouts = [np.array([[0, 0], [2, 1]], np.float32), np.array([[-2, 0], [0, 1]], np.float32)]
    left, right, bottom, top = square_limits(layouts)
    assert (left, right) == pytest.approx((-2.12, 2.12))
    assert (bottom, top) == pytest.approx((0.5 - 2.12, 0.5 + 2.12))
    left, right, bottom, top = square_limits([np.ones((3, 2), np.float32)])
    assert left < 1 < right
    assert bottom < 1 < top


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("num_classes", [1, 2, 10, 20, 100])
def test_up_to_20_classes_are_named_and_no_name_covers_another(num_classes, channels):
    layout, labels = groups(num_classes, 1000)
    names = [f"name {label}" for label in range(num_classes)]
    images = None if channels is None else np.full((1000, 8, 8, channels), 128, np.uint8)
    axes, _ = drawn(layout, labels, names, images=images)
    named = sorted(text.get_text() for text in axes.texts)
    assert named == sorted(names) or num_classes == 100
    assert len(named) > min(num_classes - 1, 5)
    assert not axes.get_lines()
    extents = [text.get_window_extent() for text in axes.texts]
    for one, other in itertools.combinations(extents, 2):
        assert not one.overlaps(other)
    frame = axes.get_window_extent().padded(1)
    assert all(frame.containsx(box.x0) and frame.containsy(box.y1) for box in extents)


def test_of_very_many_classes_the_largest_are_named():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(400), rng.permutation(400)[:100].repeat(2)]).astype(np.int32)
    layout = rng.normal(size=(len(labels), 2)).astype(np.float32)
    axes, _ = drawn(layout, labels, [str(label) for label in range(400)])
    named = {int(text.get_text()) for text in axes.texts}
    assert named and named <= set(np.flatnonzero(np.bincount(labels) == 3).tolist())


def test_names_stand_at_the_points_of_their_class():
    # A class in two halves: between them, at the median, is none of its points.
    layout = np.array([[-5, 0], [-5, 0.1], [5, 0], [5, 0.1], [0, 0], [0, 0.2]], np.float32)
    labels = np.array([0, 0, 0, 0, 1, 1], np.int32)
    axes, _ = drawn(layout, labels, ["halves", "middle"])
    at = {text.get_text(): text.get_position() for text in axes.texts}
    assert abs(at["halves"][0]) == pytest.approx(5, abs=1)
    assert at["middle"][0] == pytest.approx(0, abs=0.5)


def test_classes_that_no_point_is_of_are_not_named():
    layout, labels = groups(2, 20)
    axes, _ = drawn(layout, labels, ["a", "b", "nobody"])
    assert sorted(text.get_text() for text in axes.texts) == ["a", "b"]


def test_of_many_classes_a_name_that_fits_nowhere_is_left_out():
    """Twenty-one classes at one place, of which thumbnails take the surroundings."""
    layout = np.zeros((210, 2), np.float32)
    layout[-2:] = [[-9, -9], [9, 9]]
    labels = (np.arange(210) % 21).astype(np.int32)
    names = ["a name as long as it gets"] * 21
    images = np.full((210, 8, 8, 3), 128, np.uint8)
    axes, picture = drawn(layout, labels, names, images=images)
    assert len(axes.texts) < 21
    [thumbnails] = [one for one in axes.get_children() if isinstance(one, AxesImage)]
    is_tile = thumbnails.get_array()[:, :, 3] > 0
    assert is_tile.any()
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        rows = slice(int(frame.y1 - box.y1) + 1, int(frame.y1 - box.y0) - 1)
        columns = slice(int(box.x0 - frame.x0) + 1, int(box.x1 - frame.x0) - 1)
        assert not is_tile[rows, columns].any()


def test_in_an_animation_thumbnails_stay_at_their_points_and_of_many_classes_ten_are_named():
    layout, labels = groups(30, 600)
    images = np.full((600, 8, 8, 3), 128, np.uint8)
    limits = square_limits([layout])
    names = [f"c{label}" for label in range(30)]
    axes, _ = drawn(layout, labels, names, images=images, is_animated=True, limits=limits)
    assert len(axes.texts) == 10
    assert {text.get_text() for text in axes.texts} == {f"c{label}" for label in range(10)}
    [thumbnails] = [one for one in axes.get_children() if isinstance(one, AxesImage)]
    alone, _ = drawn(
        layout[:1], labels[:1], names, images=images[:1], is_animated=True, limits=limits
    )
    [one] = [one for one in alone.get_children() if isinstance(one, AxesImage)]
    rows, columns = np.nonzero(one.get_array()[:, :, 3])
    frame = alone.get_window_extent()
    x, y = alone.transData.transform(layout[0]) - [frame.x0, frame.y0]
    assert (columns.mean(), frame.height - rows.mean()) == pytest.approx((x, y), abs=2)
    assert np.sqrt(len(rows)) == pytest.approx(0.24 * 150, abs=1)
    shown = (thumbnails.get_array()[:, :, 3] > 0).sum()
    assert shown > len(rows) and shown % len(rows) == 0


def test_a_layout_is_cropped_to_its_points():
    points = np.random.default_rng(0).uniform(size=(50, 2)).astype(np.float32)
    for scale, share in (([4, 3], 3 / 4), ([100, 1], 0.5), ([1, 100], 1.05)):
        layout = points * np.array(scale, np.float32)
        (left, right, bottom, top), height = cropped(layout)
        assert (top - bottom) / (right - left) == pytest.approx(height / 9)
        assert height / 9 == pytest.approx(share, rel=0.1)
        assert left < layout[:, 0].min() and right > layout[:, 0].max()
        assert bottom < layout[:, 1].min() and top > layout[:, 1].max()
    (left, right, bottom, top), height = cropped(np.ones((3, 2), np.float32))
    assert left < 1 < right and bottom < 1 < top and height > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [5, 2000])
def test_thumbnails_are_drawn(channels, size):
    layout, labels = groups(2, size)
    images = np.full((size, 8, 6, channels), 128, np.uint8)
    without, _ = drawn(layout, labels, ["a", "b"])
    axes, picture = drawn(layout, labels, ["a", "b"], images=images)
    [thumbnails] = [one for one in axes.get_children() if isinstance(one, AxesImage)]
    pixels = thumbnails.get_array()
    assert pixels.shape[2] == 4
    assert 0 < (pixels[:, :, 3] > 0).mean() < 0.7
    assert not [one for one in without.get_children() if isinstance(one, AxesImage)]
    assert (picture == 128).all(axis=2).sum() > 100  # the images' own pixels are in the picture


class TestThumbnails:
    colors = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

    def test_ink_on_a_dark_ground_takes_the_colour(self):
        images = np.zeros((2, 4, 4, 1), np.uint8)
        images[:, 1:3, 1:3] = 255
        tiles = tinted(images, self.colors, side=4)
        assert tiles.shape == (2, 4, 4, 4)
        assert tiles[0, 1, 1].tolist() == [255, 0, 0, 255]
        assert tiles[1, 2, 2].tolist() == [0, 0, 255, 255]
        assert tiles[0, 0, 0, 3] == 0

    def test_ink_on_a_light_ground_too(self):
        images = np.full((2, 4, 4, 1), 255, np.uint8)
        images[:, 1:3, 1:3] = 0
        tiles = tinted(images, self.colors, side=4)
        assert tiles[0, 1, 1].tolist() == [255, 0, 0, 255]
        assert tiles[0, 0, 0, 3] == 0

    @pytest.mark.parametrize("channels", [1, 3])
    def test_pictures_keep_their_pixels_in_a_frame(self, channels):
        images = np.full((2, 8, 8, channels), 100, np.uint8)
        tiles = tinted(images, self.colors, side=16)
        assert tiles[0, 8, 8].tolist() == [100, 100, 100, 255]
        assert tiles[0, 0, 0].tolist() == [255, 0, 0, 255]
        assert tiles[1, 15, 15].tolist() == [0, 0, 255, 255]

    def test_one_that_is_not_square_is_not_squashed(self):
        images = np.full((2, 4, 8, 3), 100, np.uint8)
        tiles = tinted(images, self.colors, side=16)
        assert (tiles[0, :, :, 3] > 0).any(axis=1).sum() == 8
        assert (tiles[0, :, :, 3] > 0).any(axis=0).sum() == 16

    @pytest.mark.parametrize("shape", [(4, 64), (64, 4), (1, 9)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_one_that_is_thinner_than_its_frame_is_all_frame(self, shape, channels):
        images = np.full((2, *shape, channels), 100, np.uint8)
        tiles = tinted(images, self.colors, side=30)
        height, width = (max(1, round(30 * side / max(shape))) for side in shape)
        assert (tiles[0, :, :, 3] > 0).sum() == height * width
        assert tiles[0, 15, 15].tolist() == [255, 0, 0, 255]

    def test_they_are_as_large_as_fits(self):
        """Few images have large thumbnails, many have small ones; a cell of the grid has one."""
        rng = np.random.default_rng(0)
        sides = []
        for size in (4, 50, 400, 5000):
            points = rng.uniform(0, 900, (size, 2))
            found = arranged(points, np.zeros(size, np.int32), 900, 900, dpi=100)
            assert len(found.chosen) >= 0.75 * min(size, 180)
            assert len(set(found.chosen.tolist())) == len(found.chosen)
            corners = boxes(found.centers, found.side)
            assert corners.min() >= 0 and corners.max() <= 900
            covered = np.zeros((900, 900), int)
            for left, top, right, bottom in corners:
                covered[top:bottom, left:right] += 1
            assert covered.max() == 1
            moved = np.abs(found.centers - points[found.chosen]).max()
            assert moved <= max(40, 1.1 * found.side)  # its own cell, or 0.4 inches away
            sides.append(found.side)
        assert sides[0] >= 80 and 30 < min(sides[2:]) <= max(sides[2:]) < sides[1] < sides[0]

    def test_points_at_one_place_become_a_block(self):
        points = np.full((30, 2), 450.0)
        found = arranged(points, np.zeros(30, np.int32), 900, 900, dpi=100)
        assert len(found.chosen) >= 5
        assert np.abs(found.centers - 450).max() <= 40

    def test_one_image_of_each_class_comes_first(self):
        labels = np.array([0] * 50 + [7] * 3 + [2], np.int32)
        order = one_of_each_class(labels)
        assert sorted(order.tolist()) == list(range(54))
        assert set(labels[order[:3]]) == {0, 2, 7}
        assert set(labels[order[3:5]]) == {0, 7}
        assert set(labels[order[7:]]) == {0}

    def test_a_map_without_room_has_none(self):
        found = arranged(np.zeros((3, 2)), np.zeros(3, np.int32), 10, 10, dpi=100)
        assert len(found.chosen) == len(found.centers) == 0

    def test_chosen_squares_overlap_nothing(self):
        rng = np.random.default_rng(0)
        centers = rng.integers(0, 100, (500, 2))
        taken = np.zeros((100, 120), bool)
        taken[40:60, 40:60] = True
        chosen = without_overlap(centers, 10, taken.copy(), limit=1000)
        assert 20 < len(chosen) < 120
        covered = np.zeros_like(taken, int)
        for left, top, right, bottom in boxes(centers[chosen], 10):
            assert left >= 0
            assert top >= 0
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1
        assert covered[taken].max() == 0
        assert covered.sum() == 100 * len(chosen)
        # and no more would have found room
        assert len(without_overlap(centers, 10, taken | (covered > 0), limit=1000)) == 0
        assert len(without_overlap(centers, 10, taken.copy(), limit=7)) == 7

    def test_compose(self):
        tile = np.full((1, 2, 2, 4), 9, np.uint8)
        canvas = compose(tile, np.array([[3, 1]]), width=6, height=4)
        assert canvas.shape == (4, 6, 4)
        assert (canvas[0:2, 2:4] == 9).all()
        assert canvas.sum() == 4 * 4 * 9


def test_frames_are_of_one_size_and_stand_still():
    layout, labels = groups(3, 90)
    limits = square_limits([layout, 3 * layout])
    one, other = (
        scatter_frame(points, labels, ["a", "b", "c"], title=title, limits=limits)
        for points, title in ((layout, "step 1"), (3 * layout, "step 1000000"))
    )
    assert one.size == other.size == (750, 795)
    frames = np.asarray(one, int), np.asarray(other, int)
    edges = [(f == 0xDD).all(axis=2) for f in frames]
    rows = [np.flatnonzero(edge.mean(axis=1) > 0.5) for edge in edges]
    np.testing.assert_array_equal(*rows)
    assert (frames[0] != frames[1]).any()
