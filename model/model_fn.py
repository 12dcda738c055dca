"""The Estimator's model in its three modes: network, triplet strategy, optimizer and metrics."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from model.distribution import ONE_REPLICA, Distribution
from model.estimator import estimator, global_step, keras, tf
from model.input_fn import scale_pixels
from model.loss_scaling import LossScaling
from model.micro_batches import MicroBatches, WholeBatch
from model.mining.by_params import loss_by, loss_by_params
from model.mining.loss import TripletLoss
from model.mining.memory import MEMORY, Memory
from model.moving_average import MovingAverage, saver_of_averages
from model.network import build_network, plain
from model.optimizers import training_step
from model.pretrained import InitialWeights, LayerValues, NamedValues
from model.split_metrics import SPLIT_METRICS, SplitMetrics
from model.views import embed_views
from model.whitening import WhitenEmbedding
from src.data.split import Split
from src.experiment.tags import tag_of
from src.mining.distances import PERCENTILES, percentiles_of_distances
from src.params.schema import Params


def model_fn(
    features: tf.Tensor,
    labels: tf.Tensor | None,
    mode: str,
    params: Params,
    num_steps: int = 1,
    initial_weights: LayerValues | NamedValues | None = None,
    distribution: Distribution = ONE_REPLICA,
    fitted_to: Split | None = None,
) -> "estimator.EstimatorSpec":
    """Build the graph of one mode.

    Args:
        features: images, float32 [B, H, W, C] in [0, 1]. Offline, in TRAIN and EVAL: [3T, H, W, C],
            the anchors, then the positives, then the negatives of T triplets. In TRAIN with
            several workers, only those of this worker's rows.
        labels: int32 [B] or [3T], of the whole batch; None in PREDICT.
        mode: TRAIN, EVAL or PREDICT of `estimator.ModeKeys`.
        params: the experiment's params.
        num_steps: the steps of the whole training, for the learning rate's schedule.
        initial_weights: the weights that a new training starts from; None for random weights.
        distribution: how TRAIN is divided among replicas; the other modes are not.
        fitted_to: the training images, with `embedding_whitening`: a new training fits the
            embedding layer to them.

    Returns:
        The EstimatorSpec. PREDICT returns `embeddings`, float32 [B, D]. In TRAIN and EVAL, hooks
        can fetch scalars of the scope `progress`: `loss`, `fraction_positive` (NaN if there is no
        triplet) and `batch_size` (B or T); in TRAIN also `median_distance`.
    """
    network = _network(features, params)
    if mode == estimator.ModeKeys.TRAIN:
        return _train_spec(
            network, features, labels, params, num_steps, initial_weights, distribution, fitted_to
        )
    part_size = None if mode == estimator.ModeKeys.PREDICT else params.micro_batch_size

    def embed(images: tf.Tensor) -> tf.Tensor:
        if part_size:
            return MicroBatches(network, images, part_size, training=False).embeddings
        return network(images, training=False)

    embeddings = embed_views(embed, features, params)  # [B, D]
    saver = saver_of_averages(network) if params.ema_decay is not None else None
    scaffold = tf.compat.v1.train.Scaffold(saver=saver)
    if mode == estimator.ModeKeys.PREDICT:
        predictions = {"embeddings": embeddings}
        return estimator.EstimatorSpec(mode, predictions=predictions, scaffold=scaffold)
    return _eval_spec(labels, embeddings, params, scaffold)


def _train_spec(
    network: keras.Model,
    features: tf.Tensor,
    labels: tf.Tensor,
    params: Params,
    num_steps: int,
    initial_weights: LayerValues | NamedValues | None,
    distribution: Distribution,
    fitted_to: Split | None,
) -> "estimator.EstimatorSpec":
    """Return the EstimatorSpec of TRAIN: embed, gather, mine, step; see model/distribution.py."""
    size = tf.shape(labels)[0] // distribution.stack
    batches = _embed(network, features, params, distribution, size)
    embeddings = distribution.join([batch.embeddings for batch in batches])  # of this process
    candidates = embeddings if params.is_offline else distribution.gather(embeddings, size)
    memory = _memory(params)
    triplets = _mine(labels, candidates, memory, params, distribution, size)
    measured = candidates
    if params.is_offline:  # measure each image once: as an anchor
        measured = distribution.gather(tf.split(embeddings, 3)[0], size)
    loss, fraction_positive = _scalars_for_hooks(triplets, batch_size=size)
    has_triplet = triplets.num_valid_triplets > 0
    tf.compat.v1.summary.scalar(tag_of("loss"), tf.where(has_triplet, loss, math.nan))
    tf.compat.v1.summary.scalar(tag_of("fraction_positive"), fraction_positive)
    _summarize(measured, params.distance_name)

    (by_candidates,) = tf.gradients(loss, [candidates])
    by_embeddings = by_candidates
    if not params.is_offline:
        by_embeddings = distribution.gradient_of_own(by_candidates, size)
    scaling = LossScaling() if params.compute_dtype == "float16" else None
    if scaling:  # the part of the gradient that passes through float16 begins here
        by_embeddings = scaling.scaled(by_embeddings)
    weights = list(map(plain, network.trainable_weights))
    average = None if params.ema_decay is None else MovingAverage(network, params.ema_decay)
    by_weights = _gradients(batches, distribution, by_embeddings, size, weights)
    # Keras leaves UPDATE_OPS empty. Without these updates, batch norm's moving statistics never
    # change. `measured` is computed at every step, because all workers must run the same exchanges.
    with tf.control_dependencies([*network.get_updates_for(features), measured]):
        by_weights = distribution.add_gradients(by_weights)
        train_op = training_step(by_weights, weights, params, num_steps, scaling, average)
    if memory:
        train_op = tf.group(train_op, memory.write(labels, candidates))
    scaffold = tf.compat.v1.train.Scaffold(
        init_fn=_beginning(network, params, initial_weights, average, fitted_to),
        summary_op=_defined_summaries(),
    )
    return estimator.EstimatorSpec(
        estimator.ModeKeys.TRAIN, loss=loss, train_op=train_op, scaffold=scaffold
    )


def _beginning(
    network: keras.Model,
    params: Params,
    initial_weights: LayerValues | NamedValues | None,
    average: MovingAverage | None,
    fitted_to: Split | None,
) -> InitialWeights | None:
    """Return what sets weights once they are drawn; None if a training starts with those."""
    whitening = None
    if fitted_to is not None and params.embedding_whitening is not None:
        whitening = WhitenEmbedding(network, fitted_to, params)
    if initial_weights is None and whitening is None:
        return None
    return InitialWeights(network, initial_weights, average, whitening)


def _embed(
    network: keras.Model,
    features: tf.Tensor,
    params: Params,
    distribution: Distribution,
    size: tf.Tensor,
) -> list[WholeBatch | MicroBatches]:
    """Embed this process's rows of a training batch, each replica its own."""
    embedded: list[WholeBatch | MicroBatches] = []
    parts = distribution.split(features, size)
    for (device, own), part in zip(distribution.replicas(size), parts, strict=True):
        rows = distribution.rows(own, size) if distribution.num_replicas > 1 else None
        with device:
            if params.micro_batch_size is None:
                embedded.append(WholeBatch(network, part, rows))
            else:
                embedded.append(MicroBatches(network, part, params.micro_batch_size, rows))
    return embedded


def _gradients(
    batches: list[WholeBatch | MicroBatches],
    distribution: Distribution,
    by_embeddings: tf.Tensor,
    size: tf.Tensor,
    weights: list[tf.Variable],
) -> list[tf.Tensor]:
    """Return the gradient by the weights, added up over this process's replicas."""
    of_replicas = []
    parts = distribution.split(by_embeddings, size)
    for (device, _), batch, part in zip(distribution.replicas(size), batches, parts, strict=True):
        with device:  # micro-batches are embedded again: where they were the first time
            of_replicas.append(batch.gradients(part, weights))
    if len(of_replicas) == 1:
        return of_replicas[0]
    return [tf.add_n(gradients) for gradients in zip(*of_replicas, strict=True)]


def _memory(params: Params) -> Memory | None:
    """Create the memory of a training, and note it for the hooks; None if it has none."""
    if not params.memory_size:
        return None
    memory = Memory(params.memory_size, params.embedding_size)
    tf.compat.v1.add_to_collection(MEMORY, memory)
    return memory


def _mine(
    labels: tf.Tensor,
    candidates: tf.Tensor,
    memory: Memory | None,
    params: Params,
    distribution: Distribution,
    size: tf.Tensor,
) -> TripletLoss:
    """Return a training batch's loss; its gradient is that of this process's anchors.

    Args:
        labels: int32 [B] or [3T], of the whole batch.
        candidates: float32 [B, D]; offline [3t, D], of this process's triplets.
        memory: adds further candidates, which are no anchors.
        params: the strategy, also that of the warm-up.
        distribution: which anchors are this process's.
        size: integer scalar, B or T.
    """
    if params.is_offline:
        own = distribution.own(size)
        labels = tf.reshape(tf.reshape(labels, [3, -1])[:, own.first : own.end], [-1])
        return distribution.total(loss_by_params(labels, candidates, params, training=True))
    if memory:
        is_used = global_step() >= params.memory_start_steps
        labels, candidates = memory.candidates(labels, candidates, is_used)
    is_divided = memory is not None or distribution.num_replicas > 1
    parts = []
    for device, own in distribution.replicas(size):
        # TensorFlow cannot place the gradients of two tf.cond on two devices ("Cannot colocate").
        with nullcontext() if params.warmup_strategy else device:
            anchors = tf.range(own.first, own.end) if is_divided else None
            parts.append(loss_by_params(labels, candidates, params, training=True, anchors=anchors))
    added = parts[0] if len(parts) == 1 else TripletLoss(*map(tf.add_n, zip(*parts, strict=True)))
    return distribution.total(added)


def _network(features: tf.Tensor, params: Params) -> keras.Model:
    """Build the network for images of this shape, with initial weights drawn from the seed."""
    # Keras draws the seeds of initial weights from its own generator; RunConfig's seed does not set
    # it.
    keras.utils.set_random_seed(params.seed)
    return build_network(params, tuple(features.shape[1:]))


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
    labels: tf.Tensor,
    embeddings: tf.Tensor,
    params: Params,
    scaffold: "tf.compat.v1.train.Scaffold",
) -> "estimator.EstimatorSpec":
    """Return the EstimatorSpec of EVAL: metrics over the whole split, and its exact loss."""
    triplets = loss_by_params(labels, embeddings, params, training=False)
    if params.is_offline:  # measure each image once: as an anchor
        labels, embeddings = tf.split(labels, 3)[0], tf.split(embeddings, 3)[0]
    _scalars_for_hooks(triplets, batch_size=tf.shape(embeddings)[0])
    at_reference = loss_by(
        "batch_all",
        labels,
        embeddings,
        anchors=None,
        block_size=params.micro_batch_size,
        margin=params.reference_margin,
        distance="euclidean",
    )
    metrics = SplitMetrics(params.distance_name)
    tf.compat.v1.add_to_collection(SPLIT_METRICS, metrics)
    update_op, exact_loss = metrics.update_op(embeddings, labels, triplets, at_reference)
    return estimator.EstimatorSpec(
        estimator.ModeKeys.EVAL,
        loss=exact_loss,
        eval_metric_ops=metrics.value_ops(update_op),
        scaffold=scaffold,
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


def _defined_summaries() -> tf.Tensor:
    """Return all summaries of the graph, without scalars that are NaN (undefined)."""

    def leave_out(serialized: bytes) -> bytes:
        summary = tf.compat.v1.Summary.FromString(serialized)
        kept = [value for value in summary.value if not math.isnan(value.simple_value)]
        return tf.compat.v1.Summary(value=kept).SerializeToString()

    return tf.numpy_function(leave_out, [tf.compat.v1.summary.merge_all()], tf.string)


def serving_input_fn(
    image_shape: tuple[int, int, int], *, holds_vectors: bool = False
) -> Callable[[], Any]:
    """Return the input function of an exported model: `images`, uint8 [B, H, W, C], as in `Split`.

    Args:
        image_shape: (H, W, C); (1, F, 1) of vectors.
        holds_vectors: whether it takes `vectors`, float32 [B, F], instead.
    """

    def receive() -> Any:
        if holds_vectors:
            vectors = tf.compat.v1.placeholder(tf.float32, [None, image_shape[1]], "vectors")
            images = tf.reshape(vectors, [-1, *image_shape])
            return estimator.export.TensorServingInputReceiver(images, {"vectors": vectors})
        images = tf.compat.v1.placeholder(tf.uint8, [None, *image_shape], "images")
        return estimator.export.TensorServingInputReceiver(scale_pixels(images), {"images": images})

    return receive
