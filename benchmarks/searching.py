"""Grid, random and TPE with pruning, on an equal budget: `python -m benchmarks.searching`.

Nine searches on Fashion-MNIST, an hour each: three kinds, three seeds. They take turns seed by
seed, so that an interrupted study compares all kinds on the seeds it has. Killed or interrupted,
the same command goes on. It writes docs/search-study.json and .png, and the results into
docs/searching.md.
"""

import argparse
import datetime
import math
from collections.abc import Sequence
from pathlib import Path

import sweep
from benchmarks.harness import machine, version_of
from benchmarks.results_page import add_folders
from benchmarks.searching_page import PAGE, write_page
from benchmarks.searching_protocol import (
    MINUTES,
    RANGES,
    RESULTS,
    SEARCHES,
    SEEDS,
    Part,
    Searched,
    check_folder,
    check_searched,
    params_of,
    parts,
    protocol_of,
    read_searched,
    write_searched,
)
from src.errors import SweepFailed
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.params.reading import check_params
from src.searching.record import read_record
from src.sweeping.plan import Child, write_params
from src.system.cli import add_data_dir, positive_number, program_parser, run

_EXAMPLES = """\
  python -m benchmarks.searching --seeds 0
  python -m benchmarks.searching --minutes 5 --directory rehearsal/searches --out rehearsal"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the searches that the results do not have, and write the results after each."""
    args = _arguments(argv)
    check_searched(read_searched(args.out), args.minutes, args.out)
    chosen = [part for part in parts() if part[0] in args.searches and part[1] in args.seeds]
    failed = []
    for search, seed in chosen:
        if any(one.part == (search, seed) for one in read_searched(args.out)):
            continue
        try:
            one = _searched((search, seed), args)
        except SweepFailed as error:
            print(f"failed: {error}", flush=True)
            failed.append(f"  {search} with seed {seed}: {str(error).splitlines()[0]}")
            continue
        # Read again: another process may have added a search meanwhile.
        found = [*(old for old in read_searched(args.out) if old.part != one.part), one]
        write_searched(args.out, found)
        write_page(args.out, found)
    write_page(args.out, read_searched(args.out))
    print(f"wrote {args.out / PAGE}", flush=True)
    if failed:
        raise SweepFailed("\n".join([f"{len(failed)} of {len(chosen)} searches failed:", *failed]))


def _searched(part: Part, args: argparse.Namespace) -> Searched:
    """Search until the time is over, and return what was found.

    `sweep.py` runs in this process: if this one is killed, no search is left behind that would
    keep the next one out.

    Raises:
        SweepFailed: a training failed, or the search ended before its time.
    """
    search, seed = part
    parent = args.directory / f"{search}-seed_{seed}"
    check_folder(parent, part, args.minutes)
    content = params_of(seed)
    write_params(Child(Experiment(parent), content, check_params(content, parent / "params.json")))
    try:
        sweep.main(command_of(part, parent, args.minutes, args.data_dir))
    except SweepFailed as error:
        # That nothing has finished in this time is a result.
        print(error, flush=True)
    except SystemExit:  # by a signal
        print("to go on with all searches: the same command as before", flush=True)
        raise
    record = read_record(parent)
    assert record is not None
    failed = [one for one in record.trials if one.status == Status.FAILED]
    if failed:
        raise SweepFailed(
            f"{parent}: {failed[0].name} failed, so the budget is not that of the others; remove "
            f"this folder: {failed[0].reason}"
        )
    size = math.prod(len(grid.split(",")) for _, grid in RANGES.values())
    is_whole_grid = search == "grid" and len(record.trials) == size
    if record.seconds < 60 * args.minutes and not is_whole_grid:
        raise SweepFailed(f"{parent}: ended after {record.seconds / 60:.1f} minutes")
    return Searched(
        search=search,
        seed=seed,
        protocol=protocol_of(args.minutes),
        minutes=args.minutes,
        record=record,
        machine=f"{machine()}; tensorflow {version_of('tensorflow')}",
        date=str(datetime.date.today()),
    )


def command_of(part: Part, parent: Path, minutes: float, data_dir: Path) -> list[str]:
    """Return what `sweep.py` is given for a search in the directory `parent`."""
    search = part[0]
    command = ["--parent_dir", str(parent), "--data_dir", str(data_dir)]
    command += ["--search", search, "--prune", SEARCHES[search], "--minutes", f"{minutes:g}"]
    for key, (drawn, grid) in RANGES.items():
        command += ["--param", f"{key}={grid if search == 'grid' else drawn}"]
    return command


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = program_parser(
        "Compare grid search, random search and TPE with pruning on an equal budget of time.",
        _EXAMPLES,
        prog="python -m benchmarks.searching",
    )
    parser.add_argument(
        "--searches",
        nargs="+",
        choices=SEARCHES,
        default=list(SEARCHES),
        metavar="NAME",
        help=f"{', '.join(SEARCHES)} (default: all)",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        choices=SEEDS,
        default=list(SEEDS),
        metavar="N",
        help=f"{', '.join(map(str, SEEDS))} (default: all)",
    )
    parser.add_argument(
        "--minutes",
        type=positive_number,
        default=MINUTES,
        metavar="N",
        help="for each search (default: %(default)s)",
    )
    add_folders(parser, "search_study", RESULTS)
    add_data_dir(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
