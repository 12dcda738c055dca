"""Triplet losses for Keras 2 and Keras 3, under the names of TensorFlow Addons.

For `model.compile(loss=...)`. They need TensorFlow alone: no Keras is imported, so none is chosen.
An instance is a callable `(y_true, y_pred) -> scalar`, which both kinds of Keras accept. It can be
called alone, too, in a `tf.function`, and with `jit_compile=True`.

**The same numbers as Addons 0.23** (the last release), with these exceptions:

- Without any anchor-positive pair, `TripletSemiHardLoss` is 0, and so is its gradient. Addons
  divides 0 by 0, and the NaN would reach the weights.
- The loss is float32 also if the embeddings are float16 or bfloat16. Addons rounds it to their
  type; a float16 loss of 2 overflows under a loss scale of 2^15.
- "angular": the distance of a zero vector to another is 0.5; 1 in Addons, 1 also to itself.
- `soft`: finite for any difference of distances. Addons overflows at about 88.
- If several distances of an anchor are equally extreme, the first one gets the gradient. Addons
  divides it among them.

**Not the same as the strategies of this project**, which leave out what has no triplet:

- An anchor without a positive is part of the mean of `TripletHardLoss`, with the positive distance
  0 (the smallest of its row). `batch_hard` leaves it out.
- In a batch of one class there is no negative. `TripletHardLoss` takes the largest distance of the
  row in its place, `TripletSemiHardLoss` the smallest, 0; so the loss is large. `batch_hard` and
  `batch_semihard` are 0.
- "L2" is the default distance; FaceNet, TensorFlow 1 and early releases of Addons (whose "L_2" is
  squared) have what is "squared-L2" here.

`sample_weight` has no meaning for triplets. Keras would multiply the loss by the mean weight.

Source: github.com/tensorflow/addons, `tensorflow_addons/losses/triplet.py` and
`metric_learning.py`. arXiv:1503.03832 (semi-hard); arXiv:1703.07737 (hard, all).
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from model.mining.given_distances import GivenDistances
from model.mining.rectangle import Rectangle
from model.triplet_strategies import batch_all, batch_semihard
from src.errors import UserError
from src.mining.rows import Slopes

# Addons' names, and those of src/distance.py.
_METRICS = {"L2": "euclidean", "squared-L2": "squared_euclidean", "angular": "cosine"}

DistanceMetric = str | Callable[[tf.Tensor], tf.Tensor]


def triplet_semihard_loss(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    margin: float = 1.0,
    distance_metric: DistanceMetric = "L2",
) -> tf.Tensor:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over all anchor-positive pairs.

    The negative n is the nearest one that is farther away than the positive, else the farthest.

    Args:
        y_true: class labels [B] or [B, 1]: integers, or whole numbers as float32 (which Keras 3
            makes of them) below 2^24.
        y_pred: embeddings, float [B, D]. "L2" and "squared-L2" do not scale them to length 1.
        margin: >= 0, in units of the distance.
        distance_metric: "L2", "squared-L2", "angular" (1 - cos), or a function that returns the
            matrix of distances [B, B] of embeddings [B, D].

    Returns:
        float32 scalar; 0 if there is no pair. See above for a batch of one class.

    Raises:
        UserError: an argument is not as above. Labels that are no whole numbers give NaN under
            XLA, which cannot raise.

    Example:
        >>> import tensorflow as tf
        >>> from model.triplet_loss import triplet_semihard_loss
        >>> labels = tf.constant([0, 0, 1, 1])
        >>> embeddings = tf.constant([[0.0], [1.0], [3.0], [5.0]])
        >>> float(triplet_semihard_loss(labels, embeddings, margin=1.5))
        0.25
    """
    rectangle, is_exact = _rectangle(y_true, y_pred, distance_metric)
    margin = _checked(margin)
    several, one = batch_semihard.find(rectangle, margin), _of_one_class(rectangle, margin)
    has_negatives = rectangle.has_negatives
    found = Slopes(*(tf.where(has_negatives, a, b) for a, b in zip(several, one, strict=True)))
    count = rectangle.num_pairs
    loss = rectangle.loss(found, num_averaged_triplets=count, num_valid_triplets=count).loss
    return tf.where(is_exact, loss, math.nan)


def triplet_hard_loss(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    margin: float = 1.0,
    soft: bool = False,
    distance_metric: DistanceMetric = "L2",
) -> tf.Tensor:
    """Return the mean over all anchors of max(max_p d(a,p) - min_n d(a,n) + margin, 0).

    Args:
        y_true: see `triplet_semihard_loss`.
        y_pred: see there.
        margin: see there.
        soft: log(1 + exp(max_p d(a,p) - min_n d(a,n))) instead; `margin` is not used.
        distance_metric: see there.

    Returns:
        float32 scalar. See above for anchors without a positive or a negative.

    Raises:
        UserError: as there.

    Example:
        >>> import tensorflow as tf
        >>> from model.triplet_loss import triplet_hard_loss
        >>> labels = tf.constant([0, 0, 1, 1, 2])  # the last one has no positive
        >>> embeddings = tf.constant([[0.0], [1.0], [3.0], [5.0], [5.5]])
        >>> print(f"{triplet_hard_loss(labels, embeddings):.2f}")  # (0 + 0 + 1 + 2.5 + 0.5) / 5
        0.80
    """
    # Long: the definition and its code belong side by side.
    rectangle, is_exact = _rectangle(y_true, y_pred, distance_metric)
    margin = _checked(margin)
    same, distances = rectangle.same, rectangle.distances  # [B, B]
    infinity = distances.dtype.max
    positives = rectangle.with_own(tf.where(same, distances, -1.0), -1.0)
    negatives = tf.where(same, infinity, distances)
    has_positive = tf.reduce_max(positives, axis=1) >= 0
    has_negative = tf.reduce_min(negatives, axis=1) < infinity
    farthest = tf.where(has_positive, tf.argmax(positives, axis=1), tf.argmin(distances, axis=1))
    nearest = tf.where(has_negative, tf.argmin(negatives, axis=1), tf.argmax(distances, axis=1))
    differences = _at(distances, farthest) - _at(distances, nearest)  # [B]
    if soft:
        losses, slopes = tf.math.softplus(differences), tf.sigmoid(differences)
    else:
        losses = tf.nn.relu(differences + margin)
        slopes = tf.cast(losses > 0, tf.float32)
    rows = tf.range(tf.size(farthest, tf.int64))
    count = tf.size(farthest, tf.int64)
    found = Slopes(
        rectangle.slopes_of(rows, farthest, nearest, slopes),
        loss_sum=tf.reduce_sum(tf.cast(losses, tf.float64)),
        num_positive_triplets=tf.math.count_nonzero(losses > 0),
    )
    loss = rectangle.loss(found, num_averaged_triplets=count, num_valid_triplets=count).loss
    return tf.where(is_exact, loss, math.nan)


def triplet_all_loss(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    margin: float = 1.0,
    distance_metric: DistanceMetric = "L2",
) -> tf.Tensor:
    """Return the mean of max(d(a,p) - d(a,n) + margin, 0) over the triplets where it is > 0.

    Every valid triplet of the batch counts; see `model.triplet_strategies.batch_all`. Addons has no
    such loss.

    Args:
        y_true: see `triplet_semihard_loss`.
        y_pred: see there.
        margin: see there.
        distance_metric: see there.

    Returns:
        float32 scalar; 0 if no triplet has a loss.

    Raises:
        UserError: as there.
    """
    rectangle, is_exact = _rectangle(y_true, y_pred, distance_metric)
    return tf.where(is_exact, batch_all.mine(rectangle, _checked(margin)).loss, math.nan)


class _KerasLoss:
    """What the losses share: to be called, named, written to a file and read from it.

    A saved model that was compiled with one is loaded with
    `custom_objects={"TripletHardLoss": TripletHardLoss}`, or with `compile=False`. If the distance
    is a function, with `compile=False`.

    Attributes:
        name: as in Keras's logs.
    """

    _function: Callable[..., tf.Tensor]

    def __init__(self, name: str | None, **arguments: Any) -> None:
        _checked(arguments["margin"])
        _check_metric(arguments["distance_metric"])
        self.name = name or self._function.__name__
        self._arguments = arguments

    # Keras 2 would rewrite the Python code of a loss for graphs.
    @tf.autograph.experimental.do_not_convert
    def __call__(self, y_true: Any, y_pred: Any, sample_weight: None = None) -> tf.Tensor:
        """Return the loss, float32 scalar; see the function of this name."""
        if sample_weight is not None:
            raise UserError(
                f"{self.name}: found sample_weight; accepted: none, because a triplet has three "
                "examples"
            )
        return type(self)._function(y_true, y_pred, **self._arguments)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make an equal loss."""
        return {"name": self.name, **self._arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "_KerasLoss":
        """Return the loss of `get_config`, of this class or of Addons'."""
        return cls(**{key: value for key, value in config.items() if key != "reduction"})


class TripletSemiHardLoss(_KerasLoss):
    """The loss `triplet_semihard_loss`, as an object.

    Example:
        >>> from model.triplet_loss import TripletSemiHardLoss
        >>> model.compile(optimizer="adam", loss=TripletSemiHardLoss(margin=0.5))  # doctest: +SKIP
    """

    _function = staticmethod(triplet_semihard_loss)

    def __init__(
        self,
        margin: float = 1.0,
        distance_metric: DistanceMetric = "L2",
        name: str | None = None,
    ) -> None:
        """Store the arguments, which are those of `triplet_semihard_loss`."""
        super().__init__(name, margin=margin, distance_metric=distance_metric)


class TripletHardLoss(_KerasLoss):
    """The loss `triplet_hard_loss`, as an object."""

    _function = staticmethod(triplet_hard_loss)

    def __init__(
        self,
        margin: float = 1.0,
        soft: bool = False,
        distance_metric: DistanceMetric = "L2",
        name: str | None = None,
    ) -> None:
        """Store the arguments, which are those of `triplet_hard_loss`."""
        super().__init__(name, margin=margin, soft=soft, distance_metric=distance_metric)


class TripletAllLoss(_KerasLoss):
    """The loss `triplet_all_loss`, as an object."""

    _function = staticmethod(triplet_all_loss)

    def __init__(
        self,
        margin: float = 1.0,
        distance_metric: DistanceMetric = "L2",
        name: str | None = None,
    ) -> None:
        """Store the arguments, which are those of `triplet_all_loss`."""
        super().__init__(name, margin=margin, distance_metric=distance_metric)


def _of_one_class(rectangle: Rectangle, margin: float) -> Slopes:
    """Return the slopes of semi-hard triplets whose negative is each row's smallest distance."""
    distances = rectangle.distances
    lowest = tf.argmin(distances, axis=1)  # [B]
    is_pair = tf.cast(rectangle.with_own(rectangle.same, False), tf.float32)
    losses = tf.nn.relu((distances + margin) - _at(distances, lowest)[:, None]) * is_pair
    slopes = tf.cast(losses > 0, tf.float32)
    num_active = tf.reduce_sum(slopes, axis=1, keepdims=True)
    return Slopes(
        slopes - num_active * tf.one_hot(lowest, tf.shape(distances)[1]),
        loss_sum=tf.reduce_sum(tf.cast(losses, tf.float64)),
        num_positive_triplets=tf.math.count_nonzero(losses > 0),
    )


def _at(distances: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Return a distance of each row, at its column: [B, B], [B] -> [B]."""
    return tf.gather(distances, columns, batch_dims=1)


def _rectangle(
    y_true: Any, y_pred: Any, distance_metric: DistanceMetric
) -> tuple[Rectangle, tf.Tensor]:
    """Return the distances of a batch, and whether its labels are whole numbers, bool."""
    _check_metric(distance_metric)
    embeddings = tf.convert_to_tensor(y_pred)
    if not embeddings.dtype.is_floating or embeddings.shape.rank not in (2, None):
        raise UserError(
            f"y_pred: found {embeddings.dtype.name} {embeddings.shape}; accepted: embeddings, "
            "float [B, D]"
        )
    if embeddings.dtype.size < 4:
        embeddings = tf.cast(embeddings, tf.float32)
    labels, is_exact = _labels(tf.convert_to_tensor(y_true))
    if callable(distance_metric):
        return GivenDistances(labels, distance_metric(embeddings)), is_exact
    return Rectangle(labels, embeddings, _METRICS[distance_metric]), is_exact


def _labels(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the labels as integers, and whether they are exact.

    Keras turns integers into float32, which holds whole numbers below 2^24: above, two classes
    might have become one. In 16 bits that happens from 2048 or 256 on.
    """
    shape = labels.shape
    if shape.rank is not None and (shape.rank > 2 or (shape.rank == 2 and shape[1] != 1)):
        raise UserError(
            f"y_true: found shape {shape}; accepted: class labels [B] or [B, 1] (of one-hot "
            "labels: tf.argmax(y_true, 1))"
        )
    if labels.dtype.is_integer:
        return labels, tf.constant(True)
    if labels.dtype not in (tf.float32, tf.float64):
        raise UserError(
            f"y_true: found {labels.dtype.name}, which cannot hold every class; accepted: "
            "integers, or whole numbers in float32"
        )
    whole = tf.cast(labels, tf.int64)
    limit = 2**24 if labels.dtype == tf.float32 else 2**53
    is_exact = tf.logical_and(tf.equal(tf.cast(whole, labels.dtype), labels), abs(labels) < limit)
    is_exact = tf.reduce_all(is_exact)
    message = f"y_true: found a label that is no whole number below {limit} in {labels.dtype.name}"
    with tf.control_dependencies([tf.debugging.Assert(is_exact, [message, labels])]):
        return tf.identity(whole), is_exact


def _checked(margin: float) -> float:
    margin = float(margin)
    if not 0 <= margin < math.inf:
        raise UserError(f"margin: found {margin}; accepted: a number >= 0")
    return margin


def _check_metric(metric: DistanceMetric) -> None:
    if not callable(metric) and metric not in _METRICS:
        raise UserError(
            f"distance_metric: found {metric!r}; accepted: {', '.join(_METRICS)}, or a function"
        )
