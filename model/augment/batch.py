"""Random augmentation of a batch of training images, in a fixed order of changes."""

from model.augment.colors import blurred, jittered
from model.augment.erasing import random_rectangles
from model.augment.geometry import (
    random_displacements,
    random_transforms,
    transform_images,
    warp_images,
)
from model.estimator import tf
from src.params.schema import Augment


def augment(images: tf.Tensor, seed: tf.Tensor, params: Augment) -> tf.Tensor:
    """Augment each image of a batch at random.

    First, each image is cropped, mirrored, turned about its centre and shifted, in this order. This
    is a single bilinear resampling. If only whole-pixel shifts and mirroring are on, pixels are
    copied exactly. Second, the image is bent (elastic), in another resampling. Third, its colours
    change (brightness, contrast, saturation, hue, grey, in this order), and it is blurred. Last, a
    rectangle is erased.

    `fill` determines the pixels from outside the image. By default they are 0, like the background
    of light digits on dark. Erased pixels are 1 if `fill` is white, otherwise 0. If all changes are
    off, `images` itself is returned.

    Args:
        images: float32 [B, H, W, C] in [0, 1]; H, W and C are known when the graph is built.
        seed: integer [2], the seed of the run and the step. The random draws depend only on it and
            on an image's row of the batch (`model/rows.py`), so a resumed run sees the same images
            as an uninterrupted run.
        params: the changes to make, and their sizes. Saturation, hue and grey need C = 3.

    Returns:
        float32 [B, H, W, C] in [0, 1].

    Source:
        Elastic: arXiv:1505.04597, section 3.1, but with a 4 x 4 grid instead of 3 x 3.
        Colours: `ColorJitter` of torchvision, whose order is random.
        Random erasing: arXiv:1708.04896, algorithm 1. The paper draws rectangles until one fits;
        here, the aspect and the position are drawn among those that fit. The logarithm of the
        aspect is uniform, because the two bounds are inverses: tall is as likely as wide.
    """
    is_cropped = params.crop < 1 or params.crop_area is not None
    if params.shift or params.rotation or params.flip or is_cropped:
        transforms = random_transforms(images, seed, params)
        images = transform_images(images, transforms, params.fill)
    if params.elastic:
        displacements = random_displacements(images, seed, params.elastic)
        images = warp_images(images, displacements, params.fill)
    images = jittered(images, seed, params)
    if params.blur:
        images = blurred(images, seed, params.blur)
    if params.erasing:
        erased = 1.0 if params.fill == "white" else 0.0
        images = tf.where(random_rectangles(images, seed, params.erasing), erased, images)
    return images
