"""Computes the metrics of a split from its embeddings; names: `src/params/metric_names.py`.

There are two protocols. *Within*: the gallery is the rest of the same split; names end in
`_within`. *Against the gallery*: the gallery is the training split; names have no suffix. A query
is excluded if the gallery has no other example of its class. A metric without queries is None.
Definitions, ranges and interpretation: docs/metrics.md.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.split import stratified_indices
from src.embeddings.clustering import clustering_metrics
from src.embeddings.retrieval import Ranking, nearest_class_means, rank_gallery
from src.embeddings.verification import verification_metrics
from src.params.metric_names import MAX_QUERIES, RECALL_RANKS
from src.system.progress import phase

Metrics = dict[str, float | int | None]
"""Metric name -> value; None if there is nothing to measure."""


class Embedded(NamedTuple):
    """The embeddings and labels of a split.

    Attributes:
        embeddings: float32 [N, D].
        labels: int32 [N].
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int32]


def query_indices(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the positions of the queries in a split, int [<= MAX_QUERIES], ascending."""
    if len(labels) <= MAX_QUERIES:
        return np.arange(len(labels))
    return stratified_indices(labels, MAX_QUERIES, seed=0)


def metrics_within(split: Embedded) -> tuple[Metrics, Ranking]:
    """Compute the metrics of a split whose gallery is the split itself.

    The queries are all examples, or a sample of them.

    Args:
        split: its embeddings and labels.

    Returns:
        The metrics of `src.params.metric_names.WITHIN` and WITHIN_COUNTS, and the ranking.
    """
    asking = query_indices(split.labels)
    labels = split.labels[asking]
    with phase(f"neighbours of {len(labels)} images"):
        ranking = rank_gallery(
            split.embeddings[asking], labels, *split, own=asking, count_pairs=True
        )
    assert ranking.pairs is not None
    with phase("k-means"):
        clustering = clustering_metrics(split.embeddings, split.labels)
    return {
        **{f"{name}_within": value for name, value in _retrieval(ranking, labels).items()},
        **verification_metrics(ranking.pairs),
        **clustering,
    }, ranking


def metrics_against_gallery(
    split: Embedded, gallery: Embedded
) -> tuple[Metrics, dict[str, NDArray[np.int64]]]:
    """Compute the metrics of a split against a gallery that does not contain it.

    The queries are all examples of the split, or a sample of them.

    Args:
        split: the queries.
        gallery: the examples to search. For the gallery itself, see `metrics_of_gallery`.

    Returns:
        The metrics of `src.params.metric_names.AGAINST_GALLERY` and GALLERY_COUNTS. Then the
        confusions of `knn` and `class_mean`, in the format of `confusions`. Both exclude queries
        whose class is not in the gallery.
    """
    asking = query_indices(split.labels)
    asking = asking[np.isin(split.labels[asking], gallery.labels)]
    embeddings, labels = split.embeddings[asking], split.labels[asking]
    with phase(f"neighbours of {len(labels)} images among {len(gallery.labels)}"):
        ranking = rank_gallery(embeddings, labels, *gallery)
        by_mean = nearest_class_means(embeddings, labels, *gallery)
    return _classified(labels, ranking, by_mean)


def metrics_of_gallery(
    gallery: Embedded, within: Ranking
) -> tuple[Metrics, dict[str, NDArray[np.int64]]]:
    """Compute the metrics of a gallery against itself; each query is excluded from its gallery.

    Args:
        gallery: the examples.
        within: the ranking of `metrics_within` for the same examples.

    Returns:
        As `metrics_against_gallery`. The class means also exclude the query.
    """
    asking = query_indices(gallery.labels)
    labels = gallery.labels[asking]
    with phase(f"class means of {len(gallery.labels)} images"):
        by_mean = nearest_class_means(gallery.embeddings[asking], labels, *gallery, own=asking)
    return _classified(labels, within, by_mean)


def _classified(
    labels: NDArray[np.int32], ranking: Ranking, by_mean: NDArray[np.int32]
) -> tuple[Metrics, dict[str, NDArray[np.int64]]]:
    """Return the metrics of a ranking and of the nearest class means, and their confusions."""
    metrics = {
        **_retrieval(ranking, labels),
        "class_mean_accuracy": ranking.mean_over_answerable(by_mean == labels),
    }
    is_judged = ranking.num_positives > 0
    return metrics, {
        name: confusions(labels[is_judged], predicted[is_judged])
        for name, predicted in (("knn", ranking.voted_label), ("class_mean", by_mean))
    }


def confusions(
    labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return the confusions, int64 [M, 3]: rows of label, prediction and count.

    The most frequent come first. Correct predictions are excluded, so the table grows with the
    number of errors, not with the square of the number of classes.
    """
    wrong = np.stack([labels, predicted], axis=1)[labels != predicted].astype(np.int64)
    pairs, counts = np.unique(wrong, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return np.column_stack([pairs, counts])[order]


def _retrieval(ranking: Ranking, labels: NDArray[np.int32]) -> Metrics:
    """Return the metrics of RETRIEVAL in `src.params.metric_names`, and the number of queries.

    The names do not have the suffix of the protocol.
    """
    mean = ranking.mean_over_answerable
    return {
        "map_at_r": mean(ranking.average_precision),
        "r_precision": mean(ranking.r_precision),
        "precision_at_1": mean(ranking.first_positive == 1),
        **{f"recall_at_{rank}": mean(ranking.first_positive <= rank) for rank in RECALL_RANKS},
        "knn_accuracy": mean(ranking.voted_label == labels),
        "num_queries": int((ranking.num_positives > 0).sum()),
    }
