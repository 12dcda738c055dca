"""Every network of the registry, in the Estimator's kind of graph."""

from pathlib import Path

import numpy as np
import pytest
from small_application import shorten_lite0, small_application

from model.backbone import freeze
from model.estimator import keras, tf
from model.networks import keras_application
from model.unit_length import UnitLength
from src.errors import UserError
from src.params.reading import load_params
from src.params.schema import Params
from src.registry import NETWORKS, look_up

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
IMAGES = np.random.default_rng(0).random((6, 12, 16, 1)).astype(np.float32)
# Small networks, each by its own keys. Real applications are below, and in test_pretrained.py.
SMALL = {
    "naive_cnn": {"num_channels": 4},
    "keras_application": {"application": "VGG16", "input_size": 32},
    "efficientnet_lite0": {"input_size": 32},
}


@pytest.fixture
def small(monkeypatch):
    """`small(name, **keys)`: the params of a small network."""
    monkeypatch.setattr(keras.applications, "VGG16", small_application)
    shorten_lite0(monkeypatch)
    return lambda name, **keys: Params(network=name, **SMALL.get(name, {}), **keys)


def embed(params, images=IMAGES, *, training=False):
    """Embeddings, and all variables by name."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(0)
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, *images.shape[1:]])
        network = look_up(NETWORKS, params.network)(params, images.shape[1:])
        embeddings = network(placeholder, training=training)
        session.run(tf.compat.v1.global_variables_initializer())
        variables = session.run({v.name: v for v in network.variables})
        assert len({layer.name for layer in network.layers}) == len(network.layers)
        return session.run(embeddings, {placeholder: images}), variables


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("embedding_size", [1, 2, 64])
def test_embeddings_have_shape_b_d(small, name, embedding_size):
    embeddings, _ = embed(small(name, embedding_size=embedding_size))
    assert embeddings.shape == (6, embedding_size)
    assert embeddings.dtype == np.float32
    assert len(np.unique(embeddings, axis=0)) == 6  # the images differ, so do their embeddings


@pytest.mark.parametrize("name", ["naive_cnn", "mlp"])
def test_a_black_image_does_not_ruin_the_weights(name):
    """As long as all biases are 0, its embedding is exactly 0, where nothing has a direction."""
    params = Params(network=name, **SMALL.get(name, {}), l2_normalize=True, use_batch_norm=False)
    network = look_up(NETWORKS, name)(params, (8, 8, 1))
    images = np.zeros((2, 8, 8, 1), np.float32)
    images[1] = IMAGES[0, :8, :8]
    with tf.GradientTape() as tape:
        embeddings = network(images, training=True)
        found = tf.reduce_sum(embeddings * np.linspace(-1, 1, 64, dtype=np.float32))
    assert not embeddings[0].numpy().any()
    assert np.linalg.norm(embeddings[1]) == pytest.approx(1, abs=1e-5)
    gradients = tape.gradient(found, network.trainable_variables)
    assert 1e-3 < max(np.abs(one).max() for one in gradients) < 1e3


def test_rows_of_length_1_have_the_usual_gradient():
    rows = tf.constant([[3.0, 4.0], [-1e-3, 2e-3], [0.0, 5.0]])
    for training in (True, False):
        with tf.GradientTape() as tape:
            tape.watch(rows)
            scaled = UnitLength()(rows, training=training)
            found = tf.reduce_sum(scaled * [[1.0, 2.0]])
        x, c = rows.numpy().astype(float), np.array([1.0, 2.0])
        length = np.linalg.norm(x, axis=1, keepdims=True)
        np.testing.assert_allclose(scaled, x / length, rtol=1e-5)
        expected = c / length - x * (x @ c)[:, None] / length**3
        np.testing.assert_allclose(tape.gradient(found, rows), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_colour_images(small, name):
    images = np.random.default_rng(0).random((3, 10, 10, 3)).astype(np.float32)
    embeddings, _ = embed(small(name), images)
    assert embeddings.shape == (3, 64)


@pytest.mark.parametrize("name", NETWORKS)
def test_l2_normalize_gives_length_1(small, name):
    embeddings, _ = embed(small(name, l2_normalize=True), training=True)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


# The statistics of pretrained networks: test_frozen_batch_norm_is_in_inference_mode
@pytest.mark.parametrize("name", ["mlp", "naive_cnn"])
def test_batch_norm_statistics_move_by_the_updates(small, name):
    params = small(name, use_batch_norm=True, bn_momentum=0.5)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, *IMAGES.shape[1:]])
        network = look_up(NETWORKS, name)(params, IMAGES.shape[1:])
        network(placeholder, training=True)
        session.run(tf.compat.v1.global_variables_initializer())
        moving = {v.name: v for v in network.variables if "moving" in v.name}
        before = session.run(moving)
        for _ in range(3):
            session.run(network.get_updates_for(placeholder), {placeholder: IMAGES})
        after = session.run(moving)
    assert sum("moving_mean" in name for name in moving) == len(moving) / 2 > 0
    for variable in moving:
        assert not np.allclose(before[variable], after[variable]), variable


def test_mlp_has_the_layers_of_its_params():
    images = np.random.default_rng(0).random((2, 28, 28, 1)).astype(np.float32)
    _, variables = embed(Params(network="mlp"), images)
    shapes = [v.shape for v in variables.values()]
    assert shapes == [(784, 128), (128,), (128, 128), (128,), (128, 64), (64,)]
    _, variables = embed(Params(network="mlp", hidden_sizes=(), embedding_size=3), images)
    assert [v.shape for v in variables.values()] == [(784, 3), (3,)]


@pytest.mark.parametrize(("activation", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1)])
def test_the_activation_of_mlps_embeddings(activation, low, high):
    bright = 100 * IMAGES
    linear, _ = embed(Params(network="mlp"), bright)
    embeddings, _ = embed(Params(network="mlp", embedding_activation=activation), bright)
    assert linear.min() < -1 and linear.max() > 1
    assert low <= embeddings.min() < embeddings.max() <= high


def test_siamese_is_the_network_of_54_400_parameters():
    params = load_params(EXPERIMENTS / "siamese" / "params.json")
    images = np.random.default_rng(0).random((2, 28, 28, 1)).astype(np.float32)
    embeddings, variables = embed(params, images)
    assert sum(v.size for v in variables.values()) == 784 * 64 + 64 + 64 * 64 + 64 == 54_400
    assert (embeddings > 0).all() and (embeddings < 1).all()


def test_mlps_dropout_is_for_training_only_and_is_that_of_the_step():
    params = Params(network="mlp", hidden_sizes=(200,), dropout=0.25)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        step = tf.compat.v1.train.get_or_create_global_step()
        network = look_up(NETWORKS, "mlp")(params, IMAGES.shape[1:])
        embeddings = {training: network(IMAGES, training=training) for training in (True, False)}
        session.run(tf.compat.v1.global_variables_initializer())
        first = session.run(embeddings)
        again = session.run(embeddings)
        session.run(step.assign_add(1))
        later = session.run(embeddings)
        session.run(step.assign(0))
        back = session.run(embeddings)
    for results in (again, later, back):
        np.testing.assert_array_equal(results[False], first[False])
    np.testing.assert_array_equal(again[True], first[True])
    np.testing.assert_array_equal(back[True], first[True])
    assert not np.allclose(later[True], first[True])
    assert not np.allclose(first[True], first[False])


def test_naive_cnn_has_the_blocks_and_channels_of_its_params():
    _, variables = embed(Params(num_blocks=3, num_channels=4, embedding_size=8))
    shapes = [v.shape for name, v in variables.items() if "kernel" in name]
    # 12 x 16 pixels halved three times are 1 x 2, with 16 channels.
    assert shapes == [(3, 3, 1, 4), (3, 3, 4, 8), (3, 3, 8, 16), (1 * 2 * 16, 8)]


def test_naive_cnn_with_two_convolutions_a_block():
    params = Params(convolutions_per_block=2, num_channels=4, embedding_size=8, use_batch_norm=True)
    _, variables = embed(params)
    shapes = [v.shape for name, v in variables.items() if "kernel" in name]
    # 12 x 16 pixels halved twice are 3 x 4.
    assert shapes[:4] == [(3, 3, 1, 4), (3, 3, 4, 4), (3, 3, 4, 8), (3, 3, 8, 8)]
    assert shapes[4:] == [(3 * 4 * 8, 8)]
    assert sum("moving_mean" in name for name in variables) == 4


def test_too_many_blocks_for_the_images():
    with pytest.raises(UserError, match="num_blocks: found 5 .* accepted: at most 3"):
        embed(Params(num_blocks=5))


# keras_application; with weights in tests/model/test_pretrained.py

APPLICATION = {"network": "keras_application", "application": "MobileNet"}


@pytest.fixture
def preprocessed(monkeypatch):
    """What goes into the application, float32 [B, S, S, 3]; the application itself is none."""

    def no_application(params, input_shape):
        images = keras.Input(input_shape)
        return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))

    def run(images, **keys):
        params = Params(**{**APPLICATION, **keys})
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.constant(images)
            for layer in look_up(NETWORKS, "keras_application")(params, images.shape[1:]).layers[
                1:
            ]:
                x = layer(x)
                if layer.name == "preprocess":
                    return session.run(x)

    monkeypatch.setattr(keras_application, "build_application", no_application)
    return run


def test_grey_images_are_repeated_and_preprocessed(preprocessed):
    images = np.random.default_rng(0).random((2, 32, 32, 1)).astype(np.float32)
    # MobileNet's: -1 to 1; VGG16's: 0 to 255, blue first, less a mean of each channel.
    np.testing.assert_allclose(
        preprocessed(images), np.repeat(images * 2 - 1, 3, axis=3), atol=1e-5
    )
    expected = np.repeat(images, 3, axis=3) * 255 - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(
        preprocessed(images, application="VGG16"), expected, rtol=1e-4, atol=1e-3
    )


def test_scale_and_pad_to_the_input_size(preprocessed):
    images = np.zeros((1, 4, 8, 3), np.float32)
    images[:, :, 4:] = 1  # black on the left, white on the right
    scaled = preprocessed(images, input_size=32)
    assert scaled.shape == (1, 32, 32, 3)
    assert (scaled[0, :, :12] == -1).all() and (scaled[0, :, 20:] == 1).all()
    padded = preprocessed(images, input_size=32, resize="pad")
    assert padded.shape == (1, 32, 32, 3)
    np.testing.assert_array_equal(padded[:, 14:18, 12:20], images * 2 - 1)
    assert (padded == 1).sum() == images.sum()


@pytest.mark.parametrize(
    ("keys", "shape", "expected"),
    [
        (
            {},
            (28, 28, 1),
            "input_size: found nothing, and images of 28 x 28 pixels; accepted: at least 32, for "
            "application MobileNet",
        ),
        (
            {"application": "InceptionV3", "input_size": 74},
            (28, 28, 1),
            "input_size: found 74, and images of 74 x 74 pixels; accepted: at least 75, for "
            "application InceptionV3",
        ),
        (
            {"input_size": 32, "resize": "pad"},
            (33, 20, 3),
            'resize: found "pad", for images of 33 x 20 pixels and input_size 32; accepted: '
            '"scale", or an input_size of at least 33',
        ),
        (
            {"frozen_layers": 88},
            (32, 32, 3),
            "frozen_layers: found 88; accepted: at most 87, the layers of MobileNet, or a layer's "
            "name",
        ),
        (
            {"frozen_layers": "conv_dw1"},
            (32, 32, 3),
            "frozen_layers: found \"conv_dw1\"; accepted: a layer of MobileNet, such as 'conv1' or "
            "'global_average_pooling2d', or how many layers; did you mean 'conv_dw_1'?",
        ),
    ],
)
def test_what_an_application_cannot_be(keys, shape, expected):
    with tf.Graph().as_default(), pytest.raises(UserError) as caught:
        look_up(NETWORKS, "keras_application")(Params(**{**APPLICATION, **keys}), shape)
    assert str(caught.value) == expected


@pytest.mark.parametrize(("frozen_layers", "num_frozen"), [(0, 0), (2, 2), (5, 5), ("b", 3)])
def test_the_first_layers_are_frozen(frozen_layers, num_frozen):
    layers = [keras.layers.Dense(2, name=name) for name in "abcd"]
    application = keras.Sequential([keras.Input([2]), *layers])
    application = keras.Model(application.input, application.output)
    freeze(application, Params(**APPLICATION, frozen_layers=frozen_layers))
    assert [layer.trainable for layer in application.layers] == [
        place >= num_frozen for place in range(5)
    ]


@pytest.mark.parametrize(("frozen_layers", "num_frozen"), [(0, 0), ("relu_1", 4)])
def test_frozen_batch_norm_is_in_inference_mode(small, frozen_layers, num_frozen):
    """In training, frozen statistics are used and not moved; all others are, and are."""
    images = np.random.default_rng(0).random((6, 32, 32, 3)).astype(np.float32)
    params = small("keras_application", frozen_layers=frozen_layers)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, 32, 32, 3])
        network = look_up(NETWORKS, params.network)(params, (32, 32, 3))
        network(placeholder, training=True)
        application = network.get_layer("application")
        assert [layer.trainable for layer in application.layers].index(True) == num_frozen
        moving = [w for w in network.weights if "moving" in w.name]
        first = [w for w in moving if w.name.startswith("norm_1")]
        assert len(first) == 2
        session.run(tf.compat.v1.global_variables_initializer())
        before = session.run(moving)
        session.run(network.get_updates_for(placeholder), {placeholder: images})
        after = session.run(moving)
        moved = {
            w.name
            for w, x, y in zip(moving, before, after, strict=True)
            if not np.array_equal(x, y)
        }
        assert moved == {w.name for w in moving} - (
            {w.name for w in first} if num_frozen else set()
        )

        # The first batch norm's output: of the moving statistics 0 and 1 it is nearly its input.
        conv, norm = (application.get_layer(name) for name in ("conv_1", "norm_1"))
        x = conv(placeholder * 2 - 1)
        session.run(tf.compat.v1.global_variables_initializer())
        given, normalized = session.run([x, norm(x, training=True)], {placeholder: images})
        assert np.allclose(given, normalized, rtol=1e-3) == bool(num_frozen)
