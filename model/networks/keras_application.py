"""A network of `keras.applications` whose classifier is replaced by an embedding layer."""

import re
import sys
from collections.abc import Callable

from model.backbone import APPLICATION_LAYER, embedding_network, prepared
from model.estimator import keras, tf
from src.errors import UserError
from src.params.schema import Params


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
    images, x = prepared(params, image_shape, _preprocess(params))
    return embedding_network(params, images, x, build_application(params, tuple(x.shape[1:])))


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


def _preprocess(params: Params) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the application's own preprocessing, applied to pixels in [0, 1]."""
    function = getattr(keras.applications, params.application)
    preprocess_input = sys.modules[function.__module__].preprocess_input
    return lambda images: preprocess_input(images * 255.0)
