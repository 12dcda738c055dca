"""Time and memory of the metrics: `make bench-retrieval`, beside pytorch-metric-learning."""

import argparse
import time
from collections.abc import Sequence

import numpy as np

from benchmarks.harness import (
    Contestant,
    Step,
    add_arguments,
    print_circumstances,
    print_table,
    progress,
    warn_if_busy,
)

# Each case: what is measured, number of queries, size of the gallery (0: the queries themselves),
# D, and the distance between classes in units of their spread. For MNIST, a trained network reaches
# about 0.5.
CASES = (
    ("an evaluation: all metrics within", 10_000, 0, 64, 0.5),
    ("  ranking and pairs alone", 10_000, 0, 64, 0.5),
    ("  ranking and pairs alone, at random", 10_000, 0, 64, 0.0),
    ("  k-means, NMI, AMI alone", 10_000, 0, 64, 0.5),
    ("  pytorch-metric-learning: MAP@R, R-precision", 10_000, 0, 64, 0.5),
    ("a split against the training split", 10_000, 50_000, 64, 0.5),
    ("the training split, both protocols", 50_000, 0, 64, 0.5),
    ("raw pixels of MNIST's size against the training split", 10_000, 50_000, 784, 0.5),
    ("a whole training file within, without pairs", 60_000, 0, 128, 0.5),
    ("a whole training file within", 60_000, 0, 128, 0.5),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the cases one after the other, each in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    warn_if_busy()
    rows = []
    for case in CASES:
        progress(case[0])
        contestant = Contestant(make_step, *case)
        contestant.wait()
        seconds, cpu_seconds = contestant.first
        memory = contestant.close() - contestant.base_mb
        name, queries, gallery, size, _ = case
        rows.append(
            [
                name,
                f"{queries}",
                f"{gallery}" if gallery else "themselves",
                f"{size}",
                f"{seconds:.2f}",
                f"{cpu_seconds:.2f}",
                f"{memory:.0f}",
            ]
        )
    header = ["what", "queries", "gallery", "D", "seconds", "processor seconds", "MB added"]
    print_table(header, rows, markdown=args.markdown)
    print_circumstances(
        "benchmarks.retrieval",
        "One run each, in a process of its own. Processor seconds are those of all threads: where "
        "others use the processor, seconds are more than half of them.",
    )


def make_step(name: str, num_queries: int, gallery_size: int, size: int, apart: float) -> Step:
    """Return the function that measures a case, with its data and libraries loaded."""
    from src.embeddings.metrics import (
        Embedded,
        metrics_against_gallery,
        metrics_of_gallery,
        metrics_within,
    )
    from src.embeddings.retrieval import rank_gallery

    rng = np.random.default_rng(0)
    centres = apart * rng.normal(size=(10, size))

    def classes(count: int) -> Embedded:
        labels = (np.arange(count) % 10).astype(np.int32)
        points = centres[labels] + rng.normal(size=(count, size))
        return Embedded(points.astype(np.float32), labels)

    queries, gallery = classes(num_queries), classes(gallery_size)
    if "pytorch" in name:
        measured = _pytorch_metric_learning(queries)
    elif "k-means" in name:
        from src.embeddings.clustering import clustering_metrics

        measured = lambda: clustering_metrics(*queries)  # noqa: E731
    elif gallery_size:
        measured = lambda: metrics_against_gallery(queries, gallery)  # noqa: E731
    elif "both protocols" in name:

        def measured() -> None:
            metrics_of_gallery(queries, metrics_within(queries)[1])

    elif "all metrics" in name:
        measured = lambda: metrics_within(queries)  # noqa: E731
    else:
        pairs = "without pairs" not in name
        measured = lambda: rank_gallery(*queries, count_pairs=pairs)  # noqa: E731
    metrics_within(Embedded(queries.embeddings[:500], queries.labels[:500]))  # load libraries

    def step() -> tuple[float, float]:
        started, started_cpu = time.perf_counter(), time.process_time()
        measured()
        return time.perf_counter() - started, time.process_time() - started_cpu

    return step


def _pytorch_metric_learning(split: "object") -> Step:
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    search = CustomKNN(LpDistance(normalize_embeddings=False), batch_size=256)
    calculator = AccuracyCalculator(
        include=("mean_average_precision_at_r", "r_precision", "precision_at_1"),
        k="max_bin_count",
        knn_func=search,
        kmeans_func=search,
    )
    return lambda: calculator.get_accuracy(*split)


if __name__ == "__main__":
    main()
