"""The embedding layer that a training begins with, fitted to the training images."""

import numpy as np
import pytest

from model import whitening
from model.estimator import estimator, keras, tf
from model.model_fn import model_fn
from model.whitening import _orthonormal, _rows, check_embedding_layer
from src.data.split import Split
from src.embeddings.whitening import whitened_projection
from src.errors import UserError
from src.params.schema import Params
from src.seeds import stream

RNG = np.random.default_rng(0)
LABELS = (np.arange(30) % 3).astype(np.int32)
IMAGES = RNG.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
SPLIT = Split(IMAGES, LABELS, ("a", "b", "c"))
# 8 features for 5 dimensions or 9, in batches that do not divide the images.
KEYS = {"network": "mlp", "hidden_sizes": (8,), "batch_size": 7, "embedding_whitening": 0.5}

DTYPES = ("float32", "float16")


def begun(split=SPLIT, **keys):
    """The values of a new training's variables before its first step, and the features."""
    params = Params(**KEYS, **keys)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(0)
        tf.compat.v1.train.get_or_create_global_step()
        images = tf.compat.v1.placeholder(tf.float32, [None, *split.images.shape[1:]])
        mode = estimator.ModeKeys.TRAIN
        spec = model_fn(images, tf.constant(LABELS), mode, params, fitted_to=split)
        session.run(tf.compat.v1.global_variables_initializer())
        variables = {v.op.name: v for v in tf.compat.v1.global_variables()}
        before = session.run(variables)
        session.graph.finalize()  # as the Estimator's session does
        spec.scaffold.init_fn(session)
        return before, session.run(variables)


def features_of(values, images):
    """The hidden layer, in NumPy."""
    x = images.reshape(len(images), -1).astype(np.float32) / 255
    return np.maximum(x @ values["hidden_1/kernel"] + values["hidden_1/bias"], 0)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [5, 9])
def test_the_layer_whitens_the_features_of_the_training_images(size, flip):
    """And the mirror images, if these are trained on. Averages start with it; all else stays."""
    augment = {"augment": {"flip": flip}}
    before, values = begun(embedding_size=size, seed=4, ema_decay=0.9, **augment)
    features, labels = features_of(values, IMAGES), LABELS
    if flip:
        features = np.concatenate([features, features_of(values, IMAGES[:, :, ::-1])])
        labels = np.tile(LABELS, 2)
    projection = _orthonormal(8, size, stream("projection of the embedding layer", 4))
    expected = whitened_projection(features, labels, projection, 0.5)
    for name, value in zip(("kernel", "bias"), expected, strict=True):
        np.testing.assert_allclose(values[f"embedding/{name}"], value, rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(
            values[f"moving_average/embedding/{name}"], values[f"embedding/{name}"]
        )
    others = [name for name in values if "embedding" not in name]
    assert "hidden_1/kernel" in others
    for name in others:
        np.testing.assert_array_equal(values[name], before[name])
    again = begun(embedding_size=size, seed=4, ema_decay=0.9, **augment)[1]
    np.testing.assert_array_equal(again["embedding/kernel"], values["embedding/kernel"])


def test_features_in_half_precision_give_nearly_the_same_layer():
    kernel, half = (begun(compute_dtype=dtype)[1]["embedding/kernel"] for dtype in DTYPES)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - kernel).max() < 0.1 * np.abs(kernel).max()


def test_rows_or_columns_of_the_projection_are_orthonormal():
    rng = np.random.default_rng(0)
    for shape in ((8, 5), (5, 8), (5, 5)):
        matrix = _orthonormal(*shape, rng)
        assert matrix.shape == shape
        product = matrix.T @ matrix if shape[0] >= shape[1] else matrix @ matrix.T
        np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-12)


def test_of_many_images_some_are_drawn(monkeypatch):
    monkeypatch.setattr(whitening, "_MAX_IMAGES", 60)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(_rows(np.zeros(60, int), rng), np.arange(60))
    few_classes = np.repeat(np.arange(3), [10, 500, 500])
    rows = _rows(few_classes, rng)
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_array_equal(np.bincount(few_classes[rows]), [10, 20, 20])
    many_classes = np.arange(4000) % 400  # of 10 images: the least of some
    counts = np.bincount(many_classes[_rows(many_classes, rng)])
    assert set(counts) == {0, 8} and counts.sum() == 64
    singles = np.concatenate([np.arange(500), [500] * 3])  # do not scatter
    assert _rows(singles, rng).tolist() == [500, 501, 502]


def test_what_cannot_be_fitted_is_refused():
    alike = Split(np.repeat(IMAGES[:3], 10, axis=0), np.repeat(LABELS[:3], 10), ("a", "b", "c"))
    with pytest.raises(UserError) as caught:
        begun(alike)
    assert str(caught.value) == (
        "embedding_whitening: found 0.5; accepted: null, because the features of no class "
        "scatter, or they are not finite"
    )
    images = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(3, name="last")(keras.layers.Flatten()(images))
    network = keras.Model(images, outputs)
    check_embedding_layer(network, Params())
    active = keras.Model(images, keras.layers.Dense(3, "relu", name="embedding")(network.output))
    for each in (network, active):
        with pytest.raises(UserError, match="'mlp' has no dense layer 'embedding' with a bias and"):
            check_embedding_layer(each, Params(**KEYS))
