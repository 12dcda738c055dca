"""A reality check of the triplet strategies (arXiv:2003.08505): `python -m benchmarks.reality`.

Each strategy gets the same network, batches and search on each of four data sets. What the searches
find is trained with other seeds and measured on images that no search has read. Killed or
interrupted, the same command goes on. It writes docs/reality-check.md, .png and .json.
"""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sweep
from benchmarks.harness import machine, version_of
from benchmarks.reality_page import PAGE, write_page
from benchmarks.reality_protocol import (
    FINAL_SEEDS,
    PARTS,
    RESULTS,
    SEARCH_SEED,
    STRATEGIES,
    TASKS,
    TRIALS,
    Part,
    Row,
    check_rows,
    complete,
    params_of,
    protocol_of,
    ranges_of,
    read_rows,
    write_rows,
)
from benchmarks.results_page import add_folders
from src.comparing.results import Result, read_result
from src.errors import SweepFailed, UserError
from src.experiment.experiment import Experiment
from src.experiment.status import Status
from src.params.reading import check_params
from src.searching.record import SearchRecord, read_record
from src.sweeping.plan import Child, check_data, write_params
from src.system.cli import add_data_dir, positive_int, program_parser, run
from src.system.lock import one_writer

_EXAMPLES = """\
  python -m benchmarks.reality --datasets orl_unseen --strategies batch_all multi_similarity
  python -m benchmarks.reality --trials 2 --directory rehearsal/trainings --out rehearsal"""

_ENDED = (Status.FINISHED, Status.DIVERGED, Status.COLLAPSED)
"""What is a result. Anything else, such as a full disk, is run again by the same command."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the parts that the results do not have, and write the page."""
    args = _arguments(argv)
    chosen = [part for part in PARTS if part[0] in args.datasets and part[1] in args.strategies]
    rows = read_rows(args.out)
    replaced = chosen if args.again else []
    check_rows([row for row in rows if row.part not in replaced], args.trials, args.out)
    done = complete(rows)
    missing = [part for part in chosen if part not in done]
    to_run = [] if args.page_only else replaced or missing
    print(
        f"{args.out / RESULTS}: {len(chosen) - len(missing)} of {len(chosen)} parts are there, "
        f"{len(to_run)} to run, each {args.trials} + {len(FINAL_SEEDS)} trainings",
        flush=True,
    )
    failed = {}
    if to_run:
        with one_writer(args.directory):
            failed = _measure_all(to_run, args)
    write_page(args.out, read_rows(args.out))
    print(f"wrote {args.out / PAGE}", flush=True)
    if failed:
        lines = [f"  {task} with {one}: {reason}" for (task, one), reason in failed.items()]
        raise SweepFailed("\n".join([f"{len(failed)} of {len(to_run)} parts failed:", *lines]))


def _measure_all(parts: Sequence[Part], args: argparse.Namespace) -> dict[Part, str]:
    """Measure parts, and write the results and the page after each; return why some failed.

    Raises:
        UserError: data are missing or wrong, or a folder has something else.
    """
    _check_data(parts, args.directory, args.data_dir)
    failed = {}
    for number, part in enumerate(parts, start=1):
        print(f"\n{part[0]} with {part[1]} ({number} of {len(parts)})", flush=True)
        try:
            found = _measure(part, args)
        except SweepFailed as error:
            print(f"failed: {error}", flush=True)
            failed[part] = str(error).split("\n")[0]
            continue
        kept = [row for row in read_rows(args.out) if row.part != part]
        write_rows(args.out, [*kept, *found])
        write_page(args.out, read_rows(args.out))
    return failed


def _measure(part: Part, args: argparse.Namespace) -> list[Row]:
    """Search, train what was found with the final seeds, and return these trainings.

    `sweep.py` runs in this process: if this one is killed, no search is left behind that would
    keep the next one out. A training that is left behind is waited for.

    Raises:
        SweepFailed: no training of the search has finished, or one of them or a final one failed.
        UserError: the search there has had more trials.
    """
    folder = args.directory / part[0] / f"{part[1]}-{protocol_of(part)}"
    content = {**params_of(part), "seed": SEARCH_SEED}
    search = _child(folder / "search", content)
    _check_budget(search, args.trials)
    searched = [f"{key}={text}" for key, text in ranges_of(part).items()]
    _sweep(search, args, searched, ["--search", "tpe", "--trials", str(args.trials)])
    record = read_record(search.experiment.model_dir)
    assert record is not None
    failed = [one for one in record.trials if one.status == Status.FAILED]
    if failed:
        raise SweepFailed(
            f"{search.experiment.model_dir}: {len(failed)} of {len(record.trials)} trials "
            "failed, so its budget is not that of the others; remove this folder: "
            f"{failed[0].reason}"
        )
    winner = next(one for one in record.trials if one.name == record.winner)
    # Named after the trial: a search that goes on with more trials may find another one.
    final = _child(folder / f"final_{winner.name}", {**content, **winner.values})
    seeds = ",".join(map(str, FINAL_SEEDS))
    failure = ""
    try:
        _sweep(final, args, [f"seed={seeds}"])
    except SweepFailed as error:  # one that has diverged is a result
        failure = str(error)
    final_dir = final.experiment.model_dir
    results = {seed: read_result(final_dir / f"seed_{seed}") for seed in FINAL_SEEDS}
    if any(result.status not in _ENDED for result in results.values()):
        raise SweepFailed(f"{final_dir}: {failure}")
    return [_row(part, seed, one, record, args.trials) for seed, one in results.items()]


def _child(folder: Path, content: dict[str, Any]) -> Child:
    return Child(Experiment(folder), content, check_params(content, folder / "params.json"))


def _sweep(
    parent: Child, args: argparse.Namespace, searched: Sequence[str], options: Sequence[str] = ()
) -> None:
    """Write the parent's params and run `sweep.py` on it, in this process."""
    write_params(parent)
    command = ["--parent_dir", str(parent.experiment.model_dir), "--data_dir", str(args.data_dir)]
    command += [*options, *(word for text in searched for word in ("--param", text))]
    try:
        sweep.main(command)
    except SystemExit:  # by a signal
        print("to go on with all parts: the same command as before", flush=True)
        raise


def _check_budget(search: Child, trials: int) -> None:
    """Refuse a search that has had more trials than the command allows.

    Raises:
        UserError: it has.
    """
    folder = search.experiment.model_dir
    record = read_record(folder)
    if record is not None and len(record.trials) > trials:
        raise UserError(
            f"{folder}: found a search of {len(record.trials)} trials; accepted: at most {trials}, "
            "or another --directory"
        )


def _row(part: Part, seed: int, result: Result, search: SearchRecord, trials: int) -> Row:
    """Return what the results keep of a final training."""
    winner = next(one for one in search.trials if one.name == search.winner)
    split, metrics = TASKS[part[0]].split, result.metrics
    return Row(
        dataset=part[0],
        strategy=part[1],
        seed=seed,
        protocol=protocol_of(part),
        trials=trials,
        found=winner.values,
        status=result.status,
        map_at_r=metrics.get(f"{split}.map_at_r_within"),
        recall_at_1=metrics.get(f"{split}.recall_at_1_within"),
        validation=metrics.get("validation.map_at_r_within"),
        raw_pixels=metrics.get(f"baselines.raw_pixels.{split}.map_at_r_within"),
        untrained=metrics.get(f"baselines.untrained.{split}.map_at_r_within"),
        seconds=metrics.get("seconds"),
        search_seconds=search.seconds,
        machine=f"{machine()}; tensorflow {version_of('tensorflow')}",
        date=str(datetime.date.today()),
    )


def _check_data(parts: Sequence[Part], directory: Path, data_dir: Path) -> None:
    """Check the data of all parts before the first is measured, which takes long.

    Raises:
        UserError: data are missing or wrong; a line for each data set.
    """
    first = {part[0]: part for part in reversed(parts)}
    children = [_child(directory / task, params_of(part)) for task, part in first.items()]
    check_data(children, data_dir, afresh=True, keeps_splits=False)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = program_parser(
        "Search params of each triplet strategy on each data set, and compare what is found.",
        _EXAMPLES,
        prog="python -m benchmarks.reality",
    )
    parser.add_argument(
        "--datasets",
        nargs="+",
        choices=TASKS,
        default=list(TASKS),
        metavar="NAME",
        help=f"{', '.join(TASKS)} (default: all)",
    )
    parser.add_argument(
        "--strategies",
        nargs="+",
        choices=STRATEGIES,
        default=list(STRATEGIES),
        metavar="NAME",
        help=f"{', '.join(STRATEGIES)} (default: all)",
    )
    parser.add_argument(
        "--trials",
        type=positive_int,
        default=TRIALS,
        metavar="N",
        help="trainings of each search (default: %(default)s)",
    )
    add_folders(parser, "reality_check", RESULTS)
    add_data_dir(parser)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--again",
        action="store_true",
        help="also run parts that the results have; what --directory has trained counts",
    )
    what.add_argument(
        "--page_only", action="store_true", help="write the page of the results; train nothing"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main)
