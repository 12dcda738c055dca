"""The rectangles of random erasing."""

from model.augment.draws import uniform, whole
from model.estimator import tf

# Bounds of the erased rectangle, from arXiv:1708.04896: its share of the image's area, and its
# height / width.
_ERASED_SHARES = (0.02, 0.4)
_ERASED_ASPECTS = (0.3, 1 / 0.3)


def random_rectangles(images: tf.Tensor, seed: tf.Tensor, probability: float) -> tf.Tensor:
    """Return the pixels to erase: with this probability, an image has a rectangle of True.

    Args:
        images: float32 [B, H, W, C].
        seed: see `augment`.
        probability: the share of the images that have a rectangle.

    Returns:
        bool [B, H, W, 1].
    """
    height, width = images.shape[1:3]
    batch = tf.shape(images)[0]
    share = uniform(seed, "erased share", [batch], *_ERASED_SHARES)
    # Between these aspects, the rectangle fits into the image. If the image is so long that none of
    # the paper's aspects fits, the nearest one that fits is used.
    widest, highest = share * (height / width), (height / width) / share
    low, high = (tf.minimum(tf.maximum(a, widest), highest) for a in _ERASED_ASPECTS)
    mix = uniform(seed, "erased aspect", [batch], 0.0, 1.0)
    aspect = tf.exp((1.0 - mix) * tf.math.log(low) + mix * tf.math.log(high))
    area = share * float(height * width)
    rows = tf.clip_by_value(tf.round(tf.sqrt(area * aspect)), 1.0, float(height))
    columns = tf.clip_by_value(tf.round(tf.sqrt(area / aspect)), 1.0, float(width))
    top = whole(seed, "erased top", height - rows + 1.0)
    left = whole(seed, "erased left", width - columns + 1.0)
    # If nothing is erased, the rectangle has no rows.
    rows = tf.where(uniform(seed, "is erased", [batch], 0.0, 1.0) < probability, rows, 0.0)
    inside_y = _between(height, top, top + rows)[:, :, None, None]  # [B, H, 1, 1]
    inside_x = _between(width, left, left + columns)[:, None, :, None]  # [B, 1, W, 1]
    return tf.logical_and(inside_y, inside_x)  # [B, H, W, 1]


def _between(length: int, start: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Return bool [B, length]: which of 0, 1, ... lie in [start, end), both of shape [B]."""
    positions = tf.range(float(length))[None, :]  # [1, length]
    return tf.logical_and(positions >= start[:, None], positions < end[:, None])
