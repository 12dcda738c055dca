"""Replicas of one process: what a step computes is what one device computes."""

import numpy as np
import pytest
import reference

from model import model_fn as module
from model.distribution import Distribution, Range, check_network
from model.estimator import estimator, keras, tf
from model.model_fn import model_fn
from model.training.build import distribute
from src.errors import UserError
from src.params.schema import Params
from src.registry import OFFLINE_STRATEGIES, TRIPLET_STRATEGIES

RNG = np.random.default_rng(0)
IMAGES = RNG.random((43, 4, 4, 1)).astype(np.float32)
SHUFFLED = RNG.integers(0, 5, 43).astype(np.int32)
BALANCED = np.repeat(np.arange(5), 4).astype(np.int32)  # P x K
FETCHED = ("loss", "fraction_positive", "batch_size", "median_distance")


class Step:
    """A training step in a graph of its own, of some replicas."""

    def __init__(self, params, num_replicas):
        devices = tuple(f"/device:CPU:{i}" for i in range(num_replicas))
        distribution = Distribution(
            devices=devices if num_replicas > 1 else ("",),
            stack=3 if params.is_offline else 1,
        )
        captured = []
        step = module.training_step

        def capture(gradients, *others):
            captured.extend(gradients)
            return step(gradients, *others)

        with tf.Graph().as_default() as graph, pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "training_step", capture)
            tf.compat.v1.train.get_or_create_global_step()
            self.images = tf.compat.v1.placeholder(tf.float32, [None, *IMAGES.shape[1:]])
            self.labels = tf.compat.v1.placeholder(tf.int32, [None])
            spec = model_fn(
                self.images,
                self.labels,
                estimator.ModeKeys.TRAIN,
                params,
                distribution=distribution,
            )
            config = tf.compat.v1.ConfigProto(device_count={"CPU": 4})
            self.session = tf.compat.v1.Session(config=config)
            self.session.run(tf.compat.v1.global_variables_initializer())
            self.trained = tf.compat.v1.trainable_variables()
        self.graph, self.gradients, self.train_op = graph, captured, spec.train_op

    def compute(self, labels):
        """The scalars that hooks fetch, and the gradient by the weights, as one vector."""
        examples = reference.as_batch_of(self.strategy_of_batch, labels)
        scalars, gradients = self.session.run(
            ([f"progress/{name}:0" for name in FETCHED], self.gradients),
            {self.images: IMAGES[examples], self.labels: labels[examples]},
        )
        return scalars, np.concatenate([gradient.ravel() for gradient in gradients])

    strategy_of_batch = "batch_all"


def step_of(params, num_replicas):
    step = Step(params, num_replicas)
    step.strategy_of_batch = params.triplet_strategy
    return step


# Each strategy, each distance: that any two work together, tests/mining shows for parts of anchors.
PAIRS = [
    *(
        (name, d[number % len(d)])
        for number, name in enumerate(sorted(TRIPLET_STRATEGIES))
        for d in [reference.distances_of(name)]
    ),
    ("batch_all", "cosine"),
    ("offline", "euclidean"),
]


@pytest.mark.parametrize(("strategy", "distance"), PAIRS)
def test_replicas_compute_what_one_device_computes(strategy, distance):
    # With dropout, whose draws are by row. 43 rows are not divisible by 2 or 4, and 1 row leaves
    # replicas without any.
    params = Params(
        **reference.keys_of(
            strategy,
            distance=distance,
            network="mlp",
            hidden_sizes=[8],
            dropout=0.3,
            embedding_size=5,
            margin=1.0,
        )
    )
    one = step_of(params, 1)
    replicas = [step_of(params, number) for number in (2, 4)]
    for labels in (SHUFFLED, BALANCED, SHUFFLED[:3], SHUFFLED[:1]):
        scalars, gradient = one.compute(labels)
        for several in replicas:
            their_scalars, their_gradient = several.compute(labels)
            np.testing.assert_allclose(their_scalars, scalars, rtol=1e-5)
            assert np.linalg.norm(their_gradient - gradient) <= 1e-5 * np.linalg.norm(gradient)
    assert np.linalg.norm(one.compute(SHUFFLED)[1]) > 0.01  # what was compared is not 0


@pytest.mark.parametrize("strategy", ["batch_all", *OFFLINE_STRATEGIES])
def test_the_same_weights_after_100_steps_of_adam(strategy):
    params = Params(
        triplet_strategy=strategy,
        warmup_strategy="batch_hard" if strategy == "batch_all" else None,
        warmup_steps=20 if strategy == "batch_all" else 0,
        num_blocks=1,
        num_channels=2,
        embedding_size=4,
        l2_normalize=True,
    )
    weights = []
    for number in (1, 2, 4):
        step = step_of(params, number)
        for seed in range(100):
            labels = np.random.default_rng(seed).permutation(SHUFFLED)[: 40 + seed % 3]
            examples = reference.as_batch_of(strategy, labels)
            feed = {step.images: IMAGES[examples], step.labels: labels[examples]}
            step.session.run(step.train_op, feed)
        values = step.session.run(step.trained)
        weights.append(np.concatenate([value.ravel() for value in values]))
    for other in weights[1:]:
        assert np.linalg.norm(other - weights[0]) <= 1e-4 * np.linalg.norm(weights[0])


@pytest.mark.parametrize("size", [0, 1, 3, 43])
@pytest.mark.parametrize("stack", [1, 3])
def test_every_row_has_one_owner(size, stack):
    columns = [Distribution(rank, 4, stack=stack).own_columns(size).tolist() for rank in range(4)]
    assert sorted(sum(columns, [])) == list(range(size * stack))
    lengths = [len(column) // stack for column in columns]
    assert max(lengths) - min(lengths) <= 1
    assert Range.of(3, 4, size).end == size


def test_no_more_replicas_than_rows():
    params = Params(classes_per_batch=2, examples_per_class=3)
    assert distribute(params, ("",) * 6, None).max_size == 6
    with pytest.raises(UserError, match="--replicas: found 7 in all; accepted: at most 6"):
        distribute(params, ("",) * 7, None)


def test_what_replicas_cannot_compute_is_refused():
    images = keras.Input([4])
    layers = keras.layers

    def network(layer):
        return keras.Model(images, layer(images))

    for layer, kind in (
        (layers.BatchNormalization(name="norm"), "norm.*BatchNormalization.*use_batch_norm false"),
        (layers.Dropout(0.2, name="drop"), "drop.*Dropout"),
    ):
        check_network(network(layer), 1)
        with pytest.raises(UserError, match=kind):
            check_network(keras.Model(images, network(layer)(images)), 2)  # also inside another
    check_network(network(layers.BatchNormalization(trainable=False)), 2)
    check_network(network(layers.Dense(2)), 2)
