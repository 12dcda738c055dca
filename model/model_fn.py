"""The Estimator's model in its three modes: network, triplet strategy, optimizer and metrics."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from model.estimator import estimator, keras, tf
from model.input_fn import scale_pixels
from model.learning_rate import learning_rate
from model.mining.loss import TripletLoss
from model.pretrained import InitialWeights, LayerValues
from model.split_metrics import SPLIT_METRICS, SplitMetrics
from src.experiment.tags import tag_of
from src.mining.distances import PERCENTILES, percentiles_of_distances
from src.params.schema import Params
from src.registry import NETWORKS, TRIPLET_STRATEGIES, look_up


def model_fn(
    features: tf.Tensor,
    labels: tf.Tensor | None,
    mode: str,
    params: Params,
    num_steps: int = 1,
    initial_weights: LayerValues | None = None,
) -> "estimator.EstimatorSpec":
    """Build the graph of one mode.

    Args:
        features: images, float32 [B, H, W, C] in [0, 1]. Offline, in TRAIN and EVAL: [3T, H, W, C],
            the anchors, then the positives, then the negatives of T triplets.
        labels: int32 [B] or [3T]; None in PREDICT.
        mode: TRAIN, EVAL or PREDICT of `estimator.ModeKeys`.
        params: the experiment's params.
        num_steps: the steps of the whole training, for the learning rate's schedule.
        initial_weights: the weights that a new training starts from; None for random weights.

    Returns:
        The EstimatorSpec. PREDICT returns `embeddings`, float32 [B, D]. In TRAIN and EVAL, hooks
        can fetch scalars of the scope `progress`: `loss`, `fraction_positive` (NaN if there is no
        triplet) and `batch_size` (B or T); in TRAIN also `median_distance`.
    """
    # Long: the three modes share a beginning.
    is_training = mode == estimator.ModeKeys.TRAIN
    network = _network(features, params)
    embeddings = network(features, training=is_training)  # [B, D]
    if mode == estimator.ModeKeys.PREDICT:
        return estimator.EstimatorSpec(mode, predictions={"embeddings": embeddings})

    triplets = _triplet_loss(labels, embeddings, params, warms_up=is_training)
    if params.is_offline:  # measure each image once: as an anchor
        labels, embeddings = tf.split(labels, 3)[0], tf.split(embeddings, 3)[0]
    loss, fraction_positive = _scalars_for_hooks(triplets, batch_size=tf.shape(embeddings)[0])
    if mode == estimator.ModeKeys.EVAL:
        return _eval_spec(labels, embeddings, triplets, params)

    has_triplet = triplets.num_valid_triplets > 0
    tf.compat.v1.summary.scalar(tag_of("loss"), tf.where(has_triplet, loss, math.nan))
    tf.compat.v1.summary.scalar(tag_of("fraction_positive"), fraction_positive)
    _summarize(embeddings, params.distance_name)
    # Keras leaves UPDATE_OPS empty. Without these updates, batch norm's moving statistics never
    # change.
    with tf.control_dependencies(network.get_updates_for(features)):
        train_op = _train_op(loss, network.trainable_weights, params, num_steps)
    scaffold = tf.compat.v1.train.Scaffold(
        init_fn=InitialWeights(network, initial_weights) if initial_weights else None,
        summary_op=_defined_summaries(),
    )
    return estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


def _network(features: tf.Tensor, params: Params) -> keras.Model:
    """Build the network for images of this shape, with initial weights drawn from the seed."""
    # Keras draws the seeds of initial weights from its own generator; RunConfig's seed does not set
    # it.
    keras.utils.set_random_seed(params.seed)
    return look_up(NETWORKS, params.network)(params, tuple(features.shape[1:]))


def _scalars_for_hooks(triplets: TripletLoss, batch_size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return `loss` and `fraction_positive` (NaN if there is no triplet) of the scope `progress`.

    The scope is their own: an op named `loss` would change the summary's tag to `loss_1`.
    """
    with tf.name_scope("progress"):
        loss = tf.identity(triplets.loss, name="loss")
        fraction_positive = tf.where(
            triplets.num_valid_triplets > 0,
            triplets.fraction_positive,
            math.nan,
            name="fraction_positive",
        )
        tf.identity(batch_size, name="batch_size")
    return loss, fraction_positive


def _eval_spec(
    labels: tf.Tensor, embeddings: tf.Tensor, triplets: TripletLoss, params: Params
) -> "estimator.EstimatorSpec":
    """Return the EstimatorSpec of EVAL: metrics over the whole split, and its exact loss."""
    at_reference = look_up(TRIPLET_STRATEGIES, "batch_all")(
        labels, embeddings, margin=params.reference_margin, distance="euclidean"
    )
    metrics = SplitMetrics(params.distance_name)
    tf.compat.v1.add_to_collection(SPLIT_METRICS, metrics)
    update_op, exact_loss = metrics.update_op(embeddings, labels, triplets, at_reference)
    return estimator.EstimatorSpec(
        estimator.ModeKeys.EVAL, loss=exact_loss, eval_metric_ops=metrics.value_ops(update_op)
    )


def _summarize(embeddings: tf.Tensor, distance: str) -> None:
    """Write summaries of a training batch's embeddings, float32 [B, D]: length and distances."""
    norms = tf.norm(embeddings, axis=1)
    tf.compat.v1.summary.scalar(tag_of("embedding_mean_norm"), tf.reduce_mean(norms))
    percentiles = tf.numpy_function(
        partial(percentiles_of_distances, distance=distance), [embeddings], tf.float32
    )
    for position, percentile in enumerate(PERCENTILES):
        tf.compat.v1.summary.scalar(tag_of(f"distance_p{percentile}"), percentiles[position])
    with tf.name_scope("progress/"):  # the slash reopens the scope: no progress_1
        tf.identity(percentiles[PERCENTILES.index(50)], name="median_distance")


def _train_op(
    loss: tf.Tensor, weights: list[tf.Variable], params: Params, num_steps: int
) -> tf.Operation:
    """Return the op of a training step, which changes `weights` and counts the global step.

    The weights are passed because the graph's own collection of trainable variables also contains
    those that were frozen after creation.
    """
    global_step = tf.compat.v1.train.get_or_create_global_step()
    rate = learning_rate(params, global_step, num_steps)
    tf.compat.v1.summary.scalar(tag_of("learning_rate"), rate)
    optimizer = tf.compat.v1.train.AdamOptimizer(rate)
    return optimizer.minimize(loss, global_step, var_list=weights)


def _defined_summaries() -> tf.Tensor:
    """Return all summaries of the graph, without scalars that are NaN (undefined)."""

    def leave_out(serialized: bytes) -> bytes:
        summary = tf.compat.v1.Summary.FromString(serialized)
        kept = [value for value in summary.value if not math.isnan(value.simple_value)]
        return tf.compat.v1.Summary(value=kept).SerializeToString()

    return tf.numpy_function(leave_out, [tf.compat.v1.summary.merge_all()], tf.string)


def serving_input_fn(image_shape: tuple[int, int, int]) -> Callable[[], Any]:
    """Return the input function of an exported model: `images`, uint8 [B, H, W, C], as in `Split`.

    Args:
        image_shape: (H, W, C).
    """

    def receive() -> Any:
        images = tf.compat.v1.placeholder(tf.uint8, [None, *image_shape], "images")
        return estimator.export.TensorServingInputReceiver(scale_pixels(images), {"images": images})

    return receive


def _triplet_loss(
    labels: tf.Tensor, embeddings: tf.Tensor, params: Params, *, warms_up: bool
) -> TripletLoss:
    """Return a batch's loss by the strategy of `params` or, during warm-up, the warm-up strategy.

    The graph contains both, so the switch needs no restart.
    """

    def by(strategy: str) -> TripletLoss:
        return look_up(TRIPLET_STRATEGIES, strategy)(
            labels, embeddings, margin=params.margin, distance=params.distance_name
        )

    if not (warms_up and params.warmup_strategy):
        return by(params.triplet_strategy)
    return tf.cond(
        tf.compat.v1.train.get_or_create_global_step() < params.warmup_steps,
        lambda: by(params.warmup_strategy),
        lambda: by(params.triplet_strategy),
    )
