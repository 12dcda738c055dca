"""Changes of where pixels are: crop, mirroring, rotation, shift, and elastic distortion."""

import math

from model.augment.draws import normal, uniform, whole
from model.estimator import tf
from src.params.schema import Augment

# The number of random displacements along each axis.
_ELASTIC_GRID = 4
# How TensorFlow's resampling names each `fill`, and the value outside the image if it is constant.
# Its REFLECT repeats the pixel at the edge: d c b a | a b c d | d c b a.
_FILL_MODES = {
    "black": ("CONSTANT", 0.0),
    "white": ("CONSTANT", 1.0),
    "edge": ("NEAREST", 0.0),
    "reflect": ("REFLECT", 0.0),
}


def transform_images(images: tf.Tensor, transforms: tf.Tensor, fill: str = "black") -> tf.Tensor:
    """Resample each image bilinearly.

    Args:
        images: float32 [B, H, W, C].
        transforms: float32 [B, 8], as `affine_transforms` returns them.
        fill: what is outside the image: "black" (0), "white" (1), "edge" (the nearest pixel) or
            "reflect" (the image mirrored at its edges, again and again).

    Returns:
        float32 [B, H, W, C].
    """
    mode, value = _FILL_MODES[fill]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=value,
        interpolation="BILINEAR",
        fill_mode=mode,
    )


def warp_images(images: tf.Tensor, displacements: tf.Tensor, fill: str = "black") -> tf.Tensor:
    """Resample each image bilinearly at displaced points.

    Args:
        images: float32 [B, H, W, C].
        displacements: float32 [B, H, W, 2], dx and dy: pixel (x, y) of the result shows the point
            (x + dx, y + dy) of the image.
        fill: see `transform_images`.

    Returns:
        float32 [B, H, W, C].
    """
    height, width, channels = images.shape[1:]
    # Add a border, one pixel wide; points farther outside are moved to it.
    border = [[0, 0], [1, 1], [1, 1], [0, 0]]
    if fill in ("edge", "reflect"):
        padded = tf.pad(images, border, "SYMMETRIC")  # the edge, repeated once
    else:
        padded = tf.pad(images, border, constant_values=_FILL_MODES[fill][1])
    x = tf.range(1.0, width + 1.0) + displacements[..., 0]  # [B, H, W]
    y = tf.range(1.0, height + 1.0)[:, None] + displacements[..., 1]
    if fill == "reflect":
        x, y = _reflected(x, width), _reflected(y, height)
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


def _reflected(positions: tf.Tensor, length: int) -> tf.Tensor:
    """Move positions outside the image inside, as mirrored at its edges, 0.5 and `length` + 0.5."""
    beyond = tf.math.floormod(positions - 0.5, 2.0 * length)
    return tf.minimum(beyond, 2.0 * length - beyond) + 0.5


def affine_transforms(
    size: tuple[int, int],
    *,
    sides: tuple[tf.Tensor, tf.Tensor],
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
        sides: float32 [B] each, along x and y, the cropped part's share of the distance from the
            first pixel to the last; the part is enlarged to the whole image.
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
    side_x, side_y = tf.where(mirrored, -sides[0], sides[0]), sides[1]
    # The map goes from the result back to the image. Because y points down, these are the signs.
    a0, a1 = side_x * tf.cos(angle), -side_x * tf.sin(angle)
    b0, b1 = side_y * tf.sin(angle), side_y * tf.cos(angle)
    # The point of the result where the centre of the cropped part lies.
    x, y = middle_x + shift[:, 0], middle_y + shift[:, 1]
    a2 = middle_x + center[:, 0] - (a0 * x + a1 * y)
    b2 = middle_y + center[:, 1] - (b0 * x + b1 * y)
    zero = tf.zeros_like(side_y)
    return tf.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)  # [B, 8]


def random_transforms(images: tf.Tensor, seed: tf.Tensor, params: Augment) -> tf.Tensor:
    """Return a random transform for each image; changes that are off are the identity.

    Args:
        images: float32 [B, H, W, C].
        seed: see `augment`.
        params: `crop` or `crop_area` and `crop_ratio`, `flip`, `rotation`, `shift`.

    Returns:
        float32 [B, 8]; see `affine_transforms`.
    """
    height, width = images.shape[1:3]
    batch = tf.shape(images)[0]
    if params.crop_area is None:
        side = uniform(seed, "crop side", [batch], params.crop, 1.0)
        sides, missing = (side, side), (1.0 - side)[:, None]  # [B, 1]
    else:
        sides = _random_sides(images, seed, params.crop_area, params.crop_ratio)
        missing = 1.0 - tf.stack(sides, axis=1)  # [B, 2]
    # The largest distance of the cropped part from the centre within the image.
    room = missing * [(width - 1) / 2, (height - 1) / 2]  # [B, 2]
    return affine_transforms(
        (height, width),
        sides=sides,
        center=room * uniform(seed, "crop center", [batch, 2], -1.0, 1.0),
        mirrored=uniform(seed, "mirrored", [batch], 0.0, 1.0) < (0.5 if params.flip else 0.0),
        angle=math.radians(params.rotation) * uniform(seed, "angle", [batch], -1.0, 1.0),
        shift=whole(seed, "shift", tf.fill([batch, 2], 2.0 * params.shift + 1.0)) - params.shift,
    )


def _random_sides(
    images: tf.Tensor, seed: tf.Tensor, areas: tuple[float, ...], ratios: tuple[float, ...]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the sides of cropped parts as shares of the image's, along x and y, float32 [B] each.

    The area is uniform. The logarithm of width / height is uniform among those that fit into the
    image at this area. torchvision's `RandomResizedCrop` draws both anew until the part fits, so it
    has fewer large areas; and its parts are whole pixels.
    """
    batch = tf.shape(images)[0]
    of_image = images.shape[2] / images.shape[1]
    area = uniform(seed, "crop area", [batch], areas[0], areas[1])
    narrowest, widest = area * of_image, of_image / area
    low, high = (tf.minimum(tf.maximum(ratio, narrowest), widest) for ratio in ratios)
    mix = uniform(seed, "crop ratio", [batch], 0.0, 1.0)
    ratio = tf.exp((1.0 - mix) * tf.math.log(low) + mix * tf.math.log(high)) / of_image
    return tf.minimum(tf.sqrt(area * ratio), 1.0), tf.minimum(tf.sqrt(area / ratio), 1.0)


def random_displacements(images: tf.Tensor, seed: tf.Tensor, pixels: float) -> tf.Tensor:
    """Return smooth random displacements for `warp_images`.

    Args:
        images: float32 [B, H, W, C].
        seed: see `augment`.
        pixels: their standard deviation at the grid points.

    Returns:
        float32 [B, H, W, 2].
    """
    height, width = images.shape[1:3]
    grid_shape = [tf.shape(images)[0], _ELASTIC_GRID, _ELASTIC_GRID, 2]
    grid = pixels * normal(seed, "displacements", grid_shape)
    return tf.image.resize(grid, (height, width), method="bicubic")
