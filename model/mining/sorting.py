"""Rows of distances sorted in TensorFlow ops alone, for GPUs and for XLA.

The same sort as in `src/mining/rows.py`, with the same order of ties, but nothing leaves the device
on which the distances are. XLA compiles it: shapes depend on shapes only, and no op is left to
Python. TensorFlow's kernels for int32 often run on the host also if a GPU is present, so
numbers are float32 here (whole numbers are exact up to 2^24), or int64.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from src.mining.rows import Slopes

# Numbers in a block of rows. About ten arrays of this size exist at a time, of 4 or 8 bytes a
# number: 1 GB. All rows are one block up to B = 4096.
BLOCK_NUMBERS = 1 << 24

_ALL_BUT_SIGN = np.int32(0x7FFFFFFF)


def is_compiled_by_xla() -> bool:
    """Return whether the graph being built is of a `tf.function` with `jit_compile=True`."""
    graph = tf.compat.v1.get_default_graph()
    return bool(control_flow_util.GraphOrParentsInXlaContext(graph))


def stays_on_device(tensor: tf.Tensor) -> bool:
    """Return whether ops on this tensor should leave nothing to the host.

    This is decided when the graph is built. It is so if XLA compiles the graph, if `tensor` is on a
    GPU, or if its place is not known yet and a GPU is visible: TensorFlow then prefers the GPU.
    """
    if is_compiled_by_xla():
        return True
    if kind := tf.DeviceSpec.from_string(tensor.device or "").device_type:
        return bool(kind == "GPU")
    return bool(tf.config.get_visible_devices("GPU"))


class TensorRows(NamedTuple):
    """A block of rows of the distance matrix; the tensors that correspond to `Rows`.

    Attributes:
        distances: float32 [R, C], >= 0; axes: anchor, candidate.
        same: bool [R, C], whether the candidate has the anchor's label; True for the anchor itself.
        is_own: bool [R, C], whether the candidate is the anchor itself.
    """

    distances: tf.Tensor
    same: tf.Tensor
    is_own: tf.Tensor


class SortedRows(NamedTuple):
    """Rows in sorted order; the anchor itself is last, and has the flag.

    Attributes:
        flags: float32 [R, C], 1 or 0.
        places: int32 [R, C], columns.
    """

    flags: tf.Tensor
    places: tf.Tensor


def find_on_device(
    find: Callable[[TensorRows], tf.Tensor],
    margin: float,
    distances: tf.Tensor,
    labels: tf.Tensor,
    anchors: tf.Tensor,
) -> Slopes:
    """Apply `find` to all rows, block by block, and return the combined result.

    Args:
        find: returns the slopes of a block of rows, float32 [R, C].
        margin: > 0, in units of the distance.
        distances: float32 [A, C], see `TensorRows`.
        labels: int64 [C], of the candidates.
        anchors: int64 [A], the columns of the anchors themselves.
    """
    # Long: the loop over blocks, from the shapes to the joined rows.
    num_anchors, num_candidates = tf.unstack(tf.shape(distances))
    num_rows = tf.maximum(1, BLOCK_NUMBERS // tf.maximum(1, num_candidates))
    num_rows = tf.minimum(num_rows, num_anchors)
    num_blocks = tf.maximum(1, -(-num_anchors // tf.maximum(1, num_rows)))
    columns = tf.range(tf.cast(num_candidates, tf.int64))

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert, and looking takes long
    def find_in_block(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        # All blocks have the same number of rows: the last one begins before the end of the last
        # but one.
        start = tf.minimum(number * num_rows, num_anchors - num_rows)
        block = tf.slice(distances, [start, 0], [num_rows, num_candidates])
        own = tf.slice(anchors, [start], [num_rows])[:, None]
        same = tf.equal(tf.gather(labels, own), labels)
        slopes = find(TensorRows(block, same, tf.equal(own, columns)))
        # As in NumPy, there is no loss where a distance is not finite.
        is_finite = tf.reduce_max(block, axis=1, keepdims=True) < np.inf
        slopes = tf.where(is_finite, slopes, 0.0)
        # float64, because the sum of the losses is small compared to that of the distances.
        block = tf.where(is_finite, block, 0.0)
        weighted = tf.cast(slopes, tf.float64) * tf.cast(block, tf.float64)
        num_positive = tf.reduce_sum(tf.cast(tf.nn.relu(slopes), tf.float64), axis=1)
        return slopes, tf.reduce_sum(weighted, axis=1) + margin * num_positive, num_positive

    def joined(blocks: tf.Tensor) -> tf.Tensor:
        """Join the rows of all blocks, each row once."""
        num_repeated = num_blocks * num_rows - num_anchors
        num_before = (num_blocks - 1) * num_rows
        all_but_last = tf.reshape(blocks[:-1], tf.concat([[num_before], tf.shape(blocks)[2:]], 0))
        return tf.concat([all_but_last, blocks[-1][num_repeated:]], 0)

    found = tf.map_fn(
        find_in_block,
        tf.range(num_blocks),
        fn_output_signature=(tf.float32, tf.float64, tf.float64),
        parallel_iterations=1,
    )
    slopes, loss_sums, nums_positive = map(joined, found)
    slopes.set_shape(distances.shape)
    num_positive = tf.cast(tf.reduce_sum(nums_positive), tf.int64)
    return Slopes(slopes, tf.reduce_sum(loss_sums), num_positive)


def sort_tensor_rows(values: tf.Tensor, flag: tf.Tensor, is_own: tf.Tensor) -> SortedRows:
    """Sort each anchor's row by value; of equal values, those with the flag come last.

    The bits of floats >= 0 have the same order as the numbers. A key holds them and, in its lowest
    bit, the flag; so 32 bits are enough. The anchor's own key is that of no finite number.

    Args:
        values: float32 [R, C], >= 0.
        flag: bool [R, C].
        is_own: bool [R, C], see `TensorRows`.
    """
    keys = tf.bitwise.left_shift(tf.bitcast(values, tf.int32), np.int32(1))
    keys = tf.bitwise.bitwise_or(keys, tf.cast(flag, tf.int32))
    keys = tf.where(is_own, np.int32(-1), keys)  # all bits are set
    # Unsigned keys in ascending order are these signed ones in descending order, as `top_k` sorts.
    keys = tf.bitwise.bitwise_xor(keys, _ALL_BUT_SIGN)
    # Of equal keys, the first place first. The shape is of `values`, because a GPU's int32 would be
    # copied to the host for its shape.
    keys, places = tf.math.top_k(keys, tf.shape(values)[1])
    flags = tf.bitwise.bitwise_and(tf.bitwise.invert(keys), np.int32(1))
    return SortedRows(tf.cast(flags, tf.float32), places)


def add_at(places: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Add each value at a place in its row: integer [R, C], float32 [R, C] -> float32 [R, C]."""
    shape = tf.shape(values, out_type=tf.int64)
    starts = shape[1] * tf.range(shape[0])[:, None]
    indices = tf.reshape(tf.cast(places, tf.int64) + starts, [-1, 1])
    added = tf.scatter_nd(indices, tf.reshape(values, [-1]), tf.reshape(shape[0] * shape[1], [1]))
    return tf.reshape(added, shape)
