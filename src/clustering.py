"""Whether clusters found without labels are the classes: NMI and AMI of k-means."""

import numpy as np
from numpy.typing import NDArray

from src.retrieval import comparable

# Lloyd's algorithm from k-means++ seeds, the best of so many runs; each ends where nothing moves
# by more than scikit-learn's tolerance, or after so many rounds.
NUM_RUNS = 3
MAX_ROUNDS = 100


def clustering_metrics(
    embeddings: NDArray[np.float32], labels: NDArray[np.int32]
) -> dict[str, float]:
    """Cluster by scikit-learn's k-means, seeded, with as many clusters as there are classes.

    Args:
        embeddings: float32 [N, D]; what is not finite becomes 0 or the largest float32.
        labels: int32 [N].

    Returns:
        `nmi` and `ami`, the mutual information of clusters and classes divided by the mean of
        their entropies, the second less what chance gives. 0 where there are not two classes.
    """
    num_classes = len(np.unique(labels))
    if num_classes < 2:
        return {"nmi": 0.0, "ami": 0.0}
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
    }
