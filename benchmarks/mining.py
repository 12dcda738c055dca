"""Time and memory of the triplet strategies: `python -m benchmarks.mining`.

A step is the loss of one batch and its gradient with respect to the embeddings, float32 [B, 64].
Four contestants take turns, each in a process of its own:

- ours: the strategy as the model uses it, in a `tf.function`.
- definition: the same loss in TensorFlow as public implementations write it: batch_all from
  `[B, B, B]` tensors, batch_semihard from `[B^2, B]` ones, batch_hard from masks of `[B, B]`.
- PML: the same loss in pytorch-metric-learning, on PyTorch. It has none that equals
  batch_semihard: its semi-hard miner takes all semi-hard triplets within the margin, not one for
  each pair of anchor and positive.
- floor: the float32 distance matrix, its gradient, and a sort of its rows, in TensorFlow.

Loss and gradient norm of all but the floor are checked to be equal before anything is timed.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import (
    Contestant,
    Step,
    add_arguments,
    print_circumstances,
    print_table,
    progress,
    warn_if_busy,
)
from src.registry import TRIPLET_STRATEGIES, look_up

EMBEDDING_SIZE = 64
MARGIN = 0.5
TOLERANCE = 1e-4

# Shuffled batches hold 10 classes; P x K batches hold 4 examples of each class.
BATCHES = ("10 classes", "P x 4")

SIZES = (64, 256, 1024, 4096)
LARGEST_SIZE = 8192

# Limits for 24 GB: PML takes about 100 bytes per triplet; definitions with B^3 numbers take 23.
_PML_MAX_TRIPLETS = 150_000_000
# Contestants with more numbers than this run alone on the machine.
_SHARED_MAX_TRIPLETS = 20_000_000


class Case(NamedTuple):
    """One case on which the contestants are compared.

    Attributes:
        strategy: a key of TRIPLET_STRATEGIES.
        batch: one of BATCHES.
        size: B.
    """

    strategy: str
    batch: str
    size: int

    @property
    def num_classes(self) -> int:
        """The number of classes in the batch; their sizes differ by at most 1."""
        return 10 if self.batch == "10 classes" else self.size // 4

    @property
    def num_triplets(self) -> int:
        """The approximate number of valid triplets in the batch."""
        class_size = self.size // self.num_classes
        return self.size * (class_size - 1) * (self.size - class_size)


class Result(NamedTuple):
    """The measurements of one contestant.

    Attributes:
        seconds: for each turn, the mean time of a step.
        base_mb: peak memory in MB before the first step.
        peak_mb: peak memory in MB.
    """

    seconds: list[float]
    base_mb: float
    peak_mb: float

    @property
    def median(self) -> float:
        """The median over the turns."""
        return statistics.median(self.seconds)

    @property
    def own_mb(self) -> float:
        """The additional memory, in MB, of the steps."""
        return self.peak_mb - self.base_mb


def half_trained(case: Case) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return a shuffled batch with embeddings like those of a half-trained network.

    Only eight directions matter, because real embeddings do not fill their 64 dimensions. Along
    these, the spread of the class centres is twice the spread within a class, so classes overlap.
    At MARGIN, 10 to 20 % of the triplets are positive. The mean distance is 2.

    Returns:
        labels int32 [B], embeddings float32 [B, 64].
    """
    rng = np.random.default_rng(case.size)
    labels = rng.permutation(np.arange(case.size) % case.num_classes).astype(np.int32)
    centres = 2.0 * rng.standard_normal((case.num_classes, 8))
    latent = centres[labels] + rng.standard_normal((case.size, 8))
    directions = rng.standard_normal((8, EMBEDDING_SIZE)) / math.sqrt(EMBEDDING_SIZE)
    noise = 0.05 * rng.standard_normal((case.size, EMBEDDING_SIZE))
    return labels, (0.25 * (latent @ directions + noise)).astype(np.float32)


def fraction_positive(labels: NDArray[np.int32], embeddings: NDArray[np.float32]) -> float:
    """Return the share of valid triplets that batch_all finds positive, one anchor at a time."""
    num_positive = num_valid = 0
    for anchor, label in enumerate(labels):
        distances = np.linalg.norm(embeddings - embeddings[anchor], axis=1)
        is_positive = labels == label
        is_positive[anchor] = False
        negatives = np.sort(distances[labels != label])
        num_positive += np.searchsorted(negatives, distances[is_positive] + MARGIN).sum()
        num_valid += np.count_nonzero(is_positive) * len(negatives)
    return num_positive / num_valid


# --- The contestants, each made in its own process ---


def make_ours(case: Case) -> Step:
    """Return a step of the project's strategy."""
    strategy = look_up(TRIPLET_STRATEGIES, case.strategy)
    return _tensorflow_step(
        case,
        lambda labels, embeddings: (
            strategy(labels, embeddings, margin=MARGIN, distance="euclidean").loss
        ),
    )


def make_definition(case: Case) -> Step:
    """Return a step that follows the strategy's definition literally."""
    return _tensorflow_step(case, DEFINITIONS[case.strategy])


def make_floor(case: Case) -> Step:
    """Return a step of the minimum that such a loss needs: distances, their gradient, a sort."""
    from model.estimator import tf

    rng = np.random.default_rng(0)
    slopes = tf.constant(rng.standard_normal((case.size, case.size), np.float32))

    @tf.custom_gradient
    def loss(distances: tf.Tensor) -> tf.Tensor:
        nearest = tf.sort(distances, axis=1)[:, 0]
        return tf.reduce_sum(nearest), lambda upstream: upstream * slopes

    return _tensorflow_step(case, lambda labels, embeddings: loss(_plain_distances(embeddings)))


def make_pml(case: Case) -> Step:
    """Return a step of pytorch-metric-learning."""
    import torch
    from pytorch_metric_learning import distances, losses, miners, reducers

    distance = distances.LpDistance(p=2, normalize_embeddings=False)
    if case.strategy == "batch_all":
        miner, reducer = None, reducers.AvgNonZeroReducer()
    else:
        miner, reducer = miners.BatchHardMiner(distance=distance), reducers.MeanReducer()
    loss_fn = losses.TripletMarginLoss(margin=MARGIN, distance=distance, reducer=reducer)
    labels, embeddings = map(torch.from_numpy, half_trained(case))
    labels = labels.long()
    embeddings.requires_grad_()

    def step() -> tuple[float, float]:
        loss = loss_fn(embeddings, labels, miner(embeddings, labels) if miner else None)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        return loss.item(), float(np.linalg.norm(gradient.numpy()))

    return step


def _tensorflow_step(case: Case, loss_fn: Callable[[Any, Any], Any]) -> Step:
    """Return a step of `loss_fn(labels, embeddings)`, a TensorFlow loss."""
    from model.estimator import tf
    from src.system.process import settle

    settle()  # as the programs do

    # As in the model, the batch size is unknown when the graph is built.
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.int32),
            tf.TensorSpec([None, EMBEDDING_SIZE], tf.float32),
        ]
    )
    def loss_and_gradient(labels: tf.Tensor, embeddings: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = loss_fn(labels, embeddings)
        return loss, tape.gradient(loss, embeddings)

    labels, embeddings = map(tf.constant, half_trained(case))

    def step() -> tuple[float, float]:
        loss, gradient = loss_and_gradient(labels, embeddings)
        return float(loss.numpy()), float(np.linalg.norm(gradient.numpy()))

    return step


def _plain_distances(embeddings: Any) -> Any:
    """Return float32 Euclidean distances [B, B], computed as in public implementations."""
    from model.estimator import tf

    products = tf.matmul(embeddings, embeddings, transpose_b=True)
    squares = tf.linalg.diag_part(products)
    square_distances = tf.maximum(squares[:, None] - 2.0 * products + squares[None, :], 0.0)
    # The gradient of the square root is infinite at 0.
    is_zero = tf.cast(tf.equal(square_distances, 0.0), tf.float32)
    return tf.sqrt(square_distances + is_zero * 1e-16) * (1.0 - is_zero)


def _plain_masks(labels: Any) -> tuple[Any, Any]:
    """Return masks of the anchor-positive and the anchor-negative pairs, each float32 [B, B]."""
    from model.estimator import tf

    same = tf.cast(tf.equal(labels[:, None], labels[None, :]), tf.float32)
    return same - tf.eye(tf.shape(labels)[0]), 1.0 - same


def batch_all_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the positive triplets among all B^3.

    Source: github.com/omoindrot/tensorflow-triplet-loss, `batch_all_triplet_loss`.
    """
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    losses = distances[:, :, None] - distances[:, None, :] + MARGIN  # [B, B, B], axes a p n
    losses = tf.maximum(is_positive[:, :, None] * is_negative[:, None, :] * losses, 0.0)
    num_positive = tf.reduce_sum(tf.cast(losses > 1e-16, tf.float32))
    return tf.reduce_sum(losses) / (num_positive + 1e-16)


def batch_hard_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over the anchors, each with its hardest positive and negative.

    Source: github.com/omoindrot/tensorflow-triplet-loss, `batch_hard_triplet_loss`.
    """
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    hardest_positive = tf.reduce_max(is_positive * distances, axis=1)  # [B]
    farthest = tf.reduce_max(distances, axis=1, keepdims=True)
    hardest_negative = tf.reduce_min(distances + farthest * (1.0 - is_negative), axis=1)  # [B]
    return tf.reduce_mean(tf.maximum(hardest_positive - hardest_negative + MARGIN, 0.0))


def batch_semihard_definition(labels: Any, embeddings: Any) -> Any:
    """Return the mean loss over anchor-positive pairs, each with its semi-hard negative.

    Source: github.com/tensorflow/addons, `triplet_semihard_loss`.
    """
    from model.estimator import tf

    distances = _plain_distances(embeddings)
    is_positive, is_negative = _plain_masks(labels)
    size = tf.shape(distances)[0]
    # Row p * B + a of the tiled matrix holds the distances of anchor a.
    tiled = tf.tile(distances, [size, 1])  # [B^2, B]
    is_farther = tiled > tf.reshape(tf.transpose(distances), [-1, 1])
    is_candidate = tf.logical_and(tf.tile(is_negative > 0.0, [size, 1]), is_farther)
    has_candidate = tf.transpose(tf.reshape(tf.reduce_any(is_candidate, axis=1), [size, size]))
    is_candidate = tf.cast(is_candidate, tf.float32)

    farthest = tf.reduce_max(tiled, axis=1, keepdims=True)
    nearest_outside = tf.reduce_min((tiled - farthest) * is_candidate, axis=1, keepdims=True)
    nearest_outside = tf.transpose(tf.reshape(nearest_outside + farthest, [size, size]))
    nearest = tf.reduce_min(distances, axis=1, keepdims=True)
    farthest_inside = tf.reduce_max((distances - nearest) * is_negative, axis=1, keepdims=True)
    farthest_inside = tf.tile(farthest_inside + nearest, [1, size])

    negatives = tf.where(has_candidate, nearest_outside, farthest_inside)  # [B, B], axes a p
    losses = tf.maximum((distances - negatives + MARGIN) * is_positive, 0.0)
    return tf.reduce_sum(losses) / tf.reduce_sum(is_positive)


DEFINITIONS = {
    "batch_all": batch_all_definition,
    "batch_hard": batch_hard_definition,
    "batch_semihard": batch_semihard_definition,
}

CONTESTANTS = {
    "ours": make_ours,
    "floor": make_floor,
    "definition": make_definition,
    "PML": make_pml,
}


# --- Measuring ---


def skipped(name: str, case: Case, args: argparse.Namespace) -> str:
    """Return why a contestant cannot run; empty if it can."""
    if name == "PML" and case.strategy == "batch_semihard":
        return "has none"
    if name == "PML" and case.strategy == "batch_all" and case.num_triplets > _PML_MAX_TRIPLETS:
        return "too large"
    if name == "definition" and case.strategy != "batch_hard" and case.size > args.cube_max:
        return "too large" if case.size > 1024 else "--cube_max"
    return ""


def shares_machine(name: str, case: Case) -> bool:
    """Return whether other contestants fit in memory beside this one."""
    numbers = {"definition": case.size**3, "PML": case.num_triplets}.get(name, 0)
    return case.strategy == "batch_hard" or numbers <= _SHARED_MAX_TRIPLETS


def measure(
    contestants: Mapping[str, tuple[str, Case]],
    expected: dict[Case, tuple[float, float]],
    args: argparse.Namespace,
) -> dict[str, Result | str]:
    """Measure contestants in turns.

    Args:
        contestants: for each key of the result, a name of CONTESTANTS and its case.
        expected: the loss and gradient norm of each case, if known; missing ones are added.
        args: `rounds`, `turn`, `budget`.

    Returns:
        For each, the measurements, or why it could not be measured.
    """
    running = {
        key: Contestant(CONTESTANTS[name], case) for key, (name, case) in contestants.items()
    }
    results: dict[str, Result | str] = {}
    for key, (name, case) in contestants.items():
        try:
            running[key].wait()
        except ChildProcessError as error:
            results[key] = str(error)
            del running[key]
            continue
        found = running[key].first
        if name != "floor" and not np.allclose(
            found, expected.setdefault(case, found), rtol=TOLERANCE, atol=0.0
        ):
            raise SystemExit(
                f"{case}: loss and gradient norm of {name} are {found}, expected {expected[case]}"
            )

    seconds: dict[str, list[float]] = {key: [] for key in running}
    deadline = time.perf_counter() + args.budget
    for number in range(args.rounds):
        if number >= 3 and time.perf_counter() > deadline:
            break
        for key, contestant in running.items():
            seconds[key].append(contestant.seconds_a_step(args.turn))
    for key, contestant in running.items():
        results[key] = Result(seconds[key], contestant.base_mb, contestant.close())
    return results


def measure_case(case: Case, args: argparse.Namespace) -> dict[str, Result | str]:
    """Measure all contestants of a case; those that need all the memory run alone, in between."""
    results: dict[str, Result | str] = {name: skipped(name, case, args) for name in CONTESTANTS}
    able = [name for name, reason in results.items() if not reason]
    together = [name for name in able if shares_machine(name, case)]
    alone = [name for name in able if name not in together]
    expected: dict[Case, tuple[float, float]] = {}
    for group in [together, *([name] for name in alone), *([together] if alone else [])]:
        for name, result in measure({name: (name, case) for name in group}, expected, args).items():
            earlier = results[name]
            if isinstance(earlier, Result) and isinstance(result, Result):
                result = Result(
                    earlier.seconds + result.seconds,
                    result.base_mb,
                    max(earlier.peak_mb, result.peak_mb),
                )
            results[name] = result
    return results


def row_of_times(case: Case, results: Mapping[str, Result | str]) -> list[str]:
    """Return a case's row in the table of times."""

    def compared(result: Result | str) -> str:
        ours = results["ours"]
        if isinstance(ours, str) or isinstance(result, str):
            return str(result)
        return f"{result.median / ours.median:.3g}"

    ours, floor = results["ours"], results["floor"]
    above_floor = "-"
    if isinstance(ours, Result) and isinstance(floor, Result):
        above_floor = f"{ours.median / floor.median:.2f}"
    return [
        f"{case.strategy}, {case.batch}",
        str(case.size),
        f"{100 * fraction_positive(*half_trained(case)):.0f} %",
        f"{1000 * ours.median:.3g}" if isinstance(ours, Result) else ours,
        above_floor,
        compared(results["definition"]),
        compared(results["PML"]),
    ]


def row_of_memory(case: Case, results: Mapping[str, Result | str]) -> list[str]:
    """Return a case's row in the table of memory."""
    ours, definition = results["ours"], results["definition"]
    share = "-"
    if isinstance(ours, Result) and isinstance(definition, Result):
        share = f"{100 * ours.own_mb / definition.own_mb:.2g} %"
    return [
        f"{case.strategy}, {case.batch}",
        str(case.size),
        *(
            f"{result.base_mb:.0f} + {result.own_mb:.0f}" if isinstance(result, Result) else result
            for result in (results[name] for name in CONTESTANTS)
        ),
        share,
    ]


def measure_growth(strategy: str, batch: str, args: argparse.Namespace) -> list[str]:
    """Measure only ours at 1024, 4096 and LARGEST_SIZE, and return the row of the table."""
    sizes = (1024, 4096, LARGEST_SIZE)
    cases = {str(size): ("ours", Case(strategy, batch, size)) for size in sizes}
    results = measure(cases, {}, args)
    small, large, largest = (results[str(size)] for size in sizes)
    if isinstance(small, str) or isinstance(large, str) or isinstance(largest, str):
        raise SystemExit(f"{strategy}, {batch}: {results}")
    return [
        f"{strategy}, {batch}",
        f"{large.median / small.median:.1f}",
        f"{largest.median / large.median:.1f}",
        f"{largest.median:.2f}",
        f"{largest.peak_mb / 1000:.2f}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mining",
        description=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    strategies = sorted(set(TRIPLET_STRATEGIES) - {"offline"})  # it does not mine batches
    add = parser.add_argument
    add("--strategies", nargs="+", choices=strategies, default=strategies, help="default: all")
    add("--batches", nargs="+", choices=BATCHES, default=BATCHES, help="default: both")
    add("--sizes", nargs="*", type=int, default=SIZES, help="of batches (default: %(default)s)")
    add(
        "--cube_max",
        type=int,
        default=256,
        help="the largest batch of a definition with B^3 numbers: 1024 takes 24 GB, with nothing "
        "else in memory (default: 256)",
    )
    add("--no_growth", action="store_true", help=f"leave out ours at {LARGEST_SIZE}")
    add("--rounds", type=int, default=9, help="turns of each (default: 9)")
    add("--turn", type=float, default=0.3, help="seconds of a turn, at least a step (default: 0.3)")
    add(
        "--budget",
        type=float,
        default=30.0,
        help="seconds of a comparison after which three rounds are enough (default: 30)",
    )
    add_arguments(parser)
    args = parser.parse_args(argv)
    warn_if_busy()

    times, memory = [], []
    for values in itertools.product(args.strategies, args.batches, args.sizes):
        case = Case(*values)
        progress(f"{case.strategy}, {case.batch}, {case.size} ...")
        results = measure_case(case, args)
        times.append(row_of_times(case, results))
        memory.append(row_of_memory(case, results))
    if times:
        header = ["time of loss and gradient", "B", "positive", "ours, ms", "ours / floor"]
        header += ["definition / ours", "PML / ours"]
        print_table(header, times, markdown=args.markdown)
        header = ["peak memory, MB", "B", *CONTESTANTS, "ours / definition"]
        print_table(header, memory, markdown=args.markdown)
    if not args.no_growth:
        progress(f"growth to {LARGEST_SIZE} ...")
        header = ["growth of ours", "time(4096) / time(1024)", f"time({LARGEST_SIZE}) / time(4096)"]
        header += [f"time({LARGEST_SIZE}), s", f"all memory at {LARGEST_SIZE}, GB"]
        growth = [
            measure_growth(*case, args) for case in itertools.product(args.strategies, args.batches)
        ]
        print_table(header, growth, markdown=args.markdown)
    print_circumstances(
        "benchmarks.mining",
        f"Times are medians over up to {args.rounds} interleaved turns of {args.turn:g} s; memory "
        "is a process's peak before the first step, the libraries' own, + what the steps add.",
    )


if __name__ == "__main__":
    main()
