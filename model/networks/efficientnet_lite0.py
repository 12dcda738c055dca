"""EfficientNet-Lite0, whose classifier is replaced by an embedding layer.

EfficientNet-B0 (arXiv:1905.11946) without squeeze-excitation, and with ReLU6 instead of swish.
`make weights-efficientnet-lite0` fetches weights that were trained on ImageNet.
"""

from model.backbone import APPLICATION_LAYER, embedding_network, prepared
from model.estimator import keras, tf
from src.errors import UserError
from src.params.schema import Params
from src.registry import did_you_mean

# Of each stage: repeats, kernel, stride of the first block, expansion, output channels. From
# tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

# Below, the last stages see a single pixel.
_SMALLEST = 32


def build(params: Params, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network with random weights; `model/pretrained.py` loads pretrained weights.

    Args:
        params: `last_layer`, `pooling`, `frozen_layers`, `input_size`, `resize`, `embedding_size`,
            `l2_normalize`.
        image_shape: (H, W, C), in pixels and channels.

    Returns:
        A Keras model: float32 [B, H, W, C] in [0, 1] -> float32 [B, D]. The part without the
        embedding layer is its layer `APPLICATION_LAYER`. Frozen layers in it are as in
        `model/networks/keras_application.py`.

    Raises:
        UserError: the images or `input_size` are too small, or a layer does not exist.
    """
    smallest = min(image_shape[:2]) if params.input_size is None else params.input_size
    if smallest < _SMALLEST:
        raise UserError(
            f"input_size: found {params.input_size or 'nothing'}, and images of {image_shape[0]} x "
            f"{image_shape[1]} pixels; accepted: at least {_SMALLEST}, for efficientnet_lite0"
        )
    images, x = prepared(params, image_shape, preprocess)
    application = build_application(tuple(x.shape[1:]), params.last_layer, params.pooling)
    return embedding_network(params, images, x, application)


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """Return pixels in [0, 1] as the authors have them: (p - 127) / 128 for p in 0 ... 255."""
    return (images * 255.0 - 127.0) / 128.0


def build_application(
    input_shape: tuple[int | None, int | None, int],
    last_layer: str | None = None,
    pooling: str = "average",
) -> keras.Model:
    """Build the network without its classifier: preprocessed images -> float32 [B, features].

    Args:
        input_shape: (H, W, 3); with average pooling, H and W may be None.
        last_layer: the name of the last layer before the pooling; None for "head_relu", the last.
        pooling: "average" over the pixels of each channel, or "none": all pixels are features.

    Raises:
        UserError: there is no such layer.
    """
    layers = keras.layers
    x = images = keras.Input(input_shape, name="input")
    x = layers.Conv2D(STEM_CHANNELS, 3, 2, "same", use_bias=False, name="stem_conv")(x)
    x = _norm(x, "stem", relu=True)
    block = 0
    for repeats, kernel, stride, expansion, channels in STAGES:
        for repeat in range(repeats):
            block += 1
            x = _block(x, kernel, stride if repeat == 0 else 1, expansion, channels, block)
    x = layers.Conv2D(HEAD_CHANNELS, 1, use_bias=False, name="head_conv")(x)
    x = _norm(x, "head", relu=True)  # [B, H / 32, W / 32, 1280]
    if last_layer is not None:
        x = _output_of(keras.Model(images, x), last_layer)
    if pooling == "average":
        x = layers.GlobalAveragePooling2D(name="pool")(x)  # [B, channels]
    else:
        x = layers.Flatten(name="flatten")(x)  # [B, H / 32 * W / 32 * channels], at the end
    return keras.Model(images, x, name=APPLICATION_LAYER)


def _output_of(network: keras.Model, name: str) -> tf.Tensor:
    """Return the output of a layer."""
    names = [layer.name for layer in network.layers[1:]]
    if name not in names:
        raise UserError(
            f'last_layer: found "{name}"; accepted: a layer of efficientnet_lite0, such as '
            f"'block_15_add' or '{names[-1]}'{did_you_mean(name, names)}"
        )
    return network.get_layer(name).output


def _block(
    x: tf.Tensor, kernel: int, stride: int, expansion: int, channels: int, number: int
) -> tf.Tensor:
    """Add a mobile inverted bottleneck: wider, a convolution in each channel, narrower."""
    layers = keras.layers
    name = f"block_{number}_{{}}".format
    before, wide = x, x.shape[-1] * expansion
    if expansion != 1:
        x = layers.Conv2D(wide, 1, use_bias=False, name=name("expand_conv"))(x)
        x = _norm(x, name("expand"), relu=True)
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=name("depthwise_conv"))(
        x
    )
    x = _norm(x, name("depthwise"), relu=True)
    x = layers.Conv2D(channels, 1, use_bias=False, name=name("project_conv"))(x)
    x = _norm(x, name("project"), relu=False)
    if stride == 1 and before.shape[-1] == channels:
        x = layers.Add(name=name("add"))([before, x])
    return x


def _norm(x: tf.Tensor, name: str, *, relu: bool) -> tf.Tensor:
    """Add batch normalization, with the authors' constants, and ReLU6."""
    layers = keras.layers
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x
