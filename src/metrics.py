"""The metrics of a split from its embeddings, by the names of `src/metric_names.py`.

Two protocols. *Within*: every example of a split asks the others of the split; names end in
`_within`. *Against the gallery*: every example asks the training split; names have no ending.
Definitions, ranges and what each tells: docs/metrics.md.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.clustering import clustering_metrics
from src.metric_names import RECALL_RANKS
from src.retrieval import Ranking, nearest_class_means, rank_gallery
from src.split import stratified_indices
from src.verification import verification_metrics

# At most so many examples of a split ask; of a larger one a stratified, seeded subset.
MAX_QUERIES = 10_000


class Embedded(NamedTuple):
    """A split, embedded.

    Attributes:
        embeddings: float32 [N, D].
        labels: int32 [N].
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int32]


def query_indices(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return which examples of a split ask, int [<= MAX_QUERIES], ascending."""
    if len(labels) <= MAX_QUERIES:
        return np.arange(len(labels))
    return stratified_indices(labels, MAX_QUERIES, seed=0)


def metrics_within(split: Embedded) -> dict[str, float]:
    """Let the examples of a split, or of its subset, ask each other.

    Args:
        split: its embeddings and labels.

    Returns:
        Those of `src.metric_names.WITHIN`.
    """
    asking = query_indices(split.labels)
    embeddings, labels = split.embeddings[asking], split.labels[asking]
    ranking = rank_gallery(embeddings, labels, count_pairs=True)
    assert ranking.pairs is not None
    return {
        **{f"{name}_within": value for name, value in _retrieval(ranking, labels).items()},
        **verification_metrics(ranking.pairs),
        **clustering_metrics(embeddings, labels),
    }


def metrics_against_gallery(
    split: Embedded, gallery: Embedded
) -> tuple[dict[str, float], dict[str, NDArray[np.int64]]]:
    """Let the examples of a split, or of its subset, ask a gallery.

    Args:
        split: those who ask.
        gallery: those who answer. If it is the split itself, the same object, each example is left
            out of its own answer.

    Returns:
        The metrics of `src.metric_names.AGAINST_GALLERY`, and the confusion matrices of `knn` and
        `class_mean`, int64 [C, C], where C - 1 is the largest label: how many examples of the
        row's class were taken for the column's.
    """
    asking = query_indices(split.labels)
    embeddings, labels = split.embeddings[asking], split.labels[asking]
    own = asking if split is gallery else None
    ranking = rank_gallery(embeddings, labels, *gallery, own=own)
    by_mean = nearest_class_means(embeddings, labels, *gallery, own=own)
    num_classes = 1 + max(int(labels.max(initial=0)), int(gallery.labels.max(initial=0)))
    confusions = {
        name: confusion_matrix(labels, predicted, num_classes)
        for name, predicted in (("knn", ranking.voted_label), ("class_mean", by_mean))
    }
    metrics = {
        **_retrieval(ranking, labels),
        "class_mean_accuracy": float(np.mean(by_mean == labels)),
    }
    return metrics, confusions


def confusion_matrix(
    labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], num_classes: int
) -> NDArray[np.int64]:
    """Return how often each label, the row, was predicted as each other, the column: [C, C].

    A prediction of -1, which stands for none, is not counted.
    """
    is_made = predicted >= 0
    cells = labels[is_made].astype(np.int64) * num_classes + predicted[is_made]
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _retrieval(ranking: Ranking, labels: NDArray[np.int32]) -> dict[str, float]:
    """Return the metrics of `src.metric_names.RETRIEVAL`."""
    is_first = (ranking.first_positive == 1).astype(np.float64)
    return {
        "map_at_r": ranking.mean_over_answerable(ranking.average_precision),
        "r_precision": ranking.mean_over_answerable(ranking.r_precision),
        "precision_at_1": ranking.mean_over_answerable(is_first),
        **{f"recall_at_{rank}": ranking.recall_at(rank) for rank in RECALL_RANKS},
        "knn_accuracy": float(np.mean(ranking.voted_label == labels)) if len(labels) else 0.0,
    }
