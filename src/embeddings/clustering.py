"""Whether clusters found without labels are the classes: NMI and AMI of k-means."""

import numpy as np
from numpy.typing import NDArray

from src.data.split import stratified_indices
from src.embeddings.search import comparable
from src.params.metric_names import CLUSTERING, MAX_CLASSES

# Lloyd's algorithm from k-means++ seeds, the best of so many runs; each ends where nothing moves
# by more than scikit-learn's tolerance, or after so many rounds.
NUM_RUNS = 3
MAX_ROUNDS = 100

# Of more examples a stratified sample is clustered; of more classes than MAX_CLASSES, so many. The
# time of a round goes with the product of both.
MAX_EXAMPLES = 10_000


def clustered_indices(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return which examples are clustered, int, ascending: always the same ones.

    Of more than MAX_CLASSES classes so many are drawn, those of one example last of all.
    """
    chosen = np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) > MAX_CLASSES:
        order = np.random.default_rng(0).permutation(len(classes))
        order = order[np.argsort(counts[order] == 1, kind="stable")]
        drawn = classes[order[:MAX_CLASSES]]
        chosen = np.flatnonzero(np.isin(labels, drawn))
    if len(chosen) > MAX_EXAMPLES:
        chosen = chosen[stratified_indices(labels[chosen], MAX_EXAMPLES, seed=0)]
    return chosen


def clustering_metrics(
    embeddings: NDArray[np.float32], labels: NDArray[np.int32]
) -> dict[str, float | int | None]:
    """Cluster by scikit-learn's k-means, seeded, with as many clusters as there are classes.

    Args:
        embeddings: float32 [N, D]; what is not finite becomes 0 or the largest float32.
        labels: int32 [N].

    Returns:
        `nmi` and `ami`, the mutual information of clusters and classes divided by the mean of
        their entropies, the second less what chance gives; None where there are not two classes, or
        none of two examples. And how many examples of how many classes that is of.
    """
    chosen = clustered_indices(labels)
    embeddings, labels = embeddings[chosen], labels[chosen]
    class_sizes = np.unique(labels, return_counts=True)[1]
    num_classes = len(class_sizes)
    counts = {"num_clustered": len(labels), "num_clustered_classes": num_classes}
    if num_classes < 2 or class_sizes.max() < 2:
        return {**dict.fromkeys(CLUSTERING), **counts}
    # Imported on use: it takes a second, and neither bad params nor a table shall wait for it.
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    points = comparable(embeddings[:0], embeddings)[1].astype(np.float32)
    num_clusters = min(num_classes, len(np.unique(points, axis=0)))
    clusters = KMeans(
        num_clusters, n_init=NUM_RUNS, max_iter=MAX_ROUNDS, random_state=0
    ).fit_predict(points)
    return {
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ami": float(adjusted_mutual_info_score(labels, clusters)),
        **counts,
    }
