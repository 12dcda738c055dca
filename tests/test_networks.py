"""Every network of the registry, in the Estimator's kind of graph."""

from pathlib import Path

import numpy as np
import pytest

from model.estimator import tf
from src.errors import UserError
from src.params import Params, load_params
from src.registry import NETWORKS, look_up

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
IMAGES = np.random.default_rng(0).random((6, 12, 16, 1)).astype(np.float32)


def embed(params, images=IMAGES, *, training=False, steps=0):
    """Embeddings and all variables by name, after `steps` runs of the network's updates."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(0)
        placeholder = tf.compat.v1.placeholder(tf.float32, [None, *images.shape[1:]])
        network = look_up(NETWORKS, params.network)(params, images.shape[1:])
        embeddings = network(placeholder, training=training)
        session.run(tf.compat.v1.global_variables_initializer())
        for _ in range(steps):
            session.run(network.get_updates_for(placeholder), {placeholder: images})
        variables = {v.name: session.run(v) for v in network.variables}
        assert len({layer.name for layer in network.layers}) == len(network.layers)
        return session.run(embeddings, {placeholder: images}), variables


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("embedding_size", [1, 2, 64])
def test_embeddings_have_shape_b_d(name, embedding_size):
    embeddings, _ = embed(Params(network=name, embedding_size=embedding_size, num_channels=4))
    assert embeddings.shape == (6, embedding_size)
    assert embeddings.dtype == np.float32
    assert len(np.unique(embeddings, axis=0)) == 6  # the images differ, so do their embeddings


@pytest.mark.parametrize("name", NETWORKS)
def test_colour_images(name):
    images = np.random.default_rng(0).random((3, 10, 10, 3)).astype(np.float32)
    embeddings, _ = embed(Params(network=name, num_channels=4), images)
    assert embeddings.shape == (3, 64)


@pytest.mark.parametrize("name", NETWORKS)
def test_l2_normalize_gives_length_1(name):
    embeddings, _ = embed(Params(network=name, l2_normalize=True, num_channels=4))
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_batch_norm_statistics_move_by_the_updates(name):
    params = Params(network=name, use_batch_norm=True, bn_momentum=0.5, num_channels=4)
    _, before = embed(params, training=True, steps=0)
    _, after = embed(params, training=True, steps=3)
    moving = [v for v in before if "moving_mean" in v or "moving_variance" in v]
    assert moving
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


def test_too_many_blocks_for_the_images():
    with pytest.raises(UserError, match="num_blocks: found 5 .* accepted: at most 3"):
        embed(Params(num_blocks=5))
