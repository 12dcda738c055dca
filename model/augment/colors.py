"""Changes of colours, and blur. Each image has its own random amount."""

from model.augment.draws import uniform
from model.estimator import tf
from src.params.schema import Augment

# The shares of red, green and blue in an image's grey value: ITU-R BT.601-2, as Pillow has them.
_LUMA = (0.299, 0.587, 0.114)


def jittered(images: tf.Tensor, seed: tf.Tensor, params: Augment) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue, then make some images grey.

    Each of the first three blends the image with another one, f * image + (1 - f) * other, with f
    uniform in [1 - strength, 1 + strength], and clips the result to [0, 1]. The other one is black
    (brightness), the mean of the image's grey values (contrast), or its grey values (saturation).
    Hue turns the colour circle by a share of it, uniform in [-hue, hue].

    Args:
        images: float32 [B, H, W, C] in [0, 1].
        seed: see `augment`.
        params: `brightness`, `contrast`, `saturation`, `hue`, `grayscale`; the last three need
            C = 3.

    Returns:
        float32 [B, H, W, C] in [0, 1]; `images` itself if all are off.

    Source:
        torchvision's `adjust_brightness`, `adjust_contrast`, `adjust_saturation`, `adjust_hue` and
        `RandomGrayscale`, with Pillow's grey values. torchvision has 0.2989 instead of 0.299, which
        makes white a grey of 0.9999. The order is that of arXiv:2002.05709, appendix A.
    """

    def blended(draw: str, strength: float, other: tf.Tensor | float) -> tf.Tensor:
        one_each = [tf.shape(images)[0], 1, 1, 1]
        share = uniform(seed, draw, one_each, 1.0 - strength, 1.0 + strength)
        return tf.clip_by_value(share * images + (1.0 - share) * other, 0.0, 1.0)

    if params.brightness:
        images = blended("brightness", params.brightness, 0.0)
    if params.contrast:
        mean = tf.reduce_mean(grey_values(images), axis=[1, 2], keepdims=True)  # [B, 1, 1, 1]
        images = blended("contrast", params.contrast, mean)
    if params.saturation:
        images = blended("saturation", params.saturation, grey_values(images))
    if params.hue:
        turned = uniform(seed, "hue", [tf.shape(images)[0], 1, 1], -params.hue, params.hue)
        hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(images), axis=-1)
        hue = tf.math.floormod(hue + turned, 1.0)
        images = tf.image.hsv_to_rgb(tf.stack([hue, saturation, value], axis=-1))
    if params.grayscale:
        drawn = uniform(seed, "is grey", [tf.shape(images)[0], 1, 1, 1], 0.0, 1.0)
        is_grey = drawn < params.grayscale
        images = tf.where(is_grey, grey_values(images), images)
    return images


def grey_values(images: tf.Tensor) -> tf.Tensor:
    """Return the grey values of images: [B, H, W, 3] -> [B, H, W, 1]; grey ones are unchanged."""
    if images.shape[3] == 1:
        return images
    return tf.reduce_sum(images * _LUMA, axis=-1, keepdims=True)


def blurred(images: tf.Tensor, seed: tf.Tensor, largest: float) -> tf.Tensor:
    """Blur each image by a Gaussian.

    Args:
        images: float32 [B, H, W, C] in [0, 1].
        seed: see `augment`.
        largest: the largest standard deviation, in pixels; they are uniform from 0.

    Returns:
        float32 [B, H, W, C] in [0, 1].
    """
    deviation = uniform(seed, "blur", [tf.shape(images)[0], 1, 1, 1], 0.0, largest)
    # Along each axis a matrix, so that the Gaussian is exact and each image has its own.
    by_channel = tf.transpose(images, [0, 3, 1, 2])  # [B, C, H, W]
    down = tf.matmul(_gaussians(images.shape[1], deviation), by_channel)
    across = tf.matmul(down, _gaussians(images.shape[2], deviation), transpose_b=True)
    return tf.clip_by_value(tf.transpose(across, [0, 2, 3, 1]), 0.0, 1.0)


def _gaussians(length: int, deviation: tf.Tensor) -> tf.Tensor:
    """Return the weights of pixels j in pixels i, float32 [B, 1, length, length].

    Weights add up to 1 over the pixels of the image: there are none outside.

    Args:
        length: the number of pixels.
        deviation: float32 [B, 1, 1, 1]; 0 leaves a pixel as it is.
    """
    positions = tf.range(float(length))
    distances = positions[:, None] - positions  # [length, length]
    # Far below a pixel: the weight of another pixel is then exactly 0.
    weights = tf.exp(-0.5 * tf.square(distances / tf.maximum(deviation, 1e-3)))
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)
