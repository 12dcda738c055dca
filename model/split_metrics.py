"""The metrics of an evaluation, computed exactly over the whole split."""

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.estimator import tf
from model.mining.loss import TripletLoss
from src.embeddings.metrics import ALL_EQUAL, Embedded, Metrics, metrics_within
from src.embeddings.retrieval import Ranking
from src.mining.distances import PERCENTILES, percentiles_of_distances
from src.params.metric_names import WITHIN, WITHIN_COUNTS

COUNTS = ("num_valid_triplets", *WITHIN_COUNTS)

NAMES = (
    "fraction_positive",
    "fraction_positive_at_reference",
    "embedding_mean_norm",
    *WITHIN,
    *(f"distance_p{percentile}" for percentile in PERCENTILES),
    "images_per_second",
    *COUNTS,
)


def defined(results: Mapping[str, Any]) -> Metrics:
    """Return the metrics of the Estimator's evaluation; None if undefined or not finite.

    Tensors have no None, so undefined values are NaN. The exception is the loss, whose mean the
    Estimator computes: it is 0 if there was no triplet.
    """
    found: Metrics = {}
    for name in ("loss", *NAMES):
        value = float(results[name])
        found[name] = (int(value) if name in COUNTS else value) if math.isfinite(value) else None
    if not found["num_valid_triplets"]:
        found["loss"] = None
    return found


class SplitMetrics:
    """Collects the embeddings and triplet counts of all batches of one evaluation, in NumPy.

    A mean of batch means is not the split's mean, because batches have different numbers of
    triplets. Nearest neighbours need all embeddings at once. Ops therefore only pass the batches to
    NumPy.

    Attributes:
        roles: who searches whom, in the order of the batches; the hook `UseRoles` sets it.
    """

    def __init__(self, distance: str) -> None:
        """Start with nothing collected; `distance` is the one used for the percentiles."""
        self.roles = ALL_EQUAL
        self._distance = distance
        self._embeddings: list[NDArray[np.float32]] = []
        self._labels: list[NDArray[np.int32]] = []
        self._loss_sum = 0.0
        self._num_averaged = 0
        # For the experiment's own strategy, and for batch-all at the reference margin
        self._num_positive = np.zeros(2, np.int64)
        self._num_valid = np.zeros(2, np.int64)
        self._started = 0.0
        self._ranking: Ranking | None = None

    @property
    def ranking(self) -> Ranking:
        """The rankings of the examples against each other; set when the metrics are computed."""
        assert self._ranking is not None
        return self._ranking

    @property
    def loss(self) -> float:
        """The mean loss so far, over the triplets that count in the mean; 0 if there are none."""
        return self._loss_sum / self._num_averaged if self._num_averaged else 0.0

    @property
    def embedded(self) -> Embedded:
        """The embeddings and labels collected so far, in the order of the batches."""
        return Embedded(np.concatenate(self._embeddings), np.concatenate(self._labels))

    def update_op(
        self,
        embeddings: tf.Tensor,
        labels: tf.Tensor,
        triplets: TripletLoss,
        at_reference: TripletLoss,
    ) -> tuple[tf.Operation, tf.Tensor]:
        """Return the op that collects a batch, and a loss for the EstimatorSpec.

        The Estimator computes the metric `loss` itself, as the mean of the spec's loss over the
        batches. The loss returned here is chosen so that this mean equals the split's loss.

        Args:
            embeddings: float32 [B, D].
            labels: int32 [B].
            triplets: the batch's triplets by the experiment's strategy.
            at_reference: the batch's triplets by batch-all at the reference margin.

        Returns:
            An op, and a float32 scalar.
        """
        num_positive = [triplets.num_positive_triplets, at_reference.num_positive_triplets]
        num_valid = [triplets.num_valid_triplets, at_reference.num_valid_triplets]
        exact_loss = tf.numpy_function(
            self._collect,
            [
                embeddings,
                labels,
                triplets.loss_sum,
                triplets.num_averaged_triplets,
                tf.stack(num_positive),
                tf.stack(num_valid),
            ],
            tf.float32,
        )
        exact_loss.set_shape([])
        return exact_loss.op, exact_loss

    def value_ops(self, update_op: tf.Operation) -> dict[str, tuple[tf.Tensor, tf.Operation]]:
        """Return the Estimator's `eval_metric_ops`: each metric's value and `update_op`.

        Undefined values are NaN; see `defined`.
        """
        values = tf.numpy_function(self._compute, [], [tf.float64] * len(NAMES))
        for value in values:
            value.set_shape([])
        return {name: (value, update_op) for name, value in zip(NAMES, values, strict=True)}

    def _collect(
        self,
        embeddings: NDArray[np.float32],
        labels: NDArray[np.int32],
        loss_sum: np.float64,
        num_averaged: np.int64,
        num_positive: NDArray[np.int64],
        num_valid: NDArray[np.int64],
    ) -> np.float32:
        if not self._embeddings:
            self._started = time.perf_counter()
        num_batches = len(self._embeddings)
        sum_of_returned = num_batches * self.loss
        self._embeddings.append(embeddings)
        self._labels.append(labels)
        self._loss_sum += float(loss_sum)
        self._num_averaged += int(num_averaged)
        self._num_positive += num_positive
        self._num_valid += num_valid
        return np.float32((num_batches + 1) * self.loss - sum_of_returned)

    def _compute(self) -> list[np.float64]:
        # Timing starts after the first batch, because that includes the graph's start.
        seconds = time.perf_counter() - self._started
        embedded = self.embedded
        num_timed = len(embedded.labels) - len(self._embeddings[0])
        within, self._ranking = metrics_within(embedded, self.roles)
        with np.errstate(divide="ignore", invalid="ignore"):
            fractions = self._num_positive / self._num_valid
        found = {
            "fraction_positive": fractions[0],
            "fraction_positive_at_reference": fractions[1],
            "embedding_mean_norm": np.linalg.norm(embedded.embeddings, axis=1).mean(),
            "images_per_second": num_timed / seconds if num_timed else None,
            "num_valid_triplets": self._num_valid[0],
            **within,
        }
        percentiles = percentiles_of_distances(embedded.embeddings, self._distance)
        for percentile, value in zip(PERCENTILES, percentiles, strict=True):
            found[f"distance_p{percentile}"] = value
        return [np.float64(math.nan if found[name] is None else found[name]) for name in NAMES]


SPLIT_METRICS = "split_metrics"
"""The graph's collection that holds an evaluation's `SplitMetrics`."""
