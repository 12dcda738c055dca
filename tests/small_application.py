"""Stand-ins for an application of Keras and for EfficientNet-Lite0, which build in no time."""

from model.estimator import keras
from model.networks import efficientnet_lite0


def preprocess_input(images):
    """Found by the network in the application's module, as with those of Keras."""
    return images / 255 - 0.5


def small_application(*, include_top, weights, input_shape, pooling):
    """Has what counts: convolutions, batch normalizations, pooling."""
    layers = keras.layers
    x = images = keras.Input(input_shape or (None, None, 3), name="input")
    for block in (1, 2):
        x = layers.Conv2D(6, 3, strides=2, name=f"conv_{block}")(x)
        x = layers.BatchNormalization(momentum=0.5, name=f"norm_{block}")(x)
        x = layers.ReLU(name=f"relu_{block}")(x)
    return keras.Model(images, layers.GlobalAveragePooling2D(name="pool")(x))


def shorten_lite0(monkeypatch):
    """Leave EfficientNet-Lite0 three blocks, and few channels."""
    monkeypatch.setattr(efficientnet_lite0, "STAGES", ((1, 3, 1, 1, 8), (2, 3, 2, 2, 8)))
    monkeypatch.setattr(efficientnet_lite0, "STEM_CHANNELS", 4)
    monkeypatch.setattr(efficientnet_lite0, "HEAD_CHANNELS", 16)
