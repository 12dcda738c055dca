"""Builds batches of images and labels for the Estimator, gathered from a split by index."""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.augment.batch import augment
from model.distribution import ONE_REPLICA, Distribution
from model.estimator import tf
from model.rows import rows_of_batch
from src.data.sampling import ShuffledBatches, batches_in_order
from src.data.split import Split
from src.errors import UserError
from src.mining.batches import training_batches
from src.mining.triplets import TripletBatches
from src.params.schema import Augment, Params
from src.system.process import stay_settled

# The largest batch of `predict_input_fn`, which mines no triplets.
PREDICT_BATCH_SIZE = 256

# Python passes at least one batch, and about this many bytes of pixels, at a time. One Python call
# per batch costs 8 % of the time of a step of the default network.
CHUNK_BYTES = 1 << 20

# Finds, in a traceback inside TensorFlow's message, an error that was raised in Python.
_USER_ERROR = re.compile(
    rf"^(?:{re.escape(UserError.__module__)}\.)?{UserError.__name__}: (.+)$", re.MULTILINE
)


@contextmanager
def names_bad_images() -> Iterator[None]:
    """Raise the original `UserError` of an unreadable image, which TensorFlow wraps in its own."""
    try:
        yield
    except tf.errors.OpError as error:
        match = _USER_ERROR.search(error.message or "")
        if match is None:
            raise
        raise UserError(match[1]) from None


def train_input_fn(
    split: Split,
    params: Params,
    first_step: int,
    mined: NDArray[np.int32] | None = None,
    distribution: Distribution = ONE_REPLICA,
) -> tf.data.Dataset:
    """Build the endless dataset of a training run.

    Args:
        split: the examples.
        params: `batch_size` or P x K, `augment`, `seed`.
        first_step: the step at which the run starts or resumes; batches depend only on `seed` and
            step.
        mined: see `training_batches`.
        distribution: with several workers, only this worker's images are read.

    Returns:
        A dataset of (images, labels): float32 [B, H, W, C] in [0, 1], int32 [B]. B is 3T offline.
        With several workers, images are [n, H, W, C], this worker's; labels are the whole batch's.
    """
    batches = training_batches(split, params, mined)
    dataset = _gather(split, lambda: batches.from_step(first_step), distribution)
    if params.augment == Augment():
        return dataset

    def change(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        rows = None
        if distribution.num_workers > 1:
            size = tf.shape(labels)[0] // distribution.stack
            rows = distribution.rows(distribution.own(size), size)
        with rows_of_batch(rows):
            return augment(images, [params.seed, step], params.augment), labels

    return dataset.enumerate(first_step).map(change).prefetch(2)


def eval_input_fn(split: Split, params: Params) -> tf.data.Dataset:
    """Build the dataset of an evaluation: the split once, in a fixed shuffled order.

    If the dataset is sorted, unshuffled batches would hold one class and no triplet. Offline, each
    image is an anchor once, in a random triplet.

    Args:
        split: the examples.
        params: `triplet_strategy`, `batch_size`, `seed`.

    Returns:
        A dataset of (images, labels): float32 [B, H, W, C] in [0, 1], int32 [B]. B is 3T offline.
    """
    batches: ShuffledBatches | TripletBatches
    if params.is_offline:
        batches = TripletBatches(split.labels, params.batch_size, params.seed)
    else:
        batches = ShuffledBatches(len(split), params.batch_size, params.seed)
    return _gather(split, batches.one_epoch)


def evaluation_order(split: Split, params: Params) -> NDArray[np.intp]:
    """Return the order in which `eval_input_fn` has the examples, or offline the anchors, int [N].

    Args:
        split: the examples.
        params: `batch_size`, `seed`.
    """
    # The anchors of TripletBatches come in this order too.
    batches = ShuffledBatches(len(split), params.batch_size, params.seed)
    return np.concatenate(list(batches.one_epoch()))


def predict_batch_size(params: Params) -> int:
    """Return how many images are embedded at once.

    At most as many as in training: that may have been chosen so that a large network fits.
    """
    return min(PREDICT_BATCH_SIZE, params.images_at_once)


def predict_input_fn(split: Split, batch_size: int = PREDICT_BATCH_SIZE) -> tf.data.Dataset:
    """Build the dataset of the split in its own order; returns the same type as `eval_input_fn`."""
    return _gather(split, lambda: batches_in_order(len(split), batch_size))


def scale_pixels(images: tf.Tensor) -> tf.Tensor:
    """Return uint8 pixels as float32 in [0, 1]; vectors, float32, as they are."""
    return images if images.dtype == tf.float32 else tf.cast(images, tf.float32) / 255.0


def _gather(
    split: Split,
    batches: Callable[[], Iterable[NDArray[np.intp]]],
    distribution: Distribution = ONE_REPLICA,
) -> tf.data.Dataset:
    """Build a dataset from batches of indices; batches are prefetched.

    The images stay in NumPy, and a few batches are gathered at a time. `from_tensor_slices` would
    write the images into the graph, and so into every checkpoint.

    Args:
        split: the examples.
        batches: called when the run begins; returns the indices of each batch, int [<= B], in
            order.
        distribution: which of a batch's images this worker reads.

    Returns:
        A dataset of (images, labels): float32 [B, H, W, C] in [0, 1], int32 [B].
    """
    image_shape = split.images.shape[1:]

    def gather() -> Iterator[tuple[NDArray[Any], NDArray[np.int32]]]:
        stay_settled()
        for chunk in _in_chunks(batches(), max(1, CHUNK_BYTES // math.prod(image_shape))):
            own = chunk
            if distribution.num_workers > 1:
                own = chunk[:, distribution.own_columns(chunk.shape[1] // distribution.stack)]
            yield split.images[own], split.labels[chunk]

    signature = (
        tf.TensorSpec([None, None, *image_shape], split.images.dtype),
        tf.TensorSpec([None, None], tf.int32),
    )
    dataset = tf.data.Dataset.from_generator(gather, output_signature=signature)
    dataset = dataset.map(lambda images, labels: (scale_pixels(images), labels))
    return dataset.prefetch(2).unbatch()


def _in_chunks(batches: Iterable[NDArray[np.intp]], size: int) -> Iterator[NDArray[np.intp]]:
    """Stack consecutive batches of equal length, int [B], into chunks: int [<= size / B, B].

    A chunk holds at least one batch; the order is kept.
    """
    for length, alike in groupby(batches, key=len):
        while chunk := list(islice(alike, max(1, size // length))):
            yield np.stack(chunk)
