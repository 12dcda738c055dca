"""Which rows of a step's batch a part of it holds, so that random draws do not depend on the parts.

A replica or a micro-batch has some rows of the batch. A layer that draws random numbers for its
rows (`model/dropout.py`) draws those that the same rows get when the batch is whole.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from model.estimator import keras, tf

# The numbers that one block of the generator yields, and the generator: Philox, which is also the
# default of `tf.random.stateless_uniform` on CPUs and GPUs.
_BLOCK = 4
_PHILOX = 1

# The ops that draw anew each time that they run.
_DRAWS = re.compile(
    "(?!Stateless).*(Random|TruncatedNormal|Multinomial)|Rng|Stateful(Uniform|Stand)"
)


class Rows(NamedTuple):
    """Some rows of a batch, as ranges; offline, there are three, because triplets are in thirds.

    Attributes:
        firsts: integer scalars, the first row of each range.
        sizes: integer scalars, the number of rows of each range; may be 0.
    """

    firsts: Sequence[tf.Tensor]
    sizes: Sequence[tf.Tensor]

    def part(self, start: tf.Tensor, size: tf.Tensor) -> "Rows":
        """Return `size` of these rows, from the one at position `start` on."""
        firsts, sizes, before = [], [], tf.constant(0, tf.int64)
        start = tf.cast(start, tf.int64)
        end = start + tf.cast(size, tf.int64)
        for first, count in zip(self.firsts, self.sizes, strict=True):
            count = tf.cast(count, tf.int64)
            low = tf.clip_by_value(start - before, 0, count)
            high = tf.clip_by_value(end - before, 0, count)
            firsts.append(tf.cast(first, tf.int64) + low)
            sizes.append(high - low)
            before += count
        return Rows(firsts, sizes)

    @property
    def indices(self) -> tf.Tensor:
        """The rows' positions in the batch, int64 [n]."""
        ranges = [
            tf.cast(first, tf.int64) + tf.range(tf.cast(size, tf.int64))
            for first, size in zip(self.firsts, self.sizes, strict=True)
        ]
        return tf.concat(ranges, 0)


_current: list[Rows] = []


@contextmanager
def rows_of_batch(rows: Rows | None) -> Iterator[None]:
    """Build what is built in the block for these rows of the batch; None: the rows are all."""
    if rows is None:
        yield
        return
    _current.append(rows)
    try:
        yield
    finally:
        _current.pop()


def uniform_by_row(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return random numbers for each row, which do not depend on the other rows.

    Args:
        shape: integer, [n, ...]; the n rows are those that the enclosing `rows_of_batch` names.
            Without one, they are the whole batch.
        seed: integer [2].

    Returns:
        float32 of this shape, in [0, 1): these rows of `tf.random.stateless_uniform([B, ...],
        seed)`.
    """
    if not _current:
        return tf.random.stateless_uniform(shape, seed)
    return _by_row(tf.raw_ops.StatelessRandomUniformV2, shape, seed)


def normal_by_row(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return normal numbers for each row; as `uniform_by_row`, of `tf.random.stateless_normal`."""
    if not _current:
        return tf.random.stateless_normal(shape, seed)
    return _by_row(tf.raw_ops.StatelessRandomNormalV2, shape, seed)


def trained_batch_norms(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the layers that normalize by the statistics of a batch; frozen ones do not."""
    return [
        layer
        for layer in network.submodules
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def drawing_layer(network: keras.Model) -> str | None:
    """Return `layer_that_draws` of the network in training; this adds ops to the current graph."""
    image = tf.zeros([1, *network.input_shape[1:]])
    num_before = len(image.graph.get_operations())
    network(image, training=True)
    return layer_that_draws(network, image.graph.get_operations()[num_before:])


def layer_that_draws(network: keras.Model, operations: Sequence[tf.Operation]) -> str | None:
    """Return the layer whose draws do not depend on the row alone; None if there is none.

    Layers do not say so, but their ops do: those that draw anew each time that they run.

    Args:
        network: the layers.
        operations: those that the network's call added to a graph.
    """
    layers = {layer.name for layer in network.submodules if isinstance(layer, keras.layers.Layer)}
    library: dict[str, Any] = {}
    for op in operations:
        if not library and any(_called(op.node_def)):
            library = {f.signature.name: f for f in op.graph.as_graph_def().library.function}
        if _draws(op.node_def, library):
            return next((name for name in op.name.split("/")[::-1] if name in layers), op.name)
    return None


def _draws(node: Any, library: Mapping[str, Any]) -> bool:
    """Return whether a NodeDef draws, or a node of the functions that it calls, such as a loop's.

    Args:
        node: the node.
        library: the FunctionDefs of its graph, by name.
    """
    if _DRAWS.match(node.op):
        return True
    functions = [library[name] for name in _called(node) if name in library]
    return any(_draws(inner, library) for function in functions for inner in function.node_def)


def _called(node: Any) -> Iterator[str]:
    """Yield the names of the functions that a NodeDef calls."""
    for value in node.attr.values():
        yield from (function.name for function in (value.func, *value.list.func) if function.name)


def _by_row(op: Callable[..., tf.Tensor], shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the current rows of the batch's draw, of shape [n, ...]."""
    rows, shape = _current[-1], tf.cast(shape, tf.int64)
    width = tf.reduce_prod(shape[1:])
    parts = [
        _numbers(op, seed, tf.cast(first, tf.int64) * width, tf.cast(size, tf.int64) * width)
        for first, size in zip(rows.firsts, rows.sizes, strict=True)
    ]
    return tf.reshape(tf.concat(parts, 0), shape)


def _numbers(
    op: Callable[..., tf.Tensor], seed: tf.Tensor, first: tf.Tensor, count: tf.Tensor
) -> tf.Tensor:
    """Return numbers `first` ... `first + count - 1` of a stateless draw, float32 [count]."""
    start = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    # The counter has 128 bits, in two words; the lower one may overflow.
    low = start.counter[0] + tf.cast(first // _BLOCK, tf.uint64)
    carry = tf.cast(low < start.counter[0], tf.uint64)
    lead = first % _BLOCK
    numbers = op(
        shape=[lead + count],
        key=start.key,
        counter=tf.stack([low, start.counter[1] + carry]),
        alg=_PHILOX,
        dtype=tf.float32,
    )
    return numbers[lead:]
