"""Random augmentation of a batch of training images: shift, rotation, ..., elastic, erasing."""

import math

from model.estimator import tf
from model.rows import normal_by_row, uniform_by_row
from src.params.schema import Augment
from src.seeds import augmentation_draw

# The number of random displacements along each axis.
_ELASTIC_GRID = 4
# Bounds of the erased rectangle, from arXiv:1708.04896: its share of the image's area, and its
# height / width.
_ERASED_SHARES = (0.02, 0.4)
_ERASED_ASPECTS = (0.3, 1 / 0.3)


def augment(images: tf.Tensor, seed: tf.Tensor, params: Augment) -> tf.Tensor:
    """Augment each image of a batch at random.

    First, each image is cropped, mirrored, turned about its centre and shifted, in this order. This
    is a single bilinear resampling. If only whole-pixel shifts and mirroring are on, pixels are
    copied exactly. Second, the image is bent (elastic), in another resampling. Last, a rectangle is
    erased.

    Pixels from outside the image and erased pixels are 0, like the background of light digits on
    dark. If all changes are off, `images` itself is returned.

    Args:
        images: float32 [B, H, W, C] in [0, 1]; H and W are known when the graph is built.
        seed: integer [2], the seed of the run and the step. The random draws depend only on it and
            on an image's row of the batch (`model/rows.py`), so a resumed run sees the same images
            as an uninterrupted run.
        params: the changes to make, and their sizes.

    Returns:
        float32 [B, H, W, C] in [0, 1].

    Source:
        Elastic: arXiv:1505.04597, section 3.1, but with a 4 x 4 grid instead of 3 x 3.
        Random erasing: arXiv:1708.04896, algorithm 1. The paper draws rectangles until one fits;
        here, the aspect and the position are drawn among those that fit. The logarithm of the
        aspect is uniform, because the two bounds are inverses: tall is as likely as wide.
    """
    if params.shift or params.rotation or params.flip or params.crop < 1:
        images = transform_images(images, _random_transforms(images, seed, params))
    if params.elastic:
        images = warp_images(images, _random_displacements(images, seed, params.elastic))
    if params.erasing:
        images = tf.where(_random_rectangles(images, seed, params.erasing), 0.0, images)
    return images


def transform_images(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Resample each image bilinearly, with zeros outside the image.

    Args:
        images: float32 [B, H, W, C].
        transforms: float32 [B, 8], as `affine_transforms` returns them.

    Returns:
        float32 [B, H, W, C].
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )


def warp_images(images: tf.Tensor, displacements: tf.Tensor) -> tf.Tensor:
    """Resample each image bilinearly at displaced points, with zeros outside the image.

    Args:
        images: float32 [B, H, W, C].
        displacements: float32 [B, H, W, 2], dx and dy: pixel (x, y) of the result shows the point
            (x + dx, y + dy) of the image.

    Returns:
        float32 [B, H, W, C].
    """
    height, width, channels = images.shape[1:]
    # Add a border of zeros, one pixel wide; points farther outside are moved to it.
    padded = tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = tf.range(1.0, width + 1.0) + displacements[..., 0]  # [B, H, W]
    y = tf.range(1.0, height + 1.0)[:, None] + displacements[..., 1]
    x = tf.clip_by_value(x, 0.0, width + 1.0)
    y = tf.clip_by_value(y, 0.0, height + 1.0)
    # The upper left of the four pixels around the point; at most the last but one of the padded
    # image.
    left, top = tf.minimum(tf.floor(x), float(width)), tf.minimum(tf.floor(y), float(height))
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    first = tf.range(tf.shape(images)[0])[:, None, None] * ((height + 2) * (width + 2))
    corner = first + tf.cast(top, tf.int32) * (width + 2) + tf.cast(left, tf.int32)
    pixels = tf.reshape(padded, [-1, channels])

    def row(offset: int) -> tf.Tensor:
        """Interpolate between the two neighbouring pixels at `offset` from the corner."""
        a, b = tf.gather(pixels, corner + offset), tf.gather(pixels, corner + offset + 1)
        return a + right_share * (b - a)

    upper = row(0)
    return upper + lower_share * (row(width + 2) - upper)


def affine_transforms(
    size: tuple[int, int],
    *,
    side: tf.Tensor,
    center: tf.Tensor,
    mirrored: tf.Tensor,
    angle: tf.Tensor,
    shift: tf.Tensor,
) -> tf.Tensor:
    """Return for each image the affine map that crops, mirrors, turns and shifts, in this order.

    The maps act about the image's centre, ((W - 1) / 2, (H - 1) / 2). Pixel centres are at whole
    numbers.

    Args:
        size: H and W.
        side: float32 [B], the cropped part's share of the distance from the first pixel to the
            last, along both axes; the part is enlarged to the whole image.
        center: float32 [B, 2], x and y of the cropped part's centre, in pixels from the image's
            centre.
        mirrored: bool [B], whether left and right are swapped.
        angle: float32 [B], radians, counter-clockwise as seen.
        shift: float32 [B, 2], pixels to the right and down.

    Returns:
        float32 [B, 8], rows (a0, a1, a2, b0, b1, b2, 0, 0): pixel (x, y) of the result shows the
        point (a0 x + a1 y + a2, b0 x + b1 y + b2) of the image.
    """
    middle_y, middle_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    side_x = tf.where(mirrored, -side, side)
    # The map goes from the result back to the image. Because y points down, these are the signs.
    a0, a1 = side_x * tf.cos(angle), -side_x * tf.sin(angle)
    b0, b1 = side * tf.sin(angle), side * tf.cos(angle)
    # The point of the result where the centre of the cropped part lies.
    x, y = middle_x + shift[:, 0], middle_y + shift[:, 1]
    a2 = middle_x + center[:, 0] - (a0 * x + a1 * y)
    b2 = middle_y + center[:, 1] - (b0 * x + b1 * y)
    zero = tf.zeros_like(side)
    return tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)  # [B, 8]


def _random_transforms(images: tf.Tensor, seed: tf.Tensor, params: Augment) -> tf.Tensor:
    """Return float32 [B, 8], a transform for each image; changes that are off are the identity."""
    height, width = images.shape[1:3]
    batch = tf.shape(images)[0]
    side = _uniform(seed, "crop side", [batch], params.crop, 1.0)
    # The largest distance of the cropped part from the centre within the image.
    room = (1.0 - side)[:, None] * [(width - 1) / 2, (height - 1) / 2]  # [B, 2]
    return affine_transforms(
        (height, width),
        side=side,
        center=room * _uniform(seed, "crop center", [batch, 2], -1.0, 1.0),
        mirrored=_uniform(seed, "mirrored", [batch], 0.0, 1.0) < (0.5 if params.flip else 0.0),
        angle=math.radians(params.rotation) * _uniform(seed, "angle", [batch], -1.0, 1.0),
        shift=_whole(seed, "shift", tf.fill([batch, 2], 2.0 * params.shift + 1.0)) - params.shift,
    )


def _random_displacements(images: tf.Tensor, seed: tf.Tensor, pixels: float) -> tf.Tensor:
    """Return smooth float32 [B, H, W, 2]; `pixels` is the standard deviation at the grid points."""
    height, width = images.shape[1:3]
    shape = [tf.shape(images)[0], _ELASTIC_GRID, _ELASTIC_GRID, 2]
    grid = pixels * normal_by_row(shape, _fold_in(seed, "displacements"))
    return tf.image.resize(grid, (height, width), method="bicubic")


def _random_rectangles(images: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Return bool [B, H, W, 1]: with this probability, an image has a rectangle of True."""
    height, width = images.shape[1:3]
    batch = tf.shape(images)[0]
    share = _uniform(seed, "erased share", [batch], *_ERASED_SHARES)
    # Between these aspects, the rectangle fits into the image. If the image is so long that none of
    # the paper's aspects fits, the nearest one that fits is used.
    widest, highest = share * (height / width), (height / width) / share
    low, high = (tf.minimum(tf.maximum(a, widest), highest) for a in _ERASED_ASPECTS)
    mix = _uniform(seed, "erased aspect", [batch], 0.0, 1.0)
    aspect = tf.exp((1.0 - mix) * tf.math.log(low) + mix * tf.math.log(high))
    area = share * float(height * width)
    rows = tf.clip_by_value(tf.round(tf.sqrt(area * aspect)), 1.0, float(height))
    columns = tf.clip_by_value(tf.round(tf.sqrt(area / aspect)), 1.0, float(width))
    top = _whole(seed, "erased top", height - rows + 1.0)
    left = _whole(seed, "erased left", width - columns + 1.0)
    # If nothing is erased, the rectangle has no rows.
    rows = tf.where(_uniform(seed, "is erased", [batch], 0.0, 1.0) < probability, rows, 0.0)
    inside_y = _between(height, top, top + rows)[:, :, None, None]  # [B, H, 1, 1]
    inside_x = _between(width, left, left + columns)[:, None, :, None]  # [B, 1, W, 1]
    return tf.logical_and(inside_y, inside_x)  # [B, H, W, 1]


def _between(length: int, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return bool [B, length]: which of 0, 1, ... lie in [start, end), both of shape [B]."""
    positions = tf.range(float(length))[None, :]  # [1, length]
    return tf.logical_and(positions >= start[:, None], positions < end[:, None])


def _whole(seed: tf.Tensor, draw: str, count: tf.Tensor) -> tf.Tensor:
    """Return whole numbers, uniform in 0 ... `count` - 1, as float32 of the shape of `count`."""
    return tf.floor(count * _uniform(seed, draw, tf.shape(count), 0.0, 1.0))


def _uniform(
    seed: tf.Tensor, draw: str, shape: tf.Tensor | list[tf.Tensor | int], low: float, high: float
) -> tf.Tensor:
    """Return float32 numbers, uniform in [low, high), which depend only on seed, draw and row."""
    return uniform_by_row(shape, _fold_in(seed, draw)) * (high - low) + low


def _fold_in(seed: tf.Tensor, draw: str) -> tf.Tensor:
    """Return the seed of one draw."""
    # int64, because with 32-bit seeds two steps of a long run could get the same seed.
    number = tf.constant(augmentation_draw(draw), tf.int64)
    return tf.random.experimental.stateless_fold_in(seed, number)
