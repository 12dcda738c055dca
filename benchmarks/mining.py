"""Time and memory of the triplet strategies: `python -m benchmarks.mining`.

A step is the loss of one batch and its gradient with respect to the embeddings, float32 [B, 64].
Four contestants take turns, each in a process of its own:

- ours: the strategy as the model uses it, in a `tf.function`.
- definition: the same loss in TensorFlow as public implementations write it: batch_all from
  `[B, B, B]` tensors, batch_semihard from `[B^2, B]` ones, batch_hard from masks of `[B, B]`.
  distance_weighted compares each pair's draw with `[B, B, B]` sums; the rest is `[B, B]`.
- PML: the same loss in pytorch-metric-learning, on PyTorch. It has none that equals
  batch_semihard: its semi-hard miner takes all semi-hard triplets within the margin, not one for
  each pair of anchor and positive. Of its distance-weighted miner, the weights are taken; the
  numbers that are drawn are ours.
- floor: the float32 distance matrix, its gradient, and a sort of its rows, in TensorFlow.

Loss and gradient norm of all but the floor are checked to be equal before anything is timed.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.harness import (
    Contestant,
    add_arguments,
    print_circumstances,
    print_table,
    progress,
    warn_if_busy,
)
from benchmarks.mining_contestants import (
    BATCHES,
    CONTESTANTS,
    WITHOUT_CUBE,
    Case,
    fraction_positive,
    half_trained,
)
from src.registry import TRIPLET_STRATEGIES

TOLERANCE = 1e-4

SIZES = (64, 256, 1024, 4096)
LARGEST_SIZE = 8192

# Limits for 24 GB: PML takes about 100 bytes per triplet; definitions with B^3 numbers take 23.
_PML_MAX_TRIPLETS = 150_000_000
# Contestants with more numbers than this run alone on the machine.
_SHARED_MAX_TRIPLETS = 20_000_000


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


def skipped(name: str, case: Case, args: argparse.Namespace) -> str:
    """Return why a contestant cannot run; empty if it can."""
    if name == "PML" and case.strategy == "batch_semihard":
        return "has none"
    if name == "PML" and case.strategy == "batch_all" and case.num_triplets > _PML_MAX_TRIPLETS:
        return "too large"
    if name == "definition" and case.strategy not in WITHOUT_CUBE and case.size > args.cube_max:
        return "too large" if case.size > 1024 else "--cube_max"
    return ""


def shares_machine(name: str, case: Case) -> bool:
    """Return whether other contestants fit in memory beside this one."""
    numbers = {"definition": case.size**3, "PML": case.num_triplets}.get(name, 0)
    return case.strategy in WITHOUT_CUBE or numbers <= _SHARED_MAX_TRIPLETS


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


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mining",
        description=(__doc__ or "").split("\n", 2)[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    strategies = sorted(set(TRIPLET_STRATEGIES) - {"offline"})  # it does not mine batches
    add = parser.add_argument
    add("--strategies", nargs="+", choices=strategies, default=strategies, help="default: all")
    add("--batches", nargs="+", choices=BATCHES, default=BATCHES, help="default: both")
    add("--sizes", nargs="*", type=int, default=SIZES, help="batch sizes B (default: %(default)s)")
    add(
        "--cube_max",
        type=int,
        default=256,
        help="the largest batch of a definition with B^3 numbers (default: 256); 1024 takes 24 GB "
        "of memory",
    )
    add("--no_growth", action="store_true", help=f"do not measure ours at {LARGEST_SIZE}")
    add("--rounds", type=int, default=9, help="turns of each contestant (default: 9)")
    add(
        "--turn",
        type=float,
        default=0.3,
        help="seconds of a turn; it has at least one step (default: 0.3)",
    )
    add(
        "--budget",
        type=float,
        default=30.0,
        help="seconds after which a comparison ends, if it has had three rounds (default: 30)",
    )
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    args = parsed(argv)
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
