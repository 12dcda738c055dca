"""A multilayer perceptron: hidden layers with ReLU and dropout, then the embedding layer."""

from model.dropout import Dropout
from model.estimator import keras
from model.unit_length import UnitLength
from src.params.schema import Params


def build(params: Params, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network.

    Args:
        params: `hidden_sizes`, `dropout`, `use_batch_norm`, `bn_momentum`, `embedding_size`,
            `embedding_activation`, `l2_normalize`, `seed`.
        image_shape: (H, W, C) in pixels and channels.

    Returns:
        A Keras model: float32 [B, H, W, C] in [0, 1] -> float32 [B, D].
    """
    layers = keras.layers
    images = keras.Input(image_shape, name="images")
    x = layers.Flatten(name="flatten")(images)  # [B, H * W * C]
    for number, size in enumerate(params.hidden_sizes, start=1):
        x = layers.Dense(size, name=f"hidden_{number}")(x)
        if params.use_batch_norm:
            x = layers.BatchNormalization(
                momentum=params.bn_momentum, name=f"hidden_{number}_norm"
            )(x)
        x = layers.ReLU(name=f"hidden_{number}_relu")(x)
        if params.dropout:
            name = f"hidden_{number}_dropout"
            x = Dropout(params.dropout, seed=params.seed, draw=number, name=name)(x)
    activation = params.embedding_activation
    x = layers.Dense(params.embedding_size, activation, dtype="float32", name="embedding")(x)
    if params.l2_normalize:
        x = UnitLength(dtype="float32", name="l2_normalize")(x)
    return keras.Model(images, x, name="mlp")
