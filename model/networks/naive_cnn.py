"""A small CNN: blocks of 3x3 convolutions, 2x2 max pooling and ReLU, then one dense layer."""

from model.estimator import keras
from model.unit_length import UnitLength
from src.errors import UserError
from src.params.schema import Params


def build(params: Params, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network.

    Args:
        params: `num_blocks`, `convolutions_per_block`, `num_channels`, `use_batch_norm`,
            `bn_momentum`, `embedding_size`, `l2_normalize`.
        image_shape: (H, W, C) in pixels and channels.

    Returns:
        A Keras model: float32 [B, H, W, C] in [0, 1] -> float32 [B, D].

    Raises:
        UserError: the images are too small for so many blocks.
    """
    smallest_side = min(image_shape[:2])
    if smallest_side < 2**params.num_blocks:
        raise UserError(
            f"num_blocks: found {params.num_blocks} for images of {image_shape[0]} x "
            f"{image_shape[1]} pixels; accepted: at most {smallest_side.bit_length() - 1}, because "
            "each block halves them"
        )
    layers = keras.layers
    images = keras.Input(image_shape, name="images")
    x = images
    for block in range(1, params.num_blocks + 1):
        channels = params.num_channels * 2 ** (block - 1)
        for number in range(1, params.convolutions_per_block + 1):
            # The first convolution of a block has the same name as a block's only convolution.
            ending = f"_{number}" if number > 1 else ""
            name = f"block_{block}_{{}}{ending}".format
            x = layers.Conv2D(channels, 3, padding="same", name=name("conv"))(x)
            if params.use_batch_norm:
                x = layers.BatchNormalization(momentum=params.bn_momentum, name=name("norm"))(x)
            if number == params.convolutions_per_block:
                # Pooling before ReLU gives the same result and leaves ReLU a quarter of the pixels.
                x = layers.MaxPooling2D(name=f"block_{block}_pool")(x)
            x = layers.ReLU(name=name("relu"))(x)  # finally [B, H / 2^block, W / 2^block, C]
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(params.embedding_size, dtype="float32", name="embedding")(x)  # [B, D]
    if params.l2_normalize:
        x = UnitLength(dtype="float32", name="l2_normalize")(x)
    return keras.Model(images, x, name="naive_cnn")
