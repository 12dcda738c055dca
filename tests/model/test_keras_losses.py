"""The losses of Addons: its numbers, and both kinds of Keras.

The definition is that of tensorflow/addons v0.23, `losses/triplet.py`; the loops below follow its
`losses/tests/triplet_test.py`, and the sizes of the batches are those of that file.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference

from model.estimator import keras as keras_2
from model.estimator import tf
from model.triplet_loss import (
    TripletAllLoss,
    TripletHardLoss,
    TripletSemiHardLoss,
    batch_hard_triplet_loss,
    triplet_all_loss,
    triplet_hard_loss,
    triplet_semihard_loss,
)
from src.errors import UserError

ROOT = Path(__file__).parent.parent.parent


def l2(x):
    return np.sqrt(squared_l2(x))


def squared_l2(x):
    return ((x[:, None] - x[None]) ** 2).sum(axis=2)


def angular(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return 1 - x @ x.T


def tilted(x):
    """Not a distance: asymmetric, with negative numbers and a diagonal that is not 0."""
    return x @ (x * np.arange(1, x.shape[1] + 1)).T - 1


def tilted_tensors(x):
    return x @ tf.transpose(x * tf.range(1.0, x.shape[1] + 1)) - 1.0


METRICS = {
    "L2": (l2, "L2"),
    "squared-L2": (squared_l2, "squared-L2"),
    "angular": (angular, "angular"),
    "function": (tilted, tilted_tensors),
}


def semihard(labels, x, margin, metric):
    distances, losses = metric(x), []
    for a in range(len(x)):
        negatives = sorted(distances[a, n] for n in range(len(x)) if labels[n] != labels[a])
        for p in range(len(x)):
            if p != a and labels[p] == labels[a]:
                farther = [d for d in negatives if d > distances[a, p]]
                # A masked maximum of nothing is the row's minimum.
                negative = (farther[:1] or negatives[-1:] or [distances[a].min()])[0]
                losses.append(max(distances[a, p] - negative + margin, 0))
    return np.mean(losses) if losses else 0.0


def hard(labels, x, margin, metric, soft=False):
    distances, losses = metric(x), []
    for a, row in enumerate(distances):
        is_positive = (labels == labels[a]) & (np.arange(len(x)) != a)
        positive = row[is_positive].max() if is_positive.any() else row.min()
        is_negative = labels != labels[a]
        negative = row[is_negative].min() if is_negative.any() else row.max()
        difference = positive - negative
        losses.append(np.log1p(np.exp(difference)) if soft else max(difference + margin, 0))
    return np.mean(losses)


def soft(labels, x, margin, metric):
    return hard(labels, x, margin, metric, soft=True)


def all_triplets(labels, x, margin, metric):
    distances = metric(x)
    losses = [
        distances[a, p] - distances[a, n] + margin for a, p, n in reference.valid_triplets(labels)
    ]
    return np.mean([loss for loss in losses if loss > 0] or [0])


LOSSES = {
    "semihard": (semihard, TripletSemiHardLoss, {}),
    "hard": (hard, TripletHardLoss, {}),
    "soft": (soft, TripletHardLoss, {"soft": True}),
    "all": (all_triplets, TripletAllLoss, {}),
}
every_loss = pytest.mark.parametrize("loss", LOSSES)
every_metric = pytest.mark.parametrize("metric", METRICS)


def random_batch(size, num_classes, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, num_classes, size), rng.random((size, 6)).astype(np.float32)


def test_the_examples_of_addons_documentation():
    labels, x = [0, 0], [[0.0, 1.0], [1.0, 0.0]]
    product = lambda x: x @ tf.transpose(x)  # noqa: E731
    assert float(triplet_semihard_loss(labels, x)) == pytest.approx(2.4142137)
    assert float(triplet_semihard_loss(labels, x, distance_metric=product)) == 1
    assert float(triplet_hard_loss(labels, x)) == 1
    assert float(triplet_hard_loss(labels, x, distance_metric=product)) == 0


@every_metric
@every_loss
def test_numbers_are_those_of_the_definition(loss, metric):
    definition, class_, arguments = LOSSES[loss]
    by_loops, name = METRICS[metric]
    one = class_(distance_metric=name, **arguments)
    size = 10 if loss == "semihard" else 20
    for seed in range(3):
        labels, x = random_batch(size, 4, seed)
        found = one(labels, x)
        expected = definition(labels, x.astype(np.float64), 1.0, by_loops)
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        np.testing.assert_allclose(one(labels[:, None].astype(np.float32), x), found, rtol=1e-6)


@every_loss
def test_in_a_graph_and_under_xla(loss):
    definition, class_, arguments = LOSSES[loss]
    labels, x = random_batch(12, 4, 5)
    metrics = [METRICS[metric] for metric in ("L2", "function")]
    of_each = [class_(margin=0.3, distance_metric=name, **arguments) for _, name in metrics]

    def values_and_gradients(labels, x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            values = [one(labels, x) for one in of_each]
        return *values, *(tape.gradient(value, x) for value in values)

    found = values_and_gradients(tf.constant(labels), tf.constant(x))
    expected = [definition(labels, x.astype(np.float64), 0.3, by_loops) for by_loops, _ in metrics]
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    for is_compiled in (False, True):
        compiled = tf.function(values_and_gradients, jit_compile=is_compiled)
        for value, other in zip(found, compiled(tf.constant(labels), tf.constant(x)), strict=True):
            np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6)


# A class of one example; one class; no pair at all
LABELS = {"lone": [0, 0, 1, 1, 1, 2], "one_class": [3] * 6, "no_pair": range(6)}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("metric", ["L2", "angular", "function"])
@every_loss
def test_gradients_are_those_of_the_definition(loss, metric, labels):
    definition, class_, arguments = LOSSES[loss]
    by_loops, name = METRICS[metric]
    labels = np.array(LABELS[labels])
    x = np.random.default_rng(7).random((6, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensor := tf.constant(x))
        value = class_(0.4, distance_metric=name, **arguments)(labels, tensor)
    np.testing.assert_allclose(
        value, definition(labels, x.astype(np.float64), 0.4, by_loops), rtol=1e-5, atol=1e-7
    )
    expected = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[place] = 1e-6
        ends = (definition(labels, x + sign * step, 0.4, by_loops) for sign in (1, -1))
        expected[place] = np.subtract(*ends) / 2e-6
    np.testing.assert_allclose(tape.gradient(value, tensor), expected, rtol=1e-4, atol=1e-5)


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(loss, dtype):
    definition, class_, arguments = LOSSES[loss]
    labels, x = random_batch(20, 4, 11)
    x = tf.cast(x, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        found = class_(**arguments)(labels, x)
    rounded = tf.cast(x, tf.float64).numpy()  # the loss itself is not rounded
    np.testing.assert_allclose(found, definition(labels, rounded, 1.0, l2), rtol=1e-5)
    gradient = tape.gradient(found, x)
    assert gradient.dtype == dtype and np.isfinite(tf.cast(gradient, tf.float32)).all()


def test_where_batch_hard_differs():
    labels, x = tf.constant([0, 0, 1, 1, 2]), tf.constant([[0.0], [1.0], [3.0], [5.0], [5.5]])
    losses = np.array([0, 0, 1, 2.5, 0.5])  # the last anchor has no positive
    assert float(triplet_hard_loss(labels, x)) == pytest.approx(losses.mean())
    ours = batch_hard_triplet_loss(labels, x, margin=1.0)
    assert float(ours) == pytest.approx(losses[:4].mean())


def test_equal_embeddings_have_a_finite_gradient():
    x = tf.zeros([6, 3])
    for _, class_, arguments in LOSSES.values():
        for metric in ("L2", "squared-L2", "angular"):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = class_(distance_metric=metric, **arguments)([0, 0, 0, 1, 1, 2], x)
            assert np.isfinite(value) and np.isfinite(tape.gradient(value, x)).all()


def test_embeddings_that_are_not_finite_are_not_hidden():
    x = tf.constant([[0.0], [np.nan], [1.0], [2.0]])
    for _, class_, arguments in LOSSES.values():
        for metric in ("L2", tilted_tensors):
            assert np.isnan(class_(distance_metric=metric, **arguments)([0, 0, 1, 1], x))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.eye(4)[[0, 1, 2, 3]], "one-hot"),
        (np.float16([0, 0, 1, 1]), "float16"),
        (["a", "a", "b", "b"], "string"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, message):
    with pytest.raises(UserError, match=message):
        triplet_hard_loss(labels, np.eye(4, dtype=np.float32))


def test_labels_that_float32_may_have_rounded_are_not_used():
    x = tf.eye(4)
    for function in (triplet_hard_loss, triplet_semihard_loss, triplet_all_loss):
        compiled = tf.function(function, jit_compile=True)
        for labels in ([0.0, 0.5, 1, 1], [2.0**24, 2.0**24 + 2, 0, 0]):
            labels = tf.constant(labels)
            with pytest.raises(tf.errors.InvalidArgumentError, match="y_true: found a label"):
                function(labels, x)
            assert np.isnan(compiled(labels, x))  # XLA cannot raise


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, "margin: found -0.1"),
        ({"margin": float("nan")}, "margin: found nan"),
        ({"distance_metric": "L_2"}, "distance_metric: found 'L_2'"),
    ],
)
def test_bad_arguments(arguments, message):
    for _, class_, _ in LOSSES.values():
        with pytest.raises(UserError, match=message):
            class_(**arguments)


def test_bad_embeddings_and_weights():
    with pytest.raises(UserError, match="y_pred: found float32"):
        triplet_hard_loss([0, 0], np.zeros((2, 2, 2), np.float32))
    with pytest.raises(UserError, match="y_pred: found int"):
        triplet_hard_loss([0, 0], [[1], [2]])
    with pytest.raises(UserError, match="sample_weight"):
        TripletHardLoss()([0, 0], [[1.0], [2.0]], [1.0, 1.0])


# Keras 3 beside Keras 2 takes 100 MB.
each_version = pytest.mark.parametrize("version", [2, pytest.param(3, marks=pytest.mark.system)])


def keras_of(version):
    if version == 2:
        return keras_2
    keras = pytest.importorskip("keras", minversion="3")
    importlib.import_module("keras")
    return keras


@each_version
@pytest.mark.parametrize("is_compiled", [False, True])
def test_in_keras(version, is_compiled, tmp_path):
    keras = keras_of(version)
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 4 + (2**24 - 5)  # the largest that Keras 3's float32 holds
    images = (np.eye(4)[labels % 4] + 0.3 * rng.random((48, 4))).astype(np.float32)
    for name in ("semihard", "hard") if is_compiled else LOSSES:
        _, class_, arguments = LOSSES[name]
        loss = class_(margin=0.5, **arguments)
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
        expected = float(loss(labels, model.predict(images, verbose=0)))
        optimizer = keras.optimizers.SGD(0.3)
        model.compile(optimizer=optimizer, loss=loss, jit_compile=is_compiled)
        history = model.fit(images, labels, batch_size=48, epochs=8, shuffle=False, verbose=0)
        assert history.history["loss"][0] == pytest.approx(expected, rel=1e-5)
        assert history.history["loss"][-1] < expected
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path, custom_objects={class_.__name__: class_})
    assert type(loaded.loss) is class_ and loaded.loss.get_config() == loss.get_config()


@each_version
def test_in_keras_with_mixed_precision(version):
    keras = keras_of(version)
    images, labels = np.eye(8, dtype=np.float32), np.arange(8) // 2
    policy = keras.mixed_precision.Policy if version == 2 else keras.DTypePolicy
    dense = keras.layers.Dense(2, dtype=policy("mixed_bfloat16"))  # its output is bfloat16
    model = keras.Sequential([keras.layers.Input((8,)), dense])
    model.compile("sgd", loss=TripletSemiHardLoss())
    losses = model.fit(images, labels, epochs=3, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_a_loss_that_addons_has_saved_is_read():
    config = {"reduction": "none", "name": "x", "margin": 0.2, "distance_metric": "squared-L2"}
    loss = TripletSemiHardLoss.from_config(config)
    assert loss.get_config() == {key: config[key] for key in list(config)[1:]}


@pytest.mark.system
def test_importing_the_losses_changes_nothing():
    """In the process, after TensorFlow itself: neither the environment nor which Keras there is."""
    code = """
import ctypes, gc, json, os, sys
import tensorflow as tf
def state():
    return [dict(os.environ), gc.get_freeze_count(), gc.get_threshold(), gc.isenabled(),
            sorted(vars(tf)), tf.keras.__name__, sys.getswitchinterval()]
packages = lambda: {name.split(".")[0] for name in sys.modules}
before = state(), packages()
ctypes.CDLL = None  # through which malloc would be set
import model.triplet_loss
from model.triplet_loss import TripletHardLoss
assert float(TripletHardLoss()([0, 0], [[0.0, 1.0], [1.0, 0.0]])) == 1
print(json.dumps([state() == before[0], sorted(packages() - before[1])]))
"""
    environment = {key: value for key, value in os.environ.items() if key[:3] != "TF_"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    is_same, added = json.loads(done.stdout)
    assert is_same and added == ["model", "src"]
