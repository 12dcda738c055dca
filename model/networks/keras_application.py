"""A network of `keras.applications` whose classifier is replaced by an embedding layer."""

import re
import sys
from collections.abc import Callable

from model.estimator import keras, tf
from src.errors import UserError
from src.params.schema import Params
from src.registry import did_you_mean

APPLICATION_LAYER = "application"


def build(params: Params, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network with random weights; `model/pretrained.py` loads pretrained weights.

    Grey images are repeated to three channels. All images are resized to `input_size` and
    preprocessed as the application requires. Global average pooling and one dense layer produce the
    embedding.

    Args:
        params: `application`, `frozen_layers`, `input_size`, `resize`, `embedding_size`,
            `l2_normalize`.
        image_shape: (H, W, C), in pixels and channels.

    Returns:
        A Keras model: float32 [B, H, W, C] in [0, 1] -> float32 [B, D]. The application is its
        layer `APPLICATION_LAYER`. Frozen layers in it are not trainable: training changes neither
        their weights nor batch normalization's moving statistics, which are used as they are.

    Raises:
        UserError: the images or `input_size` are too small for the application, or the layers to
            freeze do not exist.
    """
    layers = keras.layers
    images = keras.Input(image_shape, name="images")
    x = images
    if image_shape[2] == 1:
        x = layers.Lambda(tf.image.grayscale_to_rgb, dtype="float32", name="grey_to_rgb")(x)
    if params.input_size is not None and (params.input_size,) * 2 != tuple(image_shape[:2]):
        x = layers.Lambda(_resize(params, image_shape), dtype="float32", name="resize")(x)
    x = layers.Lambda(_preprocess(params), dtype="float32", name="preprocess")(x)
    application = build_application(params, tuple(x.shape[1:]))
    freeze(application, params)
    x = application(x)  # [B, features]
    x = layers.Dense(params.embedding_size, dtype="float32", name="embedding")(x)  # [B, D]
    if params.l2_normalize:
        x = layers.UnitNormalization(dtype="float32", name="l2_normalize")(x)
    return keras.Model(images, x, name="keras_application")


def build_application(
    params: Params, input_shape: tuple[int, int, int] | None = None, weights: str | None = None
) -> keras.Model:
    """Build only the application: preprocessed images -> float32 [B, features].

    Args:
        params: `application`, `input_size`.
        input_shape: (H, W, 3); None for any.
        weights: None for random weights; or "imagenet", which works only in eager execution.

    Raises:
        UserError: the input is too small.
    """
    function = getattr(keras.applications, params.application)
    try:
        application = function(
            include_top=False, weights=weights, input_shape=input_shape, pooling="avg"
        )
    except ValueError as error:
        smallest = re.search(r"at least (\d+)", str(error))
        if not (smallest and input_shape):
            raise
        found = f"{params.input_size or 'nothing'}, and images of {input_shape[0]} x "
        raise UserError(
            f"input_size: found {found}{input_shape[1]} pixels; accepted: at least {smallest[1]}, "
            f"for application {params.application}"
        ) from None
    return keras.Model(application.input, application.output, name=APPLICATION_LAYER)


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
                f'frozen_layers: found "{count}"; accepted: a layer of {params.application}, such '
                f"as '{names[1]}' or '{names[-1]}', or how many layers"
                f"{did_you_mean(count, names)}"
            )
        count = names.index(count) + 1
    if count > len(names):
        raise UserError(
            f"frozen_layers: found {count}; accepted: at most {len(names)}, the layers of "
            f"{params.application}, or a layer's name"
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


def _preprocess(params: Params) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the application's own preprocessing, applied to pixels in [0, 1]."""
    function = getattr(keras.applications, params.application)
    preprocess_input = sys.modules[function.__module__].preprocess_input
    return lambda images: preprocess_input(images * 255.0)
