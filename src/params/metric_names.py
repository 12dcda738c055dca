"""The names of the metrics from embeddings, as metrics.json, summaries and `best_metric` use them.

Apart from the code that computes them, for `params.json` is checked before NumPy is needed.
"""

# The ranks k of recall@k.
RECALL_RANKS = (1, 2, 4, 8)

# At most so many examples of a split ask; of a larger one a stratified, seeded sample.
MAX_QUERIES = 10_000

# At most so many classes of a split are clustered; of more a seeded sample.
MAX_CLASSES = 500

RETRIEVAL = (
    "map_at_r",
    "r_precision",
    "precision_at_1",
    *(f"recall_at_{rank}" for rank in RECALL_RANKS),
    "knn_accuracy",
)
VERIFICATION = ("roc_auc", "eer", "tar_at_far_1e-2", "tar_at_far_1e-3")
CLUSTERING = ("nmi", "ami")

WITHIN = (*(f"{name}_within" for name in RETRIEVAL), *VERIFICATION, *CLUSTERING)
"""Of a split by itself; those of every evaluation."""

WITHIN_COUNTS = (
    *("num_queries_within", "num_positive_pairs", "num_negative_pairs"),
    *("num_clustered", "num_clustered_classes"),
)
"""What those are means over: queries, pairs of examples, and examples in clusters."""

AGAINST_GALLERY = (*RETRIEVAL, "class_mean_accuracy")
"""Of a split that asks the training split; those of the final evaluation."""

GALLERY_COUNTS = ("num_queries",)
"""What those are means over."""

BEST_METRICS = ("loss", *WITHIN)
"""Those by which the best checkpoint can be chosen."""

LOWER_IS_BETTER = frozenset({"loss", "eer"})
