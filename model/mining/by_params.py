"""The loss of a batch by the strategy that params name, and by that of the warm-up."""

from functools import partial
from typing import Any

from model.estimator import global_step, tf
from model.mining.blocks import mine_in_blocks
from model.mining.loss import TripletLoss
from src.params.schema import Params
from src.registry import OFFLINE_STRATEGIES, RANDOM_STRATEGIES, TRIPLET_STRATEGIES, look_up


def loss_by_params(
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    params: Params,
    *,
    training: bool,
    anchors: tf.Tensor | None = None,
) -> TripletLoss:
    """Return the loss by the strategy of `params` or, during warm-up, the warm-up strategy.

    The graph contains both, so the switch needs no restart.

    Args:
        labels: integer [C]; see model/triplet_strategies/__init__.py.
        embeddings: float32 [C, D].
        params: the experiment's params.
        training: False for an evaluation, which does not warm up. Its random draws are those of
            step 0, so that evaluations can be compared.
        anchors: as of a strategy; None also for offline triplets.
    """
    step = tf.cast(global_step(), tf.int64) if training else tf.zeros([], tf.int64)

    def by(strategy: str) -> TripletLoss:
        arguments = params.arguments_of(strategy)
        if strategy in RANDOM_STRATEGIES:
            arguments["seed"] = tf.stack([tf.constant(params.seed, tf.int64), step])
        return loss_by(
            strategy,
            labels,
            embeddings,
            anchors=anchors,
            block_size=params.micro_batch_size,
            margin=params.margin,
            distance=params.distance_name,
            **arguments,
        )

    if not (training and params.warmup_strategy):
        return by(params.triplet_strategy)
    return tf.cond(
        global_step() < params.warmup_steps,
        lambda: by(params.warmup_strategy),
        lambda: by(params.triplet_strategy),
    )


def loss_by(
    strategy: str,
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    *,
    anchors: tf.Tensor | None,
    block_size: int | None,
    **arguments: Any,
) -> TripletLoss:
    """Return the loss by a strategy, for `block_size` anchors at a time; None for all at once.

    Args:
        strategy: a key of TRIPLET_STRATEGIES.
        labels: see `loss_by_params`.
        embeddings: see `loss_by_params`.
        anchors: see `loss_by_params`.
        block_size: the number of anchors.
        arguments: the strategy's others: `margin`, `distance` and its own.
    """
    mine = partial(look_up(TRIPLET_STRATEGIES, strategy), labels, **arguments)
    if block_size is None or strategy in OFFLINE_STRATEGIES:
        return mine(embeddings) if anchors is None else mine(embeddings, anchors=anchors)
    if anchors is None:
        anchors = tf.range(tf.shape(embeddings)[0])
    return mine_in_blocks(mine, embeddings, anchors, block_size)
