"""A batch embedded in parts against the same batch embedded whole."""

from functools import cache, partial

import numpy as np
import pytest
import reference
from small_application import preprocess_input, small_application  # noqa: F401

from model.distribution import Distribution
from model.estimator import estimator, keras, tf
from model.micro_batches import MicroBatches, WholeBatch
from model.mining.blocks import mine_in_blocks
from model.model_fn import model_fn
from model.rows import Rows
from model.training.build import describe_network
from src.errors import UserError
from src.params.schema import Params
from src.registry import NETWORKS, OFFLINE_STRATEGIES, TRIPLET_STRATEGIES, look_up

RNG = np.random.default_rng(0)
IMAGES = RNG.random((37, 8, 8, 1)).astype(np.float32)
LABELS = (np.arange(37) % 3).astype(np.int32)
CNN = {"num_channels": 4, "embedding_size": 5, "margin": 1.0}
# No image loses all of its units: an embedding of length 0 has no direction to compare.
MLP = {
    **{"network": "mlp", "hidden_sizes": (16, 16), "dropout": 0.3},
    **{"embedding_size": 5, "margin": 1.0},
}
WARM_UP = {"triplet_strategy": "batch_hard", "warmup_strategy": "batch_all", "warmup_steps": 1}
TWO_REPLICAS = ("/device:CPU:0", "/device:CPU:0")


def steps(params, devices=("",), num_steps=2):
    """The loss and fraction of some steps, and the gradient of the last one: as Adam's slot has it.

    The learning rate is so low that the weights stay.
    """
    params = Params(learning_rate=1e-12, **params)
    examples = reference.as_batch_of(params.triplet_strategy, LABELS)
    stack = 3 if params.is_offline else 1
    distribution = Distribution(devices=devices, max_size=37, stack=stack)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        images = tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 1])
        labels = tf.compat.v1.placeholder(tf.int32, [None])
        tf.compat.v1.set_random_seed(0)
        spec = model_fn(images, labels, estimator.ModeKeys.TRAIN, params, distribution=distribution)
        session.run(tf.compat.v1.global_variables_initializer())
        slots = [v for v in tf.compat.v1.global_variables() if v.op.name.endswith("/Adam")]
        fraction = graph.get_tensor_by_name("progress/fraction_positive:0")
        feed = {images: IMAGES[examples], labels: LABELS[examples]}
        found = []
        for _ in range(num_steps):
            session.run([slot.initializer for slot in slots])
            found.append(session.run([spec.loss, fraction, spec.train_op], feed)[:2])
        return np.array(found), session.run(slots)


@cache
def whole(items):
    return steps(dict(items))


def assert_same(found, expected, tolerance=1e-5):
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    # Of all weights together: the last bias moves all embeddings alike, so its gradient is 0.
    gradients, of_whole = (
        np.concatenate([x.ravel() for x in of]) for of in (found[1], expected[1])
    )
    largest = np.abs(of_whole).max()
    assert largest > 0
    np.testing.assert_allclose(gradients, of_whole, atol=tolerance * largest, rtol=0)


@pytest.mark.parametrize(
    ("network", "name", "size"),
    [
        # 37 is not a multiple of 5; nor is 111, offline.
        *((MLP, name, 5) for name in TRIPLET_STRATEGIES),
        (MLP, "batch_all", 200),
        (CNN, "batch_hard", 7),
    ],
)
def test_parts_have_loss_and_gradient_of_the_whole(network, name, size):
    params = reference.keys_of(name, **network)
    found = steps({**params, "micro_batch_size": size})
    assert_same(found, whole(tuple(params.items())))
    assert found[0][0, 0] != found[0][1, 0] or network is CNN  # dropout draws anew at each step


@pytest.mark.parametrize(
    "params",
    [
        WARM_UP,
        {"memory_size": 64},
        {"triplet_strategy": "batch_hard", "margin": "soft"},
        {
            **{"triplet_strategy": "distance_weighted", "distance": "cosine", "memory_size": 64},
            **{"warmup_strategy": "multi_similarity", "warmup_steps": 1},
        },
    ],
    ids=["warm-up", "memory", "soft margin", "draws, a warm-up and a memory"],
)
def test_parts_beside_other_choices(params):
    params = {**MLP, **params}
    assert_same(steps({**params, "micro_batch_size": 5}), whole(tuple(params.items())))


@pytest.mark.parametrize("name", ["batch_all", "offline"])
def test_parts_of_replicas(name):
    params = {**MLP, "triplet_strategy": name}
    if name == "batch_all":
        params["memory_size"] = 64
    found = steps({**params, "micro_batch_size": 4}, TWO_REPLICAS)
    assert_same(found, whole(tuple(params.items())))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_parts_and_replicas_in_half_precision(dtype):
    params = {**CNN, "compute_dtype": dtype}
    # Gradients by weights are summed in half precision: in other parts, with other roundings.
    tolerance = {"bfloat16": 0.05, "float16": 0.01}[dtype]
    found = steps({**params, "micro_batch_size": 4}, TWO_REPLICAS)
    assert_same(found, steps(params), tolerance)


APPLICATION = {
    **{"network": "keras_application", "application": "VGG16", "input_size": 32},
    **{"embedding_size": 5, "margin": 1.0},
}


def test_an_application_whose_batch_norm_is_frozen(monkeypatch):
    monkeypatch.setattr(keras.applications, "VGG16", small_application)
    params = {**APPLICATION, "frozen_layers": "norm_2"}
    # Its embeddings are so near each other that the gradient's last digits cancel.
    assert_same(steps({**params, "micro_batch_size": 8}), steps(params), tolerance=1e-4)


def noisy_application(*, include_top, weights, input_shape, pooling):
    application = small_application(
        include_top=include_top, weights=weights, input_shape=input_shape, pooling=pooling
    )
    outputs = keras.layers.Dropout(0.2, name="head_drop")(application.output)
    return keras.Model(application.input, outputs)


@pytest.mark.parametrize(
    ("application", "frozen", "reason"),
    [
        (small_application, "norm_1", "layer norm_2 normalizes over the whole batch"),
        (noisy_application, "relu_2", "layer head_drop draws at random, differently each time"),
    ],
)
def test_what_parts_would_change_is_refused_before_a_training(
    application, frozen, reason, monkeypatch
):
    monkeypatch.setattr(keras.applications, "VGG16", application)
    params = Params(**APPLICATION, frozen_layers=frozen, micro_batch_size=8)
    with pytest.raises(UserError, match=f"micro_batch_size: found 8; accepted: null.*{reason}"):
        describe_network(params, (8, 8, 1))


def test_what_draws_anew_after_each_interruption_is_not_deterministic(monkeypatch):
    monkeypatch.setattr(keras.applications, "VGG16", noisy_application)
    with pytest.raises(UserError, match='deterministic: found true; .* layer "head_drop" draws'):
        describe_network(Params(**APPLICATION, deterministic=True), (8, 8, 1))
    describe_network(Params(**APPLICATION), (8, 8, 1))
    own_layers = {"network": "mlp", "hidden_sizes": (4,), "dropout": 0.5}
    describe_network(Params(**own_layers, deterministic=True), (8, 8, 1))


def test_the_network_never_has_more_than_a_part():
    sizes = []

    def noted(images):
        return tf.numpy_function(lambda x: sizes.append(len(x)) or x, [images], tf.float32)

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        layers = keras.layers
        images = keras.Input([4])
        x = layers.Lambda(lambda x: tf.ensure_shape(noted(x), [None, 4]))(images)
        network = keras.Model(images, layers.Dense(2)(x))
        batch = MicroBatches(network, tf.ones([10, 4]), 4)
        (by_embeddings,) = tf.gradients(tf.reduce_sum(batch.embeddings**2), [batch.embeddings])
        gradients = batch.gradients(by_embeddings, network.trainable_weights)
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(gradients)
    assert sizes == [4, 4, 2, 4, 4, 2]


@pytest.mark.parametrize("kind", ["whole", "in parts"])
def test_a_replica_without_images(kind):
    """It has none if the last batch of an epoch has fewer than there are replicas."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        network = look_up(NETWORKS, "naive_cnn")(Params(**CNN), (8, 8, 1))
        images, rows = tf.zeros([0, 8, 8, 1]), Rows([3], [0])
        batch = (
            WholeBatch(network, images, rows)
            if kind == "whole"
            else MicroBatches(network, images, 4, rows)
        )
        gradients = batch.gradients(tf.zeros([0, 5]), network.trainable_weights)
        session.run(tf.compat.v1.global_variables_initializer())
        embeddings, gradients = session.run([batch.embeddings, gradients])
    assert embeddings.shape == (0, 5)
    assert len(gradients) == 6
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(TRIPLET_STRATEGIES.keys() - OFFLINE_STRATEGIES))
def test_blocks_of_anchors(run, name):
    """Loss, counts and gradient of some anchors, three at a time."""
    embeddings = RNG.normal(size=(20, 6)).astype(np.float32)
    labels = np.repeat(np.arange(5), 4)
    strategy = look_up(TRIPLET_STRATEGIES, name)
    anchors = np.array([4, 0, 19, 7, 8, 3, 12])
    distance = reference.distances_of(name)[0]

    def mined(labels, embeddings, anchors):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            mine = partial(strategy, labels, margin=1.0, distance=distance)
            triplets = mine_in_blocks(mine, embeddings, anchors, 3)
            loss = triplets.loss
        return loss, triplets[1:], tape.gradient(loss, embeddings)

    loss, counts, gradient = run(mined, labels, embeddings, anchors)
    expected = getattr(reference, name)(
        labels, embeddings, margin=1.0, distance=distance, anchors=anchors
    )
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert tuple(counts) == expected[1:4]
    np.testing.assert_allclose(gradient, expected.gradient, atol=1e-6)
