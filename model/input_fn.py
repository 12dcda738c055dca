"""Batches of images and labels for the Estimator, gathered from a split by index."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf
from src.split import Split


def input_fn(split: Split, batches: Callable[[], Iterable[NDArray[np.intp]]]) -> tf.data.Dataset:
    """Build the dataset of a run over `split`.

    The images stay in NumPy and are gathered a whole batch at a time: `from_tensor_slices` would
    write them into the graph, and so into every checkpoint.

    Args:
        split: the examples.
        batches: called when the run begins; the indices of each batch, int [<= B], in order.

    Returns:
        A dataset of (images, labels): float32 [B, H, W, C] in [0, 1], int32 [B].
    """

    def gather() -> Iterable[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
        for indices in batches():
            yield split.images[indices], split.labels[indices]

    signature = (
        tf.TensorSpec([None, *split.images.shape[1:]], tf.uint8),
        tf.TensorSpec([None], tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(gather, output_signature=signature)
    return dataset.map(
        lambda images, labels: (tf.cast(images, tf.float32) / 255.0, labels)
    ).prefetch(2)
