"""Colours, blur, fills and random resized crops, against definitions in NumPy."""

import colorsys
from functools import cache

import numpy as np
import pytest
import scipy.ndimage

from model.augment.batch import augment
from model.augment.colors import grey_values
from model.augment.draws import uniform
from model.augment.geometry import affine_transforms, transform_images, warp_images
from model.estimator import tf
from src.params.schema import Augment

RNG = np.random.default_rng(0)
COLOUR = RNG.random((60, 7, 5, 3)).astype(np.float32)
GREY = RNG.random((60, 8, 11, 1)).astype(np.float32)
SEED = (7, 100)
LUMA = np.float32([0.299, 0.587, 0.114])  # Pillow's `convert("L")`: 299, 587 and 114 thousandths
ALL = {
    **{"fill": "reflect", "shift": 2, "crop_area": (0.3, 1.0), "brightness": 0.4, "contrast": 0.4},
    **{"saturation": 0.4, "hue": 0.1, "grayscale": 0.2, "blur": 1.5, "erasing": 0.5},
}


@cache
def by(seed, **params):
    return lambda images: augment(images, tf.constant(seed, tf.int64), Augment(**params))


def changed(run, images, seed=SEED, **params):
    return run(by(seed, **params), images)


def drawn(name, low, high, count=60):
    """The amounts of a change, one for each image."""
    return np.asarray(uniform(tf.constant(SEED, tf.int64), name, [count], low, high))


def blended(image, other, share):
    """torchvision's `_blend`, of `adjust_brightness`, `adjust_contrast`, `adjust_saturation`."""
    return np.clip(share * image + (1 - share) * other, 0, 1)


OTHERS = {
    "brightness": lambda image: 0,
    "contrast": lambda image: np.mean(image @ LUMA if image.shape[2] == 3 else image),
    "saturation": lambda image: (image @ LUMA)[..., None],
}


@pytest.mark.parametrize(
    ("name", "images"),
    [*((name, COLOUR) for name in OTHERS), ("brightness", GREY), ("contrast", GREY)],
)
def test_blends_are_those_of_torchvision(run, name, images):
    result = changed(run, images, **{name: 0.4})
    shares = drawn(name, 0.6, 1.4)
    assert shares.min() < 0.65 and shares.max() > 1.35
    for before, after, share in zip(images, result, shares, strict=True):
        np.testing.assert_allclose(after, blended(before, OTHERS[name](before), share), atol=1e-5)


def test_hue_turns_the_colour_circle(run):
    """By the HSV of Python's standard library."""
    images = COLOUR[:20].copy()
    images[0] = 0.5  # grey has no hue
    result = changed(run, images, hue=0.5)
    for before, after, turn in zip(images, result, drawn("hue", -0.5, 0.5, 20), strict=True):
        for old, new in zip(before.reshape(-1, 3), after.reshape(-1, 3), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*old.tolist())
            expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            np.testing.assert_allclose(new, expected, atol=1e-4)


def test_a_share_of_the_images_becomes_grey(run):
    images = np.tile(COLOUR, (10, 1, 1, 1))
    result = changed(run, images, grayscale=0.3)
    grey = np.repeat((images @ LUMA)[..., None], 3, axis=3)
    is_grey = np.isclose(result, grey, atol=1e-6).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(result[~is_grey], images[~is_grey])
    assert abs(is_grey.sum() - 180) < 4 * np.sqrt(600 * 0.3 * 0.7)


def test_white_stays_white_and_grey_stays_grey():
    np.testing.assert_allclose(grey_values(tf.ones([1, 2, 2, 3])), 1, atol=1e-6)
    images = tf.constant(GREY)
    assert grey_values(images) is images


@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_blur_is_a_gaussian_over_the_pixels_of_the_image(run, images):
    result = changed(run, images, blur=2.0)
    for before, after, deviation in zip(images, result, drawn("blur", 0, 2.0), strict=True):
        expected = before
        for axis, length in enumerate(before.shape[:2]):
            weights = np.zeros((length, length))
            for i in range(length):
                for j in range(length):
                    weights[i, j] = np.exp(-0.5 * ((i - j) / max(deviation, 1e-3)) ** 2)
                weights[i] /= weights[i].sum()
            expected = np.moveaxis(np.tensordot(weights, expected, (1, axis)), 0, axis)
        np.testing.assert_allclose(after, expected, atol=1e-5)


def test_colours_are_changed_in_the_documented_order(run):
    """Brightness comes before contrast; erasing comes last, in the colour of `fill`."""
    one, two = drawn("brightness", 0.1, 1.9), drawn("contrast", 0.1, 1.9)
    result = changed(run, COLOUR, brightness=0.9, contrast=0.9)
    for before, after, first, second in zip(COLOUR, result, one, two, strict=True):
        bright = blended(before, 0, first)
        expected = blended(bright, OTHERS["contrast"](bright), second)
        np.testing.assert_allclose(after, expected, atol=1e-5)
    dark = changed(run, COLOUR * 0.5, brightness=0.2, blur=1.0, erasing=1.0, fill="white")
    assert ((dark == 1).all(axis=3).sum(axis=(1, 2)) >= 1).all()


FILLS = {  # numpy.pad's names
    "black": {"mode": "constant"},
    "white": {"mode": "constant", "constant_values": 1},
    "edge": {"mode": "edge"},
    "reflect": {"mode": "symmetric"},
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("images", [GREY[:4], COLOUR[:4]], ids=["grey", "colour"])
@pytest.mark.parametrize("shift", [(2, -1), (-3, 4), (13, -19)])
def test_fills_are_those_of_numpy_pad(run, images, fill, shift):
    """Whole-pixel shifts by less than the image, and by more: both ways to resample."""
    height, width = images.shape[1:3]
    room = [(0, 0), (20, 20), (20, 20), (0, 0)]
    padded = np.pad(images, room, **FILLS[fill])
    right, down = shift
    expected = padded[:, 20 - down : 20 - down + height, 20 - right : 20 - right + width]
    count = len(images)
    transforms = affine_transforms(
        (height, width),
        sides=(tf.ones(count), tf.ones(count)),
        center=tf.zeros([count, 2]),
        mirrored=tf.fill([count], False),
        angle=tf.zeros(count),
        shift=tf.constant([shift] * count, tf.float32),
    )
    moved = transform_images(tf.constant(images), transforms, fill)
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    displacements = np.broadcast_to(np.float32([-right, -down]), (*images.shape[:3], 2))
    warped = run(lambda x, y: warp_images(x, y, fill), images, displacements)
    np.testing.assert_allclose(warped, expected, atol=1e-6)


@pytest.mark.parametrize(("fill", "mode"), [("edge", "nearest"), ("reflect", "reflect")])
def test_fills_between_pixels_are_those_of_scipy(fill, mode):
    images = GREY[:20]
    displacements = RNG.normal(0, 5, (*images.shape[:3], 2)).astype(np.float32)
    result = np.asarray(warp_images(tf.constant(images), tf.constant(displacements), fill))
    y, x = np.indices(images.shape[1:3])
    for image, by_pixel, found in zip(images[..., 0], displacements, result[..., 0], strict=True):
        points = [y + by_pixel[..., 1], x + by_pixel[..., 0]]
        expected = scipy.ndimage.map_coordinates(image, points, order=1, mode=mode)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(20, 20), (20, 60), (60, 20)])
def test_crops_by_area_and_ratio(run, shape):
    """On a picture of its own coordinates, the cropped part can be read off."""
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    images = np.tile(np.stack([x, y, y], axis=-1).astype(np.float32), (1000, 1, 1, 1))
    result = changed(run, images, crop_area=(0.2, 0.6), crop_ratio=(0.5, 2.0))
    left, top = result[:, 0, 0, 0], result[:, 0, 0, 1]
    width, height = result[:, -1, -1, 0] - left, result[:, -1, -1, 1] - top
    assert min(left.min(), top.min()) > -1e-5
    assert max((left + width).max(), (top + height).max()) < 1 + 1e-5
    counts = np.histogram(width * height, bins=4, range=(0.2 - 1e-5, 0.6 + 1e-5))[0]
    assert counts.sum() == 1000 and np.abs(counts - 250).max() < 4 * np.sqrt(250)
    ratio = (width * shape[1]) / (height * shape[0])
    of_image = shape[1] / shape[0]
    fits = np.clip([0.5, 2.0], 0.2 * of_image, of_image / 0.2)
    assert ratio.min() > fits[0] - 1e-3 and ratio.max() < fits[1] + 1e-3
    if shape[0] == shape[1]:
        assert abs((ratio > 1).sum() - 500) < 4 * np.sqrt(250)
        assert ratio.min() < 0.6 and ratio.max() > 1.7
    assert abs(np.corrcoef(left / (1 - width + 1e-9), top / (1 - height + 1e-9))[0, 1]) < 0.15


@pytest.mark.parametrize("images", [COLOUR, np.ones_like(COLOUR), np.zeros_like(COLOUR)])
def test_all_together_stay_in_range_and_depend_on_seed_and_step(run, images):
    result = changed(run, images, **ALL)
    assert result.shape == images.shape and result.dtype == np.float32
    assert ((result >= 0) & (result <= 1)).all()
    np.testing.assert_array_equal(result, changed(run, images, **ALL))
    if images is COLOUR:
        for name in ("brightness", "contrast", "saturation", "hue", "grayscale", "blur"):
            only = {name: ALL[name]}
            now = changed(run, images, **only)
            assert (now != images).any()
            assert (now != changed(run, images, seed=(7, 101), **only)).any()
            equal = changed(run, np.repeat(images[:1], 60, axis=0), **only)
            assert (equal != equal[:1]).any()
