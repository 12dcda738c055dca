"""The names of the metrics, as in metrics.json, summaries and `best_metric`.

They are separate from the code of the metrics, so `params.json` can be checked without NumPy.
"""

# The ranks k of recall@k.
RECALL_RANKS = (1, 2, 4, 8)

# The maximum number of queries of a split. A larger split is sampled: stratified and seeded.
MAX_QUERIES = 10_000

# The maximum number of classes that are clustered. More classes are sampled, seeded.
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
"""Metrics within one split; computed in every evaluation."""

WITHIN_COUNTS = (
    *("num_queries_within", "num_positive_pairs", "num_negative_pairs"),
    *("num_clustered", "num_clustered_classes"),
)
"""What these metrics are means over: queries, pairs of examples, and clustered examples."""

AGAINST_GALLERY = (*RETRIEVAL, "class_mean_accuracy")
"""Metrics of queries from a split against the training split; only in the final evaluation."""

GALLERY_COUNTS = ("num_queries",)
"""What these metrics are means over."""

AMONG_KNOWN = tuple(f"{name}_among_known" for name in RETRIEVAL)
"""Metrics of `unseen` whose gallery also has the test images of the known classes."""

AMONG_KNOWN_COUNTS = ("num_queries_among_known", "num_known_among")
"""What these metrics are means over, and the number of known images in the gallery."""

OPEN_SET = ("auroc", "dir_at_fpir_1e-2")
"""Metrics of known images against strangers that comparisons show, if they were measured."""

BEST_METRICS = ("loss", *WITHIN)
"""The metrics that can choose the best checkpoint."""

LOWER_IS_BETTER = frozenset({"loss", "eer"})
