"""Mining in TensorFlow ops alone: against the sort in NumPy, under XLA, and on which device."""

import itertools
from functools import partial

import numpy as np
import pytest
from tensorflow.python.framework import kernels, op_callbacks, op_def_registry

from model.estimator import tf
from model.mining import rectangle, sorting
from model.mining.sorting import (
    BLOCK_NUMBERS,
    find_on_device,
    is_compiled_by_xla,
    stays_on_device,
)
from model.triplet_loss import batch_all_triplet_loss, batch_hard_triplet_loss
from model.triplet_strategies import batch_all, batch_semihard
from src.mining.rows import find_in_blocks
from src.registry import OFFLINE_STRATEGIES, TRIPLET_STRATEGIES, look_up

RNG = np.random.default_rng(0)
STRATEGIES = [batch_all, batch_semihard]


def random_batch(size, num_classes, *, ties=False):
    """Distances float32 [B, B] and labels; with ties they are small integers."""
    distances = RNG.integers(0, 4, (size, size)) if ties else RNG.random((size, size))
    distances = np.triu(distances, 1).astype(np.float32)
    return distances + distances.T, RNG.integers(0, num_classes, size).astype(np.int32)


BATCHES = {
    "10 classes": random_batch(40, 10),
    "ties": random_batch(40, 6, ties=True),
    "one class": random_batch(9, 1),
    "all labels distinct": (random_batch(9, 1)[0], np.arange(9, dtype=np.int32)),
    "one example": random_batch(1, 1),
    "no example": random_batch(0, 1),
    "all distances 0": (np.zeros((12, 12), np.float32), np.arange(12, dtype=np.int32) % 3),
    "labels of 64 bits": (random_batch(12, 1)[0], np.arange(12) % 3 + 2**40),
}


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.slopes, expected.slopes)
    assert found.num_positive_triplets.numpy() == expected.num_positive_triplets
    assert found.loss_sum.numpy() == pytest.approx(expected.loss_sum, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("block_numbers", [130, BLOCK_NUMBERS])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_slopes_are_those_of_sorting_in_numpy(monkeypatch, strategy, batch, block_numbers):
    """Also which of equally far negatives are chosen, and with a last block of fewer rows."""
    monkeypatch.setattr(sorting, "BLOCK_NUMBERS", block_numbers)
    distances, labels = BATCHES[batch]
    anchors = RNG.permutation(len(labels))[: max(1, len(labels) - 3)]
    expected = find_in_blocks(
        partial(strategy.sort, margin=1.0), distances[anchors], labels, anchors
    )
    find = partial(strategy.sort_tensors, margin=1.0)
    found = find_on_device(
        find, 1.0, tf.constant(distances[anchors]), labels.astype(np.int64), anchors
    )
    assert_equal(found, expected)


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_row_that_is_not_finite_has_no_slopes(strategy, value):
    distances, labels = random_batch(10, 2)
    distances[3, 5] = value
    find = partial(strategy.sort_tensors, margin=1.0)
    found = find_on_device(
        find, 1.0, tf.constant(distances), labels.astype(np.int64), np.arange(10)
    )
    others = np.delete(np.arange(10), 3)
    expected = find_in_blocks(partial(strategy.sort, margin=1.0), distances[others], labels, others)
    assert (found.slopes[3] == 0).numpy().all()
    np.testing.assert_array_equal(found.slopes.numpy()[others], expected.slopes)
    assert found.loss_sum.numpy() == pytest.approx(expected.loss_sum, rel=1e-6)


def test_a_sum_that_nearly_cancels_keeps_its_digits():
    labels = np.arange(60, dtype=np.int32) % 3
    distances = np.triu(1000 + RNG.random((60, 60)) * 1e-3, 1).astype(np.float32)
    distances = distances + distances.T
    expected = find_in_blocks(
        partial(batch_all.sort, margin=1e-3), distances, labels, np.arange(60)
    )
    find = partial(batch_all.sort_tensors, margin=1e-3)
    found = find_on_device(
        find, 1e-3, tf.constant(distances), labels.astype(np.int64), np.arange(60)
    )
    assert found.loss_sum.numpy() == pytest.approx(expected.loss_sum, rel=1e-9)


def loss_and_gradient(name, labels, embeddings):
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        triplets = look_up(TRIPLET_STRATEGIES, name)(
            labels, embeddings, margin=0.5, distance="cosine"
        )
        loss = triplets.loss
    return tuple(triplets[1:]), loss, tape.gradient(loss, embeddings)


@pytest.mark.parametrize("name", TRIPLET_STRATEGIES)
def test_every_strategy_compiles_with_xla(monkeypatch, name):
    monkeypatch.setattr(sorting, "BLOCK_NUMBERS", 60 * 23)  # three blocks, the last of 14 rows
    labels = tf.constant(RNG.integers(0, 6, 60))
    embeddings = tf.constant(RNG.normal(size=(60, 5)).astype(np.float32))
    counts, loss, gradient = loss_and_gradient(name, labels, embeddings)
    compiled = tf.function(partial(loss_and_gradient, name), jit_compile=True)
    its_counts, its_loss, its_gradient = compiled(labels, embeddings)
    assert [int(count) for count in its_counts] == [int(count) for count in counts]
    assert float(its_loss) == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(its_gradient, gradient, rtol=1e-5, atol=1e-8)


def test_the_public_losses_compile_with_xla():
    labels = tf.constant([0, 0, 1, 1])
    embeddings = tf.constant([[0.0], [1.0], [3.0], [5.0]])

    @tf.function(jit_compile=True)
    def losses(labels, embeddings):
        loss, fraction = batch_all_triplet_loss(labels, embeddings, margin=3.0)
        return loss, fraction, batch_hard_triplet_loss(labels, embeddings, margin=3.0)

    assert [float(value) for value in losses(labels, embeddings)] == pytest.approx(
        [1.8, 0.625, 1.75]
    )


class Placed:
    """Stands for a tensor of which only the place matters."""

    def __init__(self, device):
        self.device = device


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("", [], False),
        ("", ["a GPU"], True),  # where TensorFlow will place it
        (None, ["a GPU"], True),
        ("/job:localhost/replica:0/task:0/device:GPU:1", ["a GPU"], True),
        ("/device:CPU:0", ["a GPU"], False),
        ("/job:worker/task:1", ["a GPU"], True),
        ("/job:worker/task:1", [], False),
    ],
)
def test_mining_stays_where_the_embeddings_are(monkeypatch, device, visible, expected):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: visible)
    assert stays_on_device(Placed(device)) is expected


def test_xla_is_noticed_when_the_graph_is_built():
    found = []

    @tf.function(jit_compile=True)
    def compiled(x):
        found.append(is_compiled_by_xla())
        inner = tf.function(lambda x: (found.append(is_compiled_by_xla()), x)[1])
        return tf.cond(x > 0, lambda: inner(x), lambda: x)

    compiled(tf.constant(1.0))
    tf.function(lambda x: (found.append(is_compiled_by_xla()), x)[1])(tf.constant(1.0))
    assert found == [True, True, False]


def host_tensors(op, attributes, inputs, outputs):
    """Yield the tensors of an op that its kernel for GPUs has on the host; all if there is none."""
    types = {
        name: tf.as_dtype(value).as_datatype_enum if isinstance(value, tf.DType) else value
        for name, value in attributes.items()
    }
    fitting = [
        kernel
        for kernel in kernels.get_registered_kernels_for_op(op).kernel
        if kernel.device_type in ("GPU", "DEFAULT")
        and all(
            types.get(constraint.name) in constraint.allowed_values.list.type
            for constraint in kernel.constraint
        )
    ]
    if not fitting:
        yield from (*inputs, *outputs)
        return
    definition = op_def_registry.get(op)
    for arguments, tensors in ((definition.input_arg, inputs), (definition.output_arg, outputs)):
        tensors = iter(tensors)
        for argument in arguments:
            number = attributes[argument.number_attr] if argument.number_attr else 1
            for tensor in itertools.islice(tensors, number):
                if argument.name in fitting[0].host_memory_arg:
                    yield tensor


@pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="TensorFlow without GPU kernels")
@pytest.mark.parametrize("name", sorted(TRIPLET_STRATEGIES.keys() - OFFLINE_STRATEGIES))
def test_on_a_gpu_only_shapes_are_on_the_host(monkeypatch, name):
    """By the kernels that TensorFlow has for GPUs; this needs none.

    A matrix of int32, for instance, would be compared on the host.
    """
    monkeypatch.setattr(rectangle, "stays_on_device", lambda tensor: True)
    size, seen, crossing = 24, set(), set()

    def note(op, inputs, attributes, outputs, op_name=None, graph=None):
        attributes = dict(zip(attributes[::2], attributes[1::2], strict=True))
        seen.add(op)
        if op in ("Const", "Identity"):
            return None
        for tensor in host_tensors(op, attributes, inputs, outputs):
            if tensor.dtype != tf.variant and tensor.shape.num_elements() >= size:
                crossing.add((op, tensor.dtype.name, tuple(tensor.shape)))
        return None

    labels = tf.constant(np.arange(size, dtype=np.int32) % 5)
    embeddings = tf.constant(RNG.normal(size=(size, 6)).astype(np.float32))
    op_callbacks.add_op_callback(note)
    try:
        loss_and_gradient(name, labels, embeddings)
    finally:
        op_callbacks.remove_op_callback(note)
    assert "MatMul" in seen
    assert not crossing
