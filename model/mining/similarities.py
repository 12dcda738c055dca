"""What the losses on cosine similarities share: which pairs there are, and what is counted."""

import numpy as np
import tensorflow as tf

from model.mining.loss import TripletLoss
from model.mining.rectangle import Rectangle
from src.mining.rows import Slopes


class Similarities:
    """The pairs of A anchors and C candidates by their cosine distances, 1 - similarity.

    Attributes:
        distances: float32 [A, C], in [0, 2].
        is_positive: bool [A, C].
        is_negative: bool [A, C].
        farthest: float32 [A, 1], the distance of the farthest positive; -1 if there is none.
        nearest: float32 [A, 1], the distance of the nearest negative; infinite if there is none.
        has_triplet: bool [A], whether the anchor has a positive and a negative.
    """

    def __init__(
        self,
        labels: tf.Tensor,
        embeddings: tf.Tensor,
        distance: str,
        anchors: tf.Tensor | None = None,
    ) -> None:
        """Compute the distances; arguments as of `Rectangle`.

        Raises:
            ValueError: the distance is not "cosine".
        """
        if distance != "cosine":
            raise ValueError(f"distance: found '{distance}'; accepted: 'cosine'")
        self._rectangle = Rectangle(labels, embeddings, distance, anchors)
        self.distances = self._rectangle.distances
        positives, negatives = self._rectangle.to_positives, self._rectangle.to_negatives
        infinity = np.float32(np.inf)
        self.is_positive, self.is_negative = positives >= 0, negatives < infinity
        self.farthest = tf.reduce_max(positives, axis=1, keepdims=True)
        self.nearest = tf.reduce_min(negatives, axis=1, keepdims=True)
        has_both = tf.logical_and(self.farthest >= 0, self.nearest < infinity)
        self.has_triplet = has_both[:, 0]

    @property
    def num_anchors(self) -> tf.Tensor:
        """A, int64."""
        return tf.shape(self.distances, out_type=tf.int64)[0]

    @property
    def num_triplets(self) -> tf.Tensor:
        """The number of anchors that have a triplet, int64."""
        return tf.math.count_nonzero(self.has_triplet)

    def loss(
        self,
        losses: tf.Tensor,
        slopes: tf.Tensor,
        *,
        is_positive: tf.Tensor,
        num_averaged_triplets: tf.Tensor,
    ) -> TripletLoss:
        """Return the loss, and the counts of each anchor's hardest triplet.

        Args:
            losses: float32 [A]; those of anchors without a triplet are left out.
            slopes: float32 [A, C], their derivatives with respect to the distances.
            is_positive: bool [A, 1], whether the hardest triplet, if there is one, is positive.
            num_averaged_triplets: int64, the number of anchors over which the loss is a mean.
        """
        is_positive = tf.logical_and(is_positive[:, 0], self.has_triplet)
        return self._rectangle.loss(
            Slopes(
                tf.where(self.has_triplet[:, None], slopes, 0.0),
                tf.reduce_sum(tf.cast(tf.where(self.has_triplet, losses, 0.0), tf.float64)),
                tf.math.count_nonzero(is_positive),
            ),
            num_averaged_triplets=num_averaged_triplets,
            num_valid_triplets=self.num_triplets,
        )
