from functools import cache

import numpy as np
import pytest
import scipy.ndimage

from model.augment.batch import augment
from model.augment.geometry import affine_transforms, transform_images, warp_images
from model.estimator import tf
from src.params.schema import Augment

RNG = np.random.default_rng(0)
# Neither square nor dark, so that swapped axes and what comes in from outside show.
GREY = RNG.uniform(0.2, 1.0, (300, 8, 11, 1)).astype(np.float32)
COLOUR = RNG.uniform(0.2, 1.0, (300, 9, 6, 3)).astype(np.float32)
ALL = {"shift": 2, "rotation": 30.0, "flip": True, "crop": 0.7, "erasing": 0.5, "elastic": 1.5}
SEED = (7, 100)  # of the run, and the step

each_shape = pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])


@cache
def augment_by(seed, **params):
    """The same function for the same arguments, so that a graph is built once."""
    return lambda images: augment(images, tf.constant(seed, tf.int64), Augment(**params))


def changed(run, images, seed=SEED, **params):
    return run(augment_by(seed, **params), images)


def shifted(image, right, down):
    """An image moved by whole pixels, with zeros where nothing comes from."""
    height, width = image.shape[:2]
    padded = np.pad(image, [(abs(down),) * 2, (abs(right),) * 2, (0, 0)])
    return padded[abs(down) - down :][:height, abs(right) - right :][:, :width]


def transformed(images, fill="black", **changes):
    """`images` under `affine_transforms`, all by the same named changes."""
    count = len(images)
    one = {"center": [0.0, 0.0], "mirrored": False, "angle": 0.0, "shift": [0.0, 0.0]}
    named = {name: tf.constant([value] * count) for name, value in {**one, **changes}.items()}
    sides = (tf.ones(count), tf.ones(count))
    transforms = affine_transforms(images.shape[1:3], sides=sides, **named)
    return np.asarray(transform_images(tf.constant(images), transforms, fill))


def found_shift(before, after, bound):
    """The one (right, down) within `bound` that makes `after` of `before`, compared exactly."""
    found = [
        (right, down)
        for right in range(-bound, bound + 1)
        for down in range(-bound, bound + 1)
        if np.array_equal(shifted(before, right, down), after)
    ]
    assert len(found) == 1
    return found[0]


def test_all_off_gives_the_very_tensor():
    images = tf.constant(GREY)
    assert augment(images, tf.constant(SEED), Augment()) is images
    with tf.Graph().as_default() as graph:
        images, seed = tf.constant(GREY), tf.constant(SEED)
        before = len(graph.get_operations())
        assert augment(images, seed, Augment()) is images
        assert len(graph.get_operations()) == before


@each_shape
@pytest.mark.parametrize("size", [0, 1, 300])
@pytest.mark.parametrize("params", [ALL, {"shift": 1}, {"erasing": 0.5}], ids=str)
def test_shape_type_and_range_stay(run, images, size, params):
    result = changed(run, images[:size], **params)
    assert result.shape == images[:size].shape
    assert result.dtype == np.float32
    assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.parametrize("value", [0, 1])
def test_range_stays_at_its_ends(run, value):
    result = changed(run, np.full((300, 8, 11, 1), value, np.float32), **ALL)
    assert ((result >= 0) & (result <= 1)).all()


def test_images_of_one_pixel(run):
    result = changed(run, np.ones((50, 1, 1, 1), np.float32), **ALL)
    assert ((result >= 0) & (result <= 1)).all()
    assert set(changed(run, np.ones((50, 1, 1, 1), np.float32), crop=0.5).ravel()) == {1}


def test_static_shape_stays():
    function = tf.function(lambda x, seed: augment(x, seed, Augment(**ALL)))
    signature = tf.TensorSpec([None, 8, 11, 1], tf.float32), tf.TensorSpec([2], tf.int64)
    assert function.get_concrete_function(*signature).output_shapes.as_list() == [None, 8, 11, 1]


@pytest.mark.parametrize("name", ALL)
def test_seed_and_step_decide_alone(run, name):
    params = {name: ALL[name]}
    first = changed(run, GREY, **params)
    assert (first != GREY).any()
    np.testing.assert_array_equal(first, changed(run, GREY, **params))
    assert (first != changed(run, GREY, seed=(7, 101), **params)).any()
    assert (first != changed(run, GREY, seed=(8, 100), **params)).any()
    # Within a batch, too, images are changed differently.
    equal = changed(run, np.repeat(GREY[:1], 100, axis=0), **params)
    assert (equal != equal[:1]).any()


def test_modes_and_datasets_agree():
    """Eagerly, in a graph and in a dataset: the same images at the same step."""
    eager = np.stack([augment(tf.constant(GREY), (7, step), Augment(**ALL)) for step in range(3)])

    def at_step(step):
        return augment(tf.constant(GREY), tf.stack([7, step]), Augment(**ALL))

    dataset = tf.data.Dataset.range(3).map(at_step)
    np.testing.assert_allclose(list(dataset.as_numpy_iterator()), eager, atol=1e-6)
    resumed = tf.data.Dataset.range(2, 3).map(at_step)
    np.testing.assert_array_equal(
        next(resumed.as_numpy_iterator()), list(dataset.as_numpy_iterator())[2]
    )


def test_steps_are_drawn_independently():
    """From one step to the next, and at each place in the batch over the steps."""
    flip = Augment(flip=True)
    dataset = tf.data.Dataset.range(1000).map(
        lambda step: augment(tf.constant(GREY[:20]), tf.stack([0, step]), flip)
    )
    mirrored = np.array(
        [(images != GREY[:20]).any(axis=(1, 2, 3)) for images in dataset.as_numpy_iterator()]
    )  # [steps, 20]
    assert np.abs(mirrored.mean(axis=0) - 0.5).max() < 4 * 0.5 / np.sqrt(1000)
    again = (mirrored[1:] == mirrored[:-1]).mean(axis=0)
    assert np.abs(again - 0.5).max() < 4 * 0.5 / np.sqrt(1000)
    assert np.abs(np.corrcoef(mirrored.T) - np.eye(20)).max() < 4 / np.sqrt(1000)


def test_changes_are_drawn_independently(run):
    """Were two drawn from the same numbers, these would go together."""
    result = changed(run, GREY, shift=1, flip=True)
    drawn = []
    for before, after in zip(GREY, result, strict=True):
        candidates = [
            (mirrored, right, down)
            for mirrored in (0, 1)
            for right in (-1, 0, 1)
            for down in (-1, 0, 1)
            if np.array_equal(shifted(before[:, :: -1 if mirrored else 1], right, down), after)
        ]
        assert len(candidates) == 1  # an exact copy, mirrored first and then shifted
        drawn += candidates
    correlations = np.corrcoef(np.transpose(drawn)) - np.eye(3)
    assert np.abs(correlations).max() < 4 / np.sqrt(300)
    assert len(set(drawn)) == 18


@each_shape
@pytest.mark.parametrize("bound", [1, 3])
def test_shift_is_exact_and_covers_its_range_evenly(run, images, bound):
    result = changed(run, images, shift=bound)
    shifts = [
        found_shift(before, after, bound) for before, after in zip(images, result, strict=True)
    ]
    num_values = 2 * bound + 1
    for axis in np.transpose(shifts):
        counts = np.unique(axis, return_counts=True)[1]
        assert len(counts) == num_values
        assert np.abs(counts - 300 / num_values).max() < 4 * np.sqrt(300 / num_values)
    assert np.abs(np.corrcoef(np.transpose(shifts))[0, 1]) < 4 / np.sqrt(300)


def test_shift_beyond_the_image_leaves_zeros(run):
    result = changed(run, GREY, shift=10**9)
    assert (result == 0).mean() > 0.99


@each_shape
def test_flip_mirrors_half_exactly(run, images):
    result = changed(run, images, flip=True)
    mirrored = (result == images[:, :, ::-1]).all(axis=(1, 2, 3))
    same = (result == images).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 120 < mirrored.sum() < 180


@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_quarter_turns_are_those_of_numpy(turns, size):
    images = GREY[:5, :size, :size]
    expected = np.rot90(images, turns, axes=(1, 2))
    np.testing.assert_allclose(transformed(images, angle=turns * np.pi / 2), expected, atol=1e-5)


def test_half_turn_of_a_rectangle_is_about_its_centre():
    np.testing.assert_allclose(transformed(GREY, angle=np.pi), GREY[:, ::-1, ::-1], atol=1e-5)


def test_quarter_turn_of_a_rectangle_keeps_its_middle_square():
    images = COLOUR[:, :, :5]  # 9 x 5: rows 2 to 6 are a square about the same centre
    result = transformed(images, angle=np.pi / 2)
    np.testing.assert_allclose(result[:, 2:7], np.rot90(images[:, 2:7], axes=(1, 2)), atol=1e-5)
    # What is above and below of it comes from outside, left and right.
    np.testing.assert_allclose(result[:, [0, 1, 7, 8]], 0, atol=1e-5)


def test_rows_by_hand():
    """H = 3, W = 5: the centre is (2, 1)."""
    rows = affine_transforms(
        (3, 5),
        sides=(
            tf.constant([1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]),
            tf.constant([1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.25]),
        ),
        center=tf.constant([[0.0, 0], [0, 0], [0, 0], [0, 0], [1, -0.5], [1, -0.5], [0, 0]]),
        mirrored=tf.constant([False, False, True, False, False, True, False]),
        angle=tf.constant([0, 0, 0, np.pi / 2, 0, 0, np.pi / 2], tf.float32),
        shift=tf.constant([[0.0, 0], [1, -2], [1, 0], [0, 0], [0, 0], [1, 1], [0, 0]]),
    )
    expected = [
        [1, 0, 0, 0, 1, 0, 0, 0],
        # One to the right, two up: (x, y) shows (x - 1, y + 2).
        [1, 0, -1, 0, 1, 2, 0, 0],
        # Mirrored, then one to the right: (x, y) shows (4 - (x - 1), y).
        [-1, 0, 5, 0, 1, 0, 0, 0],
        # Counter-clockwise: what is above the centre, (2, 0), shows what was right of it, (3, 1).
        [0, -1, 3, 1, 0, -1, 0, 0],
        # Half the side about (3, 0.5): (2, 1) shows (3, 0.5) and (0, 0) shows (2, 0).
        [0.5, 0, 2, 0, 0.5, 0, 0, 0],
        # The same mirrored, then moved by (1, 1): (3, 2) shows (3, 0.5) and (1, 1) (4, 0).
        [-0.5, 0, 4.5, 0, 0.5, -0.5, 0, 0],
        # Half the width and a quarter of the height, turned after that: above the centre, (2, 0)
        # shows what was at (3, 1) of the part, half a pixel right of the centre.
        [0, -0.5, 2.5, 0.25, 0, 0.5, 0, 0],
    ]
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_a_mirrored_image_is_turned_after_that():
    images = GREY[:5, :8, :8]
    expected = np.rot90(images[:, :, ::-1], axes=(1, 2))
    result = transformed(images, mirrored=True, angle=np.pi / 2)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_rotation_is_uniform_within_its_bound_both_ways(run):
    """A bright dot right of the centre tells the angle by where its weight comes to lie."""
    images = np.zeros((1000, 41, 41, 1), np.float32)
    images[:, 19:22, 34:37] = 1
    result = changed(run, images, rotation=40.0)[..., 0].astype(float)
    weight = result.sum(axis=(1, 2))
    x = (result.sum(axis=1) @ np.arange(41)) / weight - 20
    y = (result.sum(axis=2) @ np.arange(41)) / weight - 20
    np.testing.assert_allclose(np.hypot(x, y), 15, atol=0.2)
    degrees = np.degrees(np.arctan2(-y, x))
    assert np.abs(degrees).max() < 40.5
    counts = np.histogram(degrees, bins=8, range=(-40, 40))[0]
    assert np.abs(counts - 125).max() < 4 * np.sqrt(125)


@each_shape
def test_crop_shows_the_inside_only(run, images):
    result = changed(run, np.full_like(images, 0.75), crop=0.3)
    np.testing.assert_allclose(result, 0.75, atol=1e-5)


def test_crop_enlarges_by_up_to_its_share_anywhere(run):
    """On a picture of its own coordinates, the cropped part can be read off."""
    y, x = np.meshgrid(np.linspace(0, 1, 8), np.linspace(0, 1, 11), indexing="ij")
    images = np.tile(np.stack([x, y], axis=-1).astype(np.float32), (1000, 1, 1, 1))
    result = changed(run, images, crop=0.6)
    left, right = result[:, 0, 0, 0], result[:, -1, -1, 0]
    top, bottom = result[:, 0, 0, 1], result[:, -1, -1, 1]
    side = right - left
    np.testing.assert_allclose(bottom - top, side, atol=1e-5)  # the proportions stay
    counts = np.histogram(side, bins=4, range=(0.6 - 1e-5, 1 + 1e-5))[0]
    assert counts.sum() == 1000
    assert np.abs(counts - 250).max() < 4 * np.sqrt(250)
    # The position is uniform in what room there is, along both axes independently.
    positions = np.stack([left, top]) / (1 - side)
    for position in positions:
        counts = np.histogram(position, bins=4, range=(-0.01, 1.01))[0]
        assert counts.sum() == 1000
        assert np.abs(counts - 250).max() < 4 * np.sqrt(250)
    assert abs(np.corrcoef(positions)[0, 1]) < 0.12
    # In between, the coordinates run on evenly.
    np.testing.assert_allclose(np.diff(result[..., 0], 2, axis=2), 0, atol=1e-5)


def erased_rectangles(run, images, probability):
    """Which images are erased, and of these the rectangles' sizes and corners, [n, 2] each."""
    result = changed(run, images, erasing=probability)
    erased = (result == 0).all(axis=3)  # [B, H, W]
    # Elsewhere, no pixel has changed.
    np.testing.assert_array_equal(result, np.where(erased[..., None], 0, images))
    hit = erased.any(axis=(1, 2))
    corners, sizes = [], []
    for mask in erased[hit]:
        rows, columns = np.nonzero(mask)
        corners.append([rows.min(), columns.min()])
        sizes.append([np.ptp(rows) + 1, np.ptp(columns) + 1])
        assert np.prod(sizes[-1]) == mask.sum()  # a full rectangle
    return hit, np.array(sizes), np.array(corners)


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 40, 3), (60, 6, 1), (6, 60, 1), (2, 3, 1)])
@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_erasing_leaves_a_rectangle_of_the_right_area(run, shape, probability):
    images = RNG.uniform(0.1, 1, (1000, *shape)).astype(np.float32)
    hit, sizes, corners = erased_rectangles(run, images, probability)
    spread = np.sqrt(1000 * probability * (1 - probability))
    assert abs(hit.sum() - 1000 * probability) <= 4 * spread
    # The sides are rounded to whole pixels, of which there is one at the least.
    area = shape[0] * shape[1]
    assert (np.prod(sizes + 0.5, axis=1) >= 0.02 * area).all()
    assert (np.prod(sizes - 0.5, axis=1) <= 0.4 * area).all()
    # It reaches all four edges, in some image or other.
    assert (corners == 0).any(axis=0).all()
    assert (corners + sizes == shape[:2]).any(axis=0).all()


@pytest.mark.parametrize("shape", [(20, 80), (80, 20), (10, 160), (160, 10)])
def test_erased_areas_are_uniform_in_long_images_too(shape):
    """Where most aspects do not fit: 4 and 16 times as long as wide."""
    images = tf.ones([2000, *shape, 1])
    shares = tf.reduce_mean(1 - augment(images, SEED, Augment(erasing=1.0)), axis=[1, 2, 3])
    counts = np.histogram(shares, bins=4, range=(0.02, 0.4))[0]
    assert np.abs(counts - 500).max() < 4 * np.sqrt(500)


def test_erased_areas_aspects_and_positions(run):
    images = np.ones((2000, 40, 40, 1), np.float32)
    _, sizes, corners = erased_rectangles(run, images, 1.0)
    height, width = sizes.T
    # Aspects are within 0.3 and 1 / 0.3 up to rounding, and tall is as likely as wide.
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all()
    assert ((width + 0.5) / (height - 0.5) >= 0.3).all()
    assert (height > 2.5 * width).any() and (width > 2.5 * height).any()
    assert abs((height > width).sum() - (height < width).sum()) < 4 * np.sqrt(2000)
    # Areas are uniform from 2 to 40 %.
    counts = np.histogram(height * width / 1600, bins=4, range=(0.02, 0.4))[0]
    assert np.abs(counts - 500).max() < 4 * np.sqrt(500)
    # Positions are uniform in what room there is, along both axes independently.
    room = 40 - sizes
    positions = (corners + 0.5) / (room + 1)
    for position in positions.T:
        counts = np.histogram(position, bins=4, range=(0, 1))[0]
        assert np.abs(counts - 500).max() < 4 * np.sqrt(500)
    assert abs(np.corrcoef(positions.T)[0, 1]) < 4 / np.sqrt(500)


def test_erasing_comes_last(run):
    """What is erased is not turned: it is a rectangle with upright sides, 0 to its corners."""
    images = np.ones((200, 28, 28, 1), np.float32)
    turned = changed(run, images, rotation=45.0)
    both = changed(run, images, rotation=45.0, erasing=1.0)
    for before, after in zip(turned, both, strict=True):
        rows, columns, _ = np.nonzero(before != after)
        if len(rows):
            assert not after[min(rows) : max(rows) + 1, min(columns) : max(columns) + 1].any()


@each_shape
def test_warping_is_bilinear_with_zeros_outside(run, images):
    """Against scipy's interpolation of order 1, at points inside, on the border and far outside."""
    images = images[:20]
    displacements = RNG.normal(0, 3, (*images.shape[:3], 2)).astype(np.float32)
    displacements[:5] = displacements[:5].round()
    displacements[-1] = 1e6
    result = run(warp_images, images, displacements)
    y, x = np.indices(images.shape[1:3])
    for image, displacement, found in zip(images, displacements, result, strict=True):
        points = [y + displacement[..., 1], x + displacement[..., 0]]
        for channel in range(images.shape[3]):
            padded = np.pad(image[..., channel], 1)
            expected = scipy.ndimage.map_coordinates(
                padded, np.add(points, 1), order=1, mode="nearest"
            )
            np.testing.assert_allclose(found[..., channel], expected, atol=1e-4)


def test_warping_by_whole_pixels_copies_them(run):
    displacements = np.broadcast_to(np.float32([2, -1]), (*GREY.shape[:3], 2))
    result = run(warp_images, GREY, displacements)
    np.testing.assert_array_equal(result, [shifted(image, -2, 1) for image in GREY])


def test_elastic_is_smooth_and_of_its_size(run):
    """On a picture of its own coordinates, the displacements can be read off."""
    y, x = np.indices((28, 28), dtype=np.float32) / 100 + 0.3
    images = np.tile(np.stack([x, y, y], axis=-1), (500, 1, 1, 1))
    result = changed(run, images, elastic=1.5)
    # Away from the border, where what comes in from outside is no coordinate.
    displacements = 100 * (result - images)[:, 8:-8, 8:-8, :2]
    assert np.abs(displacements.mean(axis=0)).max() < 4 * 1.5 / np.sqrt(500)
    # 1.5 at the points of the grid, the third pixel and every seventh after it; in between the
    # weights of the points' numbers are smaller together.
    deviations = displacements.std(axis=0)
    assert deviations.min() > 0.8
    assert deviations.max() < 1.7
    # Along a line they are, at the most, those of a cubic through points 7 pixels apart.
    assert np.abs(np.diff(displacements, 2, axis=2)).max() < 1.5 * 4 / 7
    correlation = np.corrcoef(displacements[:, 6, 6, 0], displacements[:, 6, 6, 1])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(500)
