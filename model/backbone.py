"""What networks with a pretrained part share: images brought to it, frozen layers, the embedding.

The pretrained part, called the application, maps images [B, S, S, 3] to features. Its last layer is
global average pooling, unless a network has another `pooling`.
"""

from collections.abc import Callable

from model.estimator import keras, tf
from model.unit_length import UnitLength
from src.errors import UserError
from src.params.schema import Params
from src.registry import did_you_mean

APPLICATION_LAYER = "application"


def application_name(params: Params) -> str:
    """Return how messages name the application."""
    return params.application if params.network == "keras_application" else params.network


def prepared(
    params: Params, image_shape: tuple[int, int, int], preprocess: Callable[[tf.Tensor], tf.Tensor]
) -> tuple[keras.layers.Input, tf.Tensor]:
    """Return a network's input, and what its application gets.

    Grey images are repeated to three channels. All images are resized to `input_size` and
    preprocessed.

    Args:
        params: `input_size`, `resize`.
        image_shape: (H, W, C), in pixels and channels.
        preprocess: float32 [B, S, S, 3] in [0, 1] -> float32 [B, S, S, 3], as the application
            requires.

    Raises:
        UserError: the images are too large for `resize`.
    """
    layers = keras.layers
    x = images = keras.Input(image_shape, name="images")
    if image_shape[2] == 1:
        x = layers.Lambda(tf.image.grayscale_to_rgb, dtype="float32", name="grey_to_rgb")(x)
    if params.input_size is not None and (params.input_size,) * 2 != tuple(image_shape[:2]):
        x = layers.Lambda(_resize(params, image_shape), dtype="float32", name="resize")(x)
    return images, layers.Lambda(preprocess, dtype="float32", name="preprocess")(x)


def embedding_network(
    params: Params, images: tf.Tensor, prepared_images: tf.Tensor, application: keras.Model
) -> keras.Model:
    """Return the network: the application, its first layers frozen, then one dense layer.

    Args:
        params: `frozen_layers`, `embedding_size`, `l2_normalize`.
        images: the input, as `prepared` returns it.
        prepared_images: what the application gets.
        application: float32 [B, S, S, 3] -> float32 [B, features].

    Raises:
        UserError: the layers to freeze do not exist.
    """
    layers = keras.layers
    freeze(application, params)
    x = application(prepared_images)  # [B, features]
    x = layers.Dense(params.embedding_size, dtype="float32", name="embedding")(x)  # [B, D]
    if params.l2_normalize:
        x = UnitLength(dtype="float32", name="l2_normalize")(x)
    return keras.Model(images, x, name=params.network)


def freeze(application: keras.Model, params: Params) -> None:
    """Freeze the first layers, in the order of `application.layers`; the input is the first.

    Raises:
        UserError: there are too few layers, or no layer has this name.
    """
    names = [layer.name for layer in application.layers]
    count = params.frozen_layers
    if isinstance(count, str):
        if count not in names:
            raise UserError(
                f'frozen_layers: found "{count}"; accepted: a layer of {application_name(params)}, '
                f"such as '{names[1]}' or '{names[-1]}', or how many layers"
                f"{did_you_mean(count, names)}"
            )
        count = names.index(count) + 1
    if count > len(names):
        raise UserError(
            f"frozen_layers: found {count}; accepted: at most {len(names)}, the layers of "
            f"{application_name(params)}, or a layer's name"
        )
    for layer in application.layers[:count]:
        layer.trainable = False


def _resize(params: Params, image_shape: tuple[int, int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function that resizes images [B, H, W, 3] to `input_size`."""
    side = params.input_size
    if params.resize == "scale":
        return lambda images: tf.image.resize(images, (side, side), antialias=True)
    if max(image_shape[:2]) > side:
        raise UserError(
            f'resize: found "pad", for images of {image_shape[0]} x {image_shape[1]} pixels and '
            f'input_size {side}; accepted: "scale", or an input_size of at least '
            f"{max(image_shape[:2])}"
        )
    return lambda images: tf.image.resize_with_crop_or_pad(images, side, side)
