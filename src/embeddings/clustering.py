"""Compares k-means clusters, found without labels, with the classes: NMI and AMI."""

import numpy as np
from numpy.typing import NDArray

from src.data.split import stratified_indices
from src.embeddings.search import centred_and_scaled
from src.params.metric_names import CLUSTERING, MAX_CLASSES

# Lloyd's algorithm from k-means++ seeds; the best of NUM_RUNS runs counts. A run ends if no centre
# moves by more than scikit-learn's tolerance, or after MAX_ROUNDS iterations.
NUM_RUNS = 3
MAX_ROUNDS = 100

# Limits on the input: a stratified sample of MAX_EXAMPLES examples, and MAX_CLASSES classes.
# The time of one iteration grows with their product.
MAX_EXAMPLES = 10_000


def clustered_indices(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    """Return the positions of the examples to cluster, int, ascending.

    The choice is deterministic. If there are more than MAX_CLASSES classes, MAX_CLASSES of them are
    drawn at random. Classes with a single example are used last.
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
    """Cluster with scikit-learn's seeded k-means; the number of clusters is that of the classes.

    Args:
        embeddings: float32 [N, D]. Non-finite values become 0 or the largest float32.
        labels: int32 [N].

    Returns:
        `nmi`: the mutual information of clusters and classes, divided by the mean of their
        entropies. `ami`: the same, adjusted for chance. Both are None if there are fewer than two
        classes, or if every class has a single example. Also the numbers of clustered examples
        and classes.
    """
    chosen = clustered_indices(labels)
    embeddings, labels = embeddings[chosen], labels[chosen]
    class_sizes = np.unique(labels, return_counts=True)[1]
    num_classes = len(class_sizes)
    counts = {"num_clustered": len(labels), "num_clustered_classes": num_classes}
    if num_classes < 2 or class_sizes.max() < 2:
        return {**dict.fromkeys(CLUSTERING), **counts}
    # Imported here because it takes a second: params errors and tables must not wait for it.
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

    points = centred_and_scaled(embeddings[:0], embeddings)[1].astype(np.float32)
    num_clusters = min(num_classes, len(np.unique(points, axis=0)))
    clusters = KMeans(
        num_clusters, n_init=NUM_RUNS, max_iter=MAX_ROUNDS, random_state=0
    ).fit_predict(points)
    return {
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ami": float(adjusted_mutual_info_score(labels, clusters)),
        **counts,
    }
