"""What `src/mining.py` finds in NumPy, as a differentiable TensorFlow op."""

import ctypes
import os
from collections.abc import Callable

import numpy as np

from model.estimator import tf
from model.triplet_strategies import TripletLoss
from src.mining import Rows, Weights, mine

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def mined_loss(
    weigh: Callable[[Rows], Weights], labels: tf.Tensor, embeddings: tf.Tensor, distance: str
) -> TripletLoss:
    """Return the loss of a batch by the strategy that `weigh` is.

    Args:
        weigh: finds the weights in a block of rows; see `src/mining.py`.
        labels: integer [B] or [B, 1]; any other number of labels raises, for [B, 1] against [B]
            would broadcast to a wrong mask.
        embeddings: float32 [B, D].
        distance: see `src.mining.mine`.

    Returns:
        The loss, whose gradient reaches the embeddings, and the counts.
    """

    def run(labels: np.ndarray, embeddings: np.ndarray) -> tuple[np.ndarray, ...]:
        loss, gradient, *counts = mine(weigh, labels, embeddings, distance)
        return np.float32(loss), gradient, np.array(counts, np.int64)

    loss, gradient, counts = tf.numpy_function(
        run,
        [labels, tf.stop_gradient(embeddings)],
        [tf.float32, tf.float32, tf.int64],
        stateful=False,
    )
    loss.set_shape([])
    gradient.set_shape(embeddings.shape)
    counts.set_shape([3])

    # A term of value 0 whose gradient is the one found. tf.custom_gradient would keep every graph
    # that it was ever used in: a few MB for each evaluation of a training.
    linear = tf.reduce_sum(gradient * embeddings)
    return TripletLoss(loss + (linear - tf.stop_gradient(linear)), *tf.unstack(counts))


def _keep_freed_memory() -> None:
    """Have glibc keep the memory of freed arrays instead of handing it back to the kernel.

    Else every step of `mine` pays for having the pages of its arrays mapped in anew, at B = 256
    as much as for its arithmetic. Elsewhere than with glibc nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # from what size on an array gets a mapping of its own
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)  # how much may lie unused


_keep_freed_memory()
