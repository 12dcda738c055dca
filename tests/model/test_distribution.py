"""Replicas and workers: what a step computes is what one device computes."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count

import numpy as np
import pytest
import reference
from programs import free_ports

from model import distribution as distribution_module
from model import model_fn as module
from model.distribution import Distribution, Range, check_network
from model.dropout import Dropout
from model.estimator import estimator, keras, tf
from model.model_fn import model_fn
from model.training.build import distribute
from src.errors import UserError
from src.params.schema import Params
from src.registry import TRIPLET_STRATEGIES

RNG = np.random.default_rng(0)
IMAGES = RNG.random((43, 4, 4, 1)).astype(np.float32)
SHUFFLED = RNG.integers(0, 5, 43).astype(np.int32)
BALANCED = np.repeat(np.arange(5), 4).astype(np.int32)  # P x K
FETCHED = ("loss", "fraction_positive", "batch_size", "median_distance")


@pytest.fixture(scope="module")
def servers():
    """TensorFlow's servers of two workers, both in this process: a session's target and config."""
    spec = tf.train.ClusterSpec({"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]})
    started = []
    for rank in range(2):
        config = tf.compat.v1.ConfigProto(device_count={"CPU": 4})
        config.device_filters.append(f"/job:worker/task:{rank}")
        config.experimental.collective_group_leader = "/job:worker/replica:0/task:0"
        started.append(tf.distribute.Server(spec, "worker", rank, config=config))
    return [(server.target, server.server_def.default_session_config) for server in started]


ALONE = [("", tf.compat.v1.ConfigProto(device_count={"CPU": 4}))]


class Worker:
    """A training step in a graph of its own, of some replicas."""

    def __init__(self, params, distribution, target, config):
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
            self.session = tf.compat.v1.Session(target, config=config)
            self.session.run(tf.compat.v1.global_variables_initializer())
            self.trained = tf.compat.v1.trainable_variables()
        self.graph, self.gradients, self.train_op = graph, captured, spec.train_op
        self.distribution = distribution

    def run(self, what, labels, strategy):
        """Run a step's tensors, with this worker's images of the batch."""
        examples = reference.as_batch_of(strategy, labels)
        own = examples[self.distribution.own_columns(len(examples) // self.distribution.stack)]
        return self.session.run(what, {self.images: IMAGES[own], self.labels: labels[examples]})


class Step:
    """A training step of one worker, or of several at once, with as many replicas each."""

    def __init__(self, params, num_replicas, processes=ALONE):
        self.strategy, size = params.triplet_strategy, len(processes)
        devices = tuple(f"/device:CPU:{i}" for i in range(num_replicas // size))
        devices = devices if len(devices) > 1 else ("",)
        stack = 3 if params.is_offline else 1
        first = next(distribution_module._keys)
        self.workers = []
        for rank, process in enumerate(processes):
            with pytest.MonkeyPatch.context() as patch:  # the same keys, as in two processes
                patch.setattr(distribution_module, "_keys", count(first))
                own = Distribution(rank, size, devices, len(IMAGES), stack)
                self.workers.append(Worker(params, own, *process))
                used = next(distribution_module._keys)
        distribution_module._keys = count(used)

    def run(self, what, labels):
        """Return what each worker has computed; `what` names tensors of a worker."""
        with ThreadPoolExecutor(len(self.workers)) as pool:
            running = [
                pool.submit(worker.run, what(worker), labels, self.strategy)
                for worker in self.workers
            ]
            return [one.result() for one in running]

    def compute(self, labels):
        """Of each worker, the scalars that hooks fetch, and the gradient by the weights."""
        names = [f"progress/{name}:0" for name in FETCHED]
        return [
            (scalars, np.concatenate([gradient.ravel() for gradient in gradients]))
            for scalars, gradients in self.run(lambda worker: (names, worker.gradients), labels)
        ]

    def train(self, labels):
        self.run(lambda worker: worker.train_op, labels)

    def weights(self):
        values = self.workers[0].session.run(self.workers[0].trained)
        return np.concatenate([value.ravel() for value in values])


# With what changes steps, too: an average, clipping, a memory, parts of a batch.
BESIDES = {
    "batch_all": {"warmup_strategy": "batch_hard", "warmup_steps": 20},
    "distance_weighted": {"memory_size": 64, "clip_norm": 0.1, "ema_decay": 0.9},
    "supervised_contrastive": {"optimizer": "adamw"},
}
CNN = {"network": "naive_cnn", "num_blocks": 1, "num_channels": 2}
# Dropout draws by row, and no image loses all of its units: such embeddings would be equal.
MLP = {"network": "mlp", "hidden_sizes": [16, 16], "dropout": 0.3}

# Each strategy, each distance: that any two work together, tests/mining shows for parts of anchors.
CASES = [
    *(
        (name, d[number % len(d)], {**MLP, **BESIDES.get(name, {})})
        for number, name in enumerate(sorted(TRIPLET_STRATEGIES))
        for d in [reference.distances_of(name)]
    ),
    ("batch_all", "cosine", {**CNN, "micro_batch_size": 7}),
    ("offline", "euclidean", CNN),
]


@pytest.mark.parametrize(("strategy", "distance", "keys"), CASES)
def test_replicas_and_workers_compute_what_one_device_computes(strategy, distance, keys, servers):
    """Loss and gradient of a step, and the weights after 100 steps of Adam, from one graph each.

    43 rows are not divisible by 2 or 4, and 1 row leaves replicas without any.
    """
    params = Params(
        **reference.keys_of(
            strategy,
            distance=distance,
            embedding_size=5,
            margin=1.0,
            l2_normalize=True,  # else the last bias moves nothing, and Adam makes steps of rounding
            seed=1,  # with 0, some negatives are as far as the positive, but for rounding
            **keys,
        )
    )
    one, *divided = steps = [Step(params, 1), Step(params, 4), Step(params, 2, servers)]

    def compare():
        for labels in (SHUFFLED, BALANCED, SHUFFLED[:3], SHUFFLED[:1]):
            ((scalars, gradient),) = one.compute(labels)
            for step in divided:
                for its_scalars, its_gradient in step.compute(labels):
                    np.testing.assert_allclose(its_scalars, scalars, rtol=1e-5)
                    error = np.linalg.norm(its_gradient - gradient)
                    assert error <= 1e-5 * np.linalg.norm(gradient)
        assert np.linalg.norm(one.compute(SHUFFLED)[0][1]) > 0.01  # what was compared is not 0

    compare()
    for step in steps:
        for seed in range(100):
            labels = np.random.default_rng(seed).permutation(SHUFFLED)[: 40 + seed % 3]
            step.train(labels)
    weights = one.weights()
    for step in divided:
        assert np.linalg.norm(step.weights() - weights) <= 1e-4 * np.linalg.norm(weights)


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


def normal(x):
    return x + tf.random.normal(tf.shape(x))


DRAWING = (
    lambda x: x + tf.random.truncated_normal(tf.shape(x)),
    lambda x: x + tf.cast(tf.random.categorical(x, 4), tf.float32),
    lambda x: x + tf.random.Generator.from_seed(1).normal(tf.shape(x)),
    # In functions, which are not among the graph's own ops: also of a function within another.
    lambda x: tf.cond(tf.shape(x)[0] > 0, lambda: normal(x), lambda: x),
    lambda x: tf.map_fn(normal, x),
    tf.function(lambda x: tf.map_fn(normal, x)),
)
"""Ways to draw, by [B, 4]."""


def test_micro_batches_of_a_replica_are_computed_on_its_device():
    """Forward, and again for the gradient: what has no device is placed on the first GPU."""
    params = Params(**CNN, micro_batch_size=7, embedding_size=4, batch_size=len(IMAGES))
    step = Step(params, num_replicas=2)
    (worker,) = step.workers
    loops = [op.device for op in worker.graph.get_operations() if op.type.endswith("While")]
    first, second = (loops.count(f"/device:CPU:{number}") for number in range(2))
    assert first == second >= 2 and first + second == len(loops)


def test_what_replicas_cannot_compute_is_refused():
    layers = keras.layers

    def check(make, num_replicas):
        with tf.Graph().as_default():
            images = keras.Input([4])
            inner = keras.Model(images, make(name="refused")(images))
            check_network(keras.Model(images, inner(images)), num_replicas)

    for make, kind in (
        (layers.BatchNormalization, "refused.*BatchNormalization.*2 replicas.*use_batch_norm"),
        (partial(layers.Dropout, 0.2), "refused.*draws at random.*without it, or one replica"),
        (partial(layers.GaussianNoise, 0.2), "refused.*draws at random"),
        *((partial(layers.Lambda, function), "refused.*draws at random") for function in DRAWING),
    ):
        check(make, 1)
        with pytest.raises(UserError, match=kind):
            check(make, 2)
    for make in (
        partial(layers.BatchNormalization, trainable=False),
        partial(layers.Dense, 2),
        partial(layers.Dropout, 0.0),
        partial(Dropout, 0.2, seed=0, draw=0),
        partial(layers.Lambda, lambda x: tf.map_fn(tf.nn.relu, x)),
        partial(layers.Lambda, lambda x: x + tf.random.stateless_normal([4], [0, 1])),
    ):
        check(make, 2)
