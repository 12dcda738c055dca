"""Mines a batch for some of its anchors at a time, in bounded memory."""

from typing import Protocol

import tensorflow as tf

from model.mining.loss import TripletLoss


class ByAnchors(Protocol):
    """A triplet strategy with everything but the anchors' positions given."""

    def __call__(self, embeddings: tf.Tensor, *, anchors: tf.Tensor) -> TripletLoss:
        """Return the loss of the anchors at these positions, integer [A], among all candidates."""


def mine_in_blocks(
    mine: ByAnchors, embeddings: tf.Tensor, anchors: tf.Tensor, block_size: int
) -> TripletLoss:
    """Return the sum of the losses of blocks of anchors, each against all candidates.

    Distances take memory for [`block_size`, C] numbers instead of [A, C]. The result is that of
    all anchors at once, because sums and counts add up.

    Args:
        mine: the strategy.
        embeddings: float32 [C, D], of all candidates.
        anchors: integer [A], positions among the candidates.
        block_size: the number of anchors in a block; the last block may be smaller.

    Returns:
        The loss; its gradient reaches the embeddings.
    """
    num_anchors = tf.size(anchors)
    # The gradient is found block by block: going back through the loop would keep all blocks.
    fixed = tf.stop_gradient(embeddings)

    def add_block(
        start: tf.Tensor, total: TripletLoss, gradient: tf.Tensor
    ) -> tuple[tf.Tensor, TripletLoss, tf.Tensor]:
        stop = tf.minimum(start + block_size, num_anchors)
        with tf.GradientTape() as tape:
            tape.watch(fixed)
            found = mine(fixed, anchors=anchors[start:stop])
        total = TripletLoss(*(a + b for a, b in zip(total, found, strict=True)))
        return stop, total, gradient + tape.gradient(found.loss_sum, fixed)

    zero = tf.zeros([], tf.int64)
    _, total, gradient = tf.while_loop(
        lambda start, *_: start < num_anchors,
        add_block,
        [0, TripletLoss(tf.zeros([], tf.float64), zero, zero, zero), tf.zeros_like(fixed)],
        parallel_iterations=1,
    )
    total = tf.nest.map_structure(tf.stop_gradient, total)
    # As in model/mining/rectangle.py: a term of value 0 whose gradient is the computed one.
    linear = tf.reduce_sum(tf.stop_gradient(gradient) * (embeddings - fixed))
    return total._replace(loss_sum=total.loss_sum + tf.cast(linear, tf.float64))
