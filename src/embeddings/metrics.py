"""Computes the metrics of a split from its embeddings; names: `src/params/metric_names.py`.

There are three protocols of retrieval. *Within*: the gallery is the rest of the same split; names
end in `_within`. *Against the gallery*: the gallery is the training split; names have no suffix.
*Among known*: unseen classes search each other and known classes; names end in `_among_known`.
Pairs and clusters are always within a split, and have no suffix. A query is excluded if the gallery
has no other example of its class that it searches (`src.data.roles`). A metric without queries is
None.
Definitions, ranges and interpretation: docs/metrics.md.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.roles import Roles, parts_of, rows_of
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


ALL_EQUAL = Roles()
"""Every example is a query and searches all others."""


def query_indices(labels: NDArray[np.int32], roles: Roles = ALL_EQUAL) -> NDArray[np.intp]:
    """Return the positions of the queries in a split, int [<= MAX_QUERIES], ascending."""
    queries = rows_of(roles.is_query, len(labels))
    if len(queries) <= MAX_QUERIES:
        return queries
    return queries[stratified_indices(labels[queries], MAX_QUERIES, seed=0)]


class Search(NamedTuple):
    """A split's search within itself.

    Attributes:
        asking: int [Q], the positions of the queries in the split.
        gallery: int [G], the positions of what is searched.
        own: int [Q], the position of each query in the gallery; -1 if it is not in it.
        groups: int32 [Q] and [G], as for `rank_gallery`.
    """

    asking: NDArray[np.intp]
    gallery: NDArray[np.intp]
    own: NDArray[np.intp]
    groups: tuple[NDArray[np.int32], NDArray[np.int32]] | None


def search_within(labels: NDArray[np.int32], roles: Roles) -> Search:
    """Return who searches what in a split with `labels`, int32 [N]."""
    asking = query_indices(labels, roles)
    gallery = rows_of(roles.is_gallery, len(labels))
    place = np.full(len(labels), -1, np.intp)
    place[gallery] = np.arange(len(gallery))
    groups = None if roles.groups is None else (roles.groups[asking], roles.groups[gallery])
    return Search(asking, gallery, place[asking], groups)


def metrics_within(split: Embedded, roles: Roles = ALL_EQUAL) -> tuple[Metrics, Ranking]:
    """Compute the metrics of a split whose gallery is the split itself.

    The queries are all examples, or a sample of them; with roles, the split's own queries, which
    search its own gallery.

    Args:
        split: its embeddings and labels.
        roles: those of its examples.

    Returns:
        The metrics of `src.params.metric_names.WITHIN` and WITHIN_COUNTS, and the ranking.
    """
    search = search_within(split.labels, roles)
    labels = split.labels[search.asking]
    with phase(f"neighbours of {len(labels)} images"):
        ranking = rank_gallery(
            split.embeddings[search.asking],
            labels,
            split.embeddings[search.gallery],
            split.labels[search.gallery],
            own=search.own,
            groups=search.groups,
            count_pairs=True,
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
    split: Embedded,
    gallery: Embedded,
    roles: Roles = ALL_EQUAL,
    gallery_roles: Roles = ALL_EQUAL,
) -> tuple[Metrics, dict[str, NDArray[np.int64]]]:
    """Compute the metrics of a split against a gallery that does not contain it.

    The queries are all examples of the split, or a sample of them.

    Args:
        split: the queries.
        gallery: the examples to search. For the gallery itself, see `metrics_of_gallery`.
        roles: those of the split's examples.
        gallery_roles: those of the gallery's examples; only their groups matter.

    Returns:
        The metrics of `src.params.metric_names.AGAINST_GALLERY` and GALLERY_COUNTS. Then the
        confusions of `knn` and `class_mean`, in the format of `confusions`. Both exclude queries
        whose class is not in the gallery.
    """
    asking = query_indices(split.labels, roles)
    asking = asking[np.isin(split.labels[asking], gallery.labels)]
    embeddings, labels = split.embeddings[asking], split.labels[asking]
    groups = None
    if roles.groups is not None and gallery_roles.groups is not None:
        groups = roles.groups[asking], gallery_roles.groups
    with phase(f"neighbours of {len(labels)} images among {len(gallery.labels)}"):
        ranking = rank_gallery(embeddings, labels, *gallery, groups=groups)
        by_mean = nearest_class_means(embeddings, labels, *gallery, groups=groups)
    return _classified(labels, ranking, by_mean)


def known_queries(
    splits: Mapping[str, Embedded], roles: Mapping[str, Roles]
) -> dict[str, Embedded]:
    """Return the splits with those examples of `validation` and `test` that are fair queries.

    Of a split with its own queries, these are left. If groups matter, a query whose class has an
    example of the query's group in the training split is left out: that one would be found.

    Args:
        splits: with `train`, and perhaps `unseen`, of which nothing is left out.
        roles: by the same names.
    """
    found = dict(splits)
    gallery, of_gallery = splits["train"], roles["train"].groups
    for name in ("validation", "test"):
        split, of_split = splits[name], roles[name]
        is_fair = np.ones(len(split.labels), bool)
        if of_split.is_query is not None:
            is_fair &= of_split.is_query
        if of_split.groups is not None and of_gallery is not None:
            parts, known = parts_of(split.labels, of_split.groups, gallery.labels, of_gallery)
            is_fair &= ~np.isin(parts, known)
        if not is_fair.all():
            found[name] = Embedded(split.embeddings[is_fair], split.labels[is_fair])
    return found


def metrics_of_gallery(
    gallery: Embedded, within: Ranking, roles: Roles = ALL_EQUAL
) -> tuple[Metrics, dict[str, NDArray[np.int64]]]:
    """Compute the metrics of a gallery against itself; each query is excluded from its gallery.

    Args:
        gallery: the examples.
        within: the ranking of `metrics_within` for the same examples.
        roles: those of its examples; the training split has no queries of its own.

    Returns:
        As `metrics_against_gallery`. The class means also exclude the query.
    """
    asking = query_indices(gallery.labels)
    labels = gallery.labels[asking]
    groups = None if roles.groups is None else (roles.groups[asking], roles.groups)
    with phase(f"class means of {len(gallery.labels)} images"):
        by_mean = nearest_class_means(
            gallery.embeddings[asking], labels, *gallery, own=asking, groups=groups
        )
    return _classified(labels, within, by_mean)


def metrics_among_known(unseen: Embedded, known: Embedded, roles: Roles = ALL_EQUAL) -> Metrics:
    """Compute the metrics of unseen classes among known classes.

    The queries of `metrics_within` search the other unseen examples and, as distractors, the known
    ones, none of which is right.

    Args:
        unseen: examples of classes that were not trained on.
        known: examples of other classes.
        roles: those of the unseen examples; only their groups matter.

    Returns:
        The metrics of `src.params.metric_names.AMONG_KNOWN` and AMONG_KNOWN_COUNTS.
    """
    asking = query_indices(unseen.labels)
    labels = unseen.labels[asking]
    gallery = Embedded(*(np.concatenate(parts) for parts in zip(unseen, known, strict=True)))
    groups = None
    if roles.groups is not None:  # no known example has a query's class, whatever its group
        of_known = np.zeros(len(known.labels), np.int32)
        groups = roles.groups[asking], np.concatenate([roles.groups, of_known])
    with phase(f"neighbours of {len(labels)} unseen images among {len(gallery.labels)}"):
        ranking = rank_gallery(
            unseen.embeddings[asking], labels, *gallery, own=asking, groups=groups
        )
    found = {f"{name}_among_known": value for name, value in _retrieval(ranking, labels).items()}
    return {**found, "num_known_among": len(known.labels)}


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
