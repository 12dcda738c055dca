"""Embeds several views of each image, and averages their embeddings (`embed_views`)."""

from collections.abc import Callable

from model.estimator import tf
from src.params.schema import Params

# By how many units the views are shifted, downwards and to the right. The first is the image.
_OFFSETS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))

# A unit is this share of the image's side: one pixel of MNIST.
_SHARE = 1 / 28


def embed_views(
    embed: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, params: Params
) -> tf.Tensor:
    """Return the mean embedding of the views of each image.

    The views are always the same. One view after the other is embedded, in the memory of one.

    Args:
        embed: float32 [B, H, W, C] -> float32 [B, D].
        images: float32 [B, H, W, C].
        params: `embed_views`; `augment.flip`, which allows mirrored views; `l2_normalize`, which
            gives the mean length 1 again.

    Returns:
        float32 [B, D].
    """
    if params.embed_views == 1:
        return embed(images)
    height, width = images.shape[1:3]
    units = [max(1, round(side * _SHARE)) for side in (height, width)]
    chosen = views(params.embed_views, mirrors=params.augment.flip)
    # Pixels beyond the edge are those before it, so that no edge appears that is not in the image.
    padded = tf.pad(images, [[0, 0], *([unit, unit] for unit in units), [0, 0]], "SYMMETRIC")
    rows = tf.constant([units[0] * (1 - down) for down, _, _ in chosen])
    columns = tf.constant([units[1] * (1 - right) for _, right, _ in chosen])
    is_mirrored = tf.constant([mirrored for _, _, mirrored in chosen])

    def add_view(number: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        row, column = rows[number], columns[number]
        view = padded[:, row : row + height, column : column + width]
        view = tf.where(is_mirrored[number], tf.reverse(view, [2]), view)
        view.set_shape(images.shape)
        return number + 1, total + embed(view)

    total = tf.zeros([tf.shape(images)[0], params.embedding_size])
    _, total = tf.while_loop(
        lambda number, _: number < len(chosen),
        add_view,
        [0, total],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, params.embedding_size])],
        parallel_iterations=1,
    )
    mean = total / len(chosen)
    mean.set_shape([images.shape[0], params.embedding_size])
    return tf.math.l2_normalize(mean, axis=1) if params.l2_normalize else mean


def views(number: int, *, mirrors: bool) -> list[tuple[int, int, bool]]:
    """Return the first views: the shifts down and to the right, in units, and whether mirrored.

    Args:
        number: from 1 to 9.
        mirrors: whether each shifted image is followed by its mirror image, left and right.
    """
    kinds = (False, True) if mirrors else (False,)
    return [(*offset, mirrored) for offset in _OFFSETS for mirrored in kinds][:number]
