"""Offline: the triplets are those of the sampler, stacked; the loss a mean over all of them."""

from model.estimator import tf
from model.mining.loss import TripletLoss


def offline(
    labels: tf.Tensor, embeddings: tf.Tensor, *, margin: float, distance: str
) -> TripletLoss:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the triplets of the batch.

    Three inputs to one network with shared weights are one input three times as long: the batch is
    T anchors, then their positives, then their negatives.

    Args:
        labels: integer [3T] or [3T, 1].
        embeddings: float32 [3T, D], not necessarily of length 1.
        margin: > 0, in units of the distance.
        distance: see `src.embeddings.pairs.paired_distances`.

    Returns:
        The loss, a mean over all T triplets, also those of loss 0, and the counts of them. Left out
        is a row that is no triplet by its labels: see `src/mining/triplets.py`.
    """
    anchors, positives, negatives = tf.split(tf.reshape(labels, [-1]), 3)  # each [T]
    is_triplet = tf.logical_and(tf.equal(anchors, positives), tf.not_equal(anchors, negatives))
    # float64, as in model/mining/distances.py
    x = tf.cast(embeddings, tf.float64)
    anchors, positives, negatives = tf.split(x, 3)  # each [T, D]
    losses = (
        _distances(anchors, positives, distance) - _distances(anchors, negatives, distance) + margin
    )  # [T]
    # NaN counts, so that it is not lost. (The graph's optimizer takes "not <= 0" to be "> 0".)
    is_positive = tf.logical_and(is_triplet, tf.logical_or(losses > 0, tf.math.is_nan(losses)))
    loss_sum = tf.reduce_sum(tf.where(is_positive, losses, 0.0))
    num_triplets = tf.math.count_nonzero(is_triplet)
    return TripletLoss(
        tf.cast(tf.math.divide_no_nan(loss_sum, tf.cast(num_triplets, tf.float64)), tf.float32),
        num_averaged_triplets=num_triplets,
        num_positive_triplets=tf.math.count_nonzero(is_positive),
        num_valid_triplets=num_triplets,
    )


def _distances(x: tf.Tensor, y: tf.Tensor, distance: str) -> tf.Tensor:
    """Return the distances of `x` and `y`, float64 [T, D], row by row: [T]; NaN beyond float32."""
    if distance == "cosine":  # half the squared Euclidean distance of vectors of length 1
        x, y = _scaled_to_length_1(x), _scaled_to_length_1(y)
    squares = tf.reduce_sum(tf.square(x - y), axis=1)
    if distance == "euclidean":
        distances = _square_root(squares)
    else:
        distances = (
            squares
            * {"squared_euclidean": 1.0, "mean_squared": 1 / x.shape[1], "cosine": 0.5}[distance]
        )
    return tf.where(distances < tf.float32.max, distances, float("nan"))


def _scaled_to_length_1(x: tf.Tensor) -> tf.Tensor:
    """Return [T, D]; a zero vector stays one, and gets no gradient."""
    length = _square_root(tf.reduce_sum(tf.square(x), axis=1, keepdims=True))
    return x / tf.where(length > 0, length, float("inf"))


def _square_root(squares: tf.Tensor) -> tf.Tensor:
    """Return the square root, whose gradient at 0, which is infinite, is taken as 0."""
    is_positive = squares > 0
    return tf.where(is_positive, tf.sqrt(tf.where(is_positive, squares, 1.0)), 0.0)
