"""The ways of mining on this processor: `python -m benchmarks.mining_ways`.

The usual way (enumerated pairs, or rows sorted in NumPy) against the way in TensorFlow ops alone,
which is for GPUs, and against that way compiled by XLA. A step is the loss of one batch and its
gradient, as in `benchmarks.mining`; the three take turns, each in a process of its own, and must
find the same loss and gradient norm.
"""

import argparse
import itertools
import statistics
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
from benchmarks.mining import TOLERANCE
from benchmarks.mining_contestants import BATCHES, MARGIN, Case, half_trained, make_ours
from src.registry import TRIPLET_STRATEGIES, look_up

WAYS = ("usual", "ops alone", "XLA")


def make_way(case: Case, way: str) -> Step:
    """Return a step of the project's strategy in one of WAYS."""
    from model.estimator import tf
    from model.mining import rectangle

    if way == "usual":
        return make_ours(case)
    rectangle.stays_on_device = lambda tensor: True
    if way == "ops alone":
        return make_ours(case)
    step = _loss_and_gradient(case)
    labels, embeddings = map(tf.constant, half_trained(case))
    compiled = tf.function(step, jit_compile=True)

    def run() -> tuple[float, float]:
        loss, gradient = compiled(labels, embeddings)
        return float(loss.numpy()), float(np.linalg.norm(gradient.numpy()))

    return run


def _loss_and_gradient(case: Case) -> Step:
    from model.estimator import tf

    strategy = look_up(TRIPLET_STRATEGIES, case.strategy)

    def step(labels: tf.Tensor, embeddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = strategy(labels, embeddings, margin=MARGIN, distance="euclidean").loss
        return loss, tape.gradient(loss, embeddings)

    return step


def measure(case: Case, ways: Sequence[str], rounds: int) -> list[str]:
    """Return the row of a case: time in ms and memory in MB of each way."""
    contestants = [Contestant(make_way, case, way) for way in ways]
    for contestant in contestants:
        contestant.wait()
    expected = contestants[0].first
    for way, contestant in zip(ways, contestants, strict=True):
        if not np.allclose(contestant.first, expected, rtol=TOLERANCE, atol=0.0):
            raise SystemExit(f"{case}: {way} found {contestant.first}, expected {expected}")
    turns = [[contestant.seconds_a_step(0.3) for contestant in contestants] for _ in range(rounds)]
    milliseconds = [1000 * statistics.median(of_way) for of_way in zip(*turns, strict=True)]
    memory = [contestant.close() - contestant.base_mb for contestant in contestants]
    return [
        f"{case.strategy}, {case.batch}",
        str(case.size),
        *(f"{value:.3g}" for value in milliseconds),
        *(f"{value / milliseconds[0]:.2g}" for value in milliseconds[1:]),
        *(f"{value:.0f}" for value in memory),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mining_ways",
        description=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    strategies = ["batch_all", "batch_hard", "batch_semihard"]
    add = parser.add_argument
    add("--strategies", nargs="+", choices=strategies, default=strategies, help="default: all")
    add("--batches", nargs="+", choices=BATCHES, default=BATCHES, help="default: both")
    add("--sizes", nargs="+", type=int, default=[64, 256, 1024], help="B (default: %(default)s)")
    add("--ways", nargs="+", choices=WAYS, default=WAYS, help="default: all")
    add("--rounds", type=int, default=5, help="turns of each (default: 5)")
    add_arguments(parser)
    args = parser.parse_args(argv)
    warn_if_busy()
    rows = []
    for values in itertools.product(args.strategies, args.batches, args.sizes):
        progress(", ".join(map(str, values)))
        rows.append(measure(Case(*values), args.ways, args.rounds))
    header = ["loss and gradient", "B", *(f"{way}, ms" for way in args.ways)]
    header += [f"{way} / {args.ways[0]}" for way in args.ways[1:]]
    header += [f"{way}, MB" for way in args.ways]
    print_table(header, rows, markdown=args.markdown)
    print_circumstances(
        "benchmarks.mining_ways",
        f"Medians over {args.rounds} interleaved turns; memory is what the steps add to the "
        "process's peak.",
    )


if __name__ == "__main__":
    main()
