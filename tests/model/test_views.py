"""Embeddings averaged over views, against a loop in NumPy over shifted and mirrored images."""

import numpy as np
import pytest

from model.estimator import estimator, tf
from model.model_fn import model_fn
from model.views import views
from src.params.schema import Params

RNG = np.random.default_rng(0)
# One pixel is a 28th of 8; three are one of 84.
SIZES = {(8, 8): (1, 1), (8, 84): (1, 3)}
PLUS = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]


def shifted(images, down, right):
    """Pixel by pixel; beyond the edge, the pixels before it."""
    height, width = images.shape[1:3]

    def source(position, side):
        return -position - 1 if position < 0 else min(position, 2 * side - 1 - position)

    found = np.empty_like(images)
    for y in range(height):
        for x in range(width):
            found[:, y, x] = images[:, source(y - down, height), source(x - right, width)]
    return found


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        ((8, 8), {"embed_views": 5}),
        ((8, 84), {"embed_views": 5, "l2_normalize": True}),
        ((8, 8), {"embed_views": 4, "augment": {"flip": True}, "micro_batch_size": 3}),
    ],
)
def test_the_embedding_is_the_mean_of_those_of_the_views(size, keys):
    images = RNG.random((7, *size, 1)).astype(np.float32)
    params = Params(num_channels=4, embedding_size=5, **keys)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = tf.compat.v1.placeholder(tf.float32, [None, *size, 1])
        spec = model_fn(fed, None, estimator.ModeKeys.PREDICT, params)
        embeddings = spec.predictions["embeddings"]
        assert embeddings.shape.as_list() == [None, 5]
        session.run(tf.compat.v1.global_variables_initializer())
        weights = session.run(tf.compat.v1.global_variables())
        found = session.run(embeddings, {fed: images})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        fed = tf.compat.v1.placeholder(tf.float32, [None, *size, 1])
        single = params.model_copy(update={"embed_views": 1, "micro_batch_size": None})
        spec = model_fn(fed, None, estimator.ModeKeys.PREDICT, single)
        for variable, value in zip(tf.compat.v1.global_variables(), weights, strict=True):
            variable.load(value, session)
        units = SIZES[size]
        of_views = []
        for down, right in PLUS:
            view = shifted(images, down * units[0], right * units[1])
            for image in (view, view[:, :, ::-1]) if params.augment.flip else (view,):
                of_views.append(session.run(spec.predictions["embeddings"], {fed: image}))
    expected = np.mean(of_views[: params.embed_views], axis=0)
    if params.l2_normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found - of_views[0]).max() > 1e-3


def test_views_differ_and_are_mirrored_only_if_allowed():
    assert views(1, mirrors=True) == [(0, 0, False)]
    assert views(3, mirrors=True) == [(0, 0, False), (0, 0, True), (0, 1, False)]
    for mirrors in (False, True):
        assert len(set(views(9, mirrors=mirrors))) == 9
    assert not any(mirrored for _, _, mirrored in views(9, mirrors=False))
