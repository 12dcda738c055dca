"""Builds an experiment's network, so that it computes in the dtype that the params choose."""

from collections.abc import Iterator
from contextlib import contextmanager

from model.estimator import keras, tf
from src.params.schema import Params
from src.registry import NETWORKS, look_up


def build_network(params: Params, image_shape: tuple[int, int, int]) -> keras.Model:
    """Build the network with random weights.

    Args:
        params: `network`, `compute_dtype`, and the keys that the network reads.
        image_shape: (H, W, C), in pixels and channels.

    Returns:
        A Keras model: float32 [B, H, W, C] in [0, 1] -> float32 [B, D]. Its weights are float32 in
        any compute dtype, so checkpoints have the same form.

    Raises:
        UserError: the network cannot be built for these images.
    """
    with _layers_compute_in(params.compute_dtype):
        return look_up(NETWORKS, params.network)(params, image_shape)


def plain(weight: tf.Variable) -> tf.Variable:
    """Return a weight's variable; in half precision, Keras wraps it to cast it when it is read."""
    return getattr(weight, "_variable", weight)


@contextmanager
def _layers_compute_in(dtype: str) -> Iterator[None]:
    """Make layers that are created in the block compute in `dtype`, unless they name their own.

    A layer reads Keras' global policy when it is created, and layers of `keras.applications` take
    no other hint.
    """
    policy = keras.mixed_precision
    before = policy.global_policy()
    policy.set_global_policy(dtype if dtype == "float32" else f"mixed_{dtype}")
    try:
        yield
    finally:
        policy.set_global_policy(before)
