"""Pairwise distances of a batch, and the masks of its positive and negative pairs."""

from model.estimator import tf
from src.retrieval import PERCENTILES

# Squared distances below this share of |x|^2 + |y|^2 are rounding: the two vectors are equal.
_ROUNDING = 1e-13


def pairwise_distances(embeddings: tf.Tensor, distance: str) -> tf.Tensor:
    """Return how far every two embeddings are apart.

    Args:
        embeddings: float32 [B, D], of any length.
        distance: `euclidean`; `squared_euclidean`; `mean_squared`, the mean over the D dimensions
            of the squared difference; or `cosine`, 1 - cos of the angle between them, which is half
            the squared Euclidean distance of the vectors scaled to length 1.

    Returns:
        float32 [B, B], symmetric, 0 on the diagonal and between equal embeddings. The gradient at
        Euclidean distance 0 is 0, where that of the square root is infinite.
    """
    x = tf.cast(embeddings, tf.float64)
    if distance == "euclidean":
        return _euclidean_distances(x, squared=False)
    if distance == "squared_euclidean":
        return _euclidean_distances(x, squared=True)
    if distance == "mean_squared":
        return _euclidean_distances(x, squared=True) / tf.cast(tf.shape(x)[1], tf.float32)
    if distance == "cosine":
        return _euclidean_distances(tf.math.l2_normalize(x, axis=1), squared=True) / 2.0
    raise ValueError(f"unknown distance {distance!r}")


def _euclidean_distances(x: tf.Tensor, *, squared: bool) -> tf.Tensor:
    """Return the (squared) Euclidean distances of float64 [B, D], as float32 [B, B].

    |x - y|^2 = |x|^2 - 2 x.y + |y|^2 takes O(B^2) memory but cancels for near vectors. In float32
    two equal vectors come out up to 1e-3 apart; so it is computed in float64, where equal
    vectors are exactly 0 apart and near ones keep seven digits.
    """

    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tf.Tensor:
        products = tf.matmul(x, x, transpose_b=True)  # [B, B]
        squares = tf.linalg.diag_part(products)  # [B]
        square_sums = squares[:, None] + squares[None, :]  # [B, B]
        square_distances = square_sums - 2.0 * products
        is_zero = square_distances <= _ROUNDING * square_sums
        square_distances = tf.where(is_zero, tf.zeros_like(products), square_distances)
        distances = square_distances if squared else tf.sqrt(square_distances)
        distances = tf.cast(distances, tf.float32)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            # d|x - y|^2 = 2 (x - y), d|x - y| = (x - y) / |x - y|, summed over all pairs
            per_pair = 2.0 * upstream if squared else tf.math.divide_no_nan(upstream, distances)
            per_pair = tf.cast(per_pair + tf.transpose(per_pair), tf.float64)
            return tf.reduce_sum(per_pair, axis=1, keepdims=True) * x - tf.matmul(per_pair, x)

        return distances, gradient

    return forward(x)


def same_label(labels: tf.Tensor, embeddings: tf.Tensor) -> tf.Tensor:
    """Return which examples share a label.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D]; says how many labels there must be. Any other number of labels
            raises, for [B, 1] against [B] would broadcast to a wrong mask.

    Returns:
        bool [B, B].
    """
    labels = tf.reshape(labels, tf.shape(embeddings)[:1])  # [B]
    # `==` would be Python identity in the Estimator's graph, and the mask all false.
    return tf.equal(labels[:, None], labels[None, :])


def positive_and_negative_masks(
    labels: tf.Tensor, embeddings: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which pairs are anchor and positive, and which anchor and negative.

    Args:
        labels: integer [B] or [B, 1].
        embeddings: float32 [B, D].

    Returns:
        Two masks, bool [B, B], axes anchor and other: other examples of the anchor's label, and
        examples of other labels.
    """
    same = same_label(labels, embeddings)
    is_self = tf.eye(tf.shape(same)[0], dtype=tf.bool)
    return tf.logical_and(same, tf.logical_not(is_self)), tf.logical_not(same)


def distance_percentiles(distances: tf.Tensor) -> dict[str, tf.Tensor]:
    """Return percentiles of the distances between different examples of a batch.

    Args:
        distances: float32 [B, B], symmetric.

    Returns:
        `distance_p5` and so on for each of `src.retrieval.PERCENTILES`, float32 scalars; 0 where
        there is no pair.
    """
    size = tf.shape(distances)[0]
    is_pair = tf.logical_not(tf.eye(size, dtype=tf.bool))
    ordered = tf.sort(tf.boolean_mask(distances, is_pair))  # [B * (B - 1)]
    ordered = tf.cond(tf.equal(tf.size(ordered), 0), lambda: tf.zeros([1]), lambda: ordered)
    last = tf.cast(tf.size(ordered) - 1, tf.float32)
    return {
        f"distance_p{percentile}": ordered[tf.cast(tf.round(last * (percentile / 100)), tf.int32)]
        for percentile in PERCENTILES
    }
