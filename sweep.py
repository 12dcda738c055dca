"""Train an experiment with many params: `python sweep.py --parent_dir DIR --param margin=0.5,1`."""

from src.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before anything that takes long to import

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from src.cli import add_data_dir, positive_int, program_parser, run
from src.comparison import compare
from src.comparison_formats import for_console
from src.errors import SweepFailed, UserError
from src.jobs import Job, run_jobs
from src.lock import one_writer
from src.results import read_result
from src.split import load_splits
from src.sweep import Child, check_unchanged, parse_param, plan, write_params
from src.weights import find_weights

EXAMPLES = """\
  python sweep.py --parent_dir experiments/margins --param margin=0.5,1,3
  python sweep.py --parent_dir experiments/margins --param margin=0.5,1,soft \\
      --param triplet_strategy=batch_hard --param l2_normalize=true,false --seeds 3 --jobs 2
  python sweep.py --parent_dir experiments/margins --param 'augment={},{"shift": 2}' --dry_run"""


def main(argv: Sequence[str] | None = None) -> None:
    """Make the experiments, train those that are not finished, and compare them all."""
    parser = program_parser(
        "Train an experiment with every combination of some params, each in a directory of its own "
        "below it. Finished ones are not run again: the same command goes on after an interrupt.",
        EXAMPLES,
    )
    parser.add_argument(
        "--parent_dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="a directory with the params.json that all of them are made from",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="KEY=VALUE,...",
        help="values of a param, as in params.json, text without quotes; can be given for "
        "several params",
    )
    parser.add_argument(
        "--seeds",
        type=positive_int,
        metavar="N",
        help="train each with N seeds, the parent's first",
    )
    parser.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        metavar="N",
        help="how many to train at once, the processor's cores divided among them (default: 1)",
    )
    add_data_dir(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="start all of them afresh, finished ones too"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="print what would be run, and do nothing"
    )
    args = parser.parse_args(argv)

    swept = [parse_param(text) for text in args.param]
    if len({key for key, _ in swept}) < len(swept):
        raise UserError("--param: found a key twice; accepted: each key once")
    children = plan(args.parent_dir, dict(swept), args.seeds)
    if not args.overwrite:
        check_unchanged(children)
    statuses = {c.name: "to run" if args.overwrite else c.status for c in children}
    to_run = [child for child in children if statuses[child.name] == "to run"]
    jobs = [_job(child, args.data_dir) for child in to_run]
    num_ended = len(children) - len(to_run)
    print(
        f"{args.parent_dir}: {len(children)} in the sweep, {num_ended} trained before, "
        f"{len(to_run)} to run, {args.jobs} at once",
        flush=True,
    )
    if args.dry_run:
        for child in children:
            print(f"{statuses[child.name]:8}  {child.name}")
        for job in jobs:
            print(shlex.join(job.command))
        return

    if args.overwrite:  # all now: after an interruption, what is finished is of this run
        with ExitStack() as locks:
            for child in to_run:  # nothing of any is removed while a training goes on in one
                locks.enter_context(one_writer(child.experiment.model_dir))
            _check_data(to_run, args.data_dir)  # nor while there is nothing to train on
            for child in to_run:
                child.experiment.overwrite()
    for child in to_run:
        write_params(child)
    outcome = run_jobs(jobs, at_once=args.jobs, num_done=num_ended)
    if outcome.stopped_by:
        again = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--overwrite"]
        print(
            f"stopped by {outcome.stopped_by.name}; to go on: "
            f"{shlex.join(['python', 'sweep.py', *again])}"
        )
        sys.exit(128 + outcome.stopped_by)

    print()
    results = [read_result(child.experiment.model_dir) for child in children]
    print(for_console(compare(results)), flush=True)
    failed = {
        name: f"{status} in an earlier run, not run again ({args.parent_dir / name})"
        for name, status in statuses.items()
        if status not in ("finished", "to run")
    } | outcome.failed
    if failed:
        raise SweepFailed(
            f"{len(failed)} of {len(children)} failed:\n"
            + "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        )


def _check_data(children: Sequence[Child], data_dir: Path) -> None:
    """Load every dataset, and find every file of weights, that trainings will ask for.

    Raises:
        UserError: one cannot be read.
    """
    for child in {child.params.dataset: child for child in children}.values():
        load_splits(child.params, data_dir)
    for weights in {child.params.weights for child in children}:
        find_weights(weights, data_dir)


def _job(child: Child, data_dir: Path) -> Job:
    """Return the training of a child, by this Python and the `train.py` beside this file."""
    model_dir = child.experiment.model_dir
    command = [sys.executable, str(Path(__file__).with_name("train.py"))]
    command += ["--model_dir", str(model_dir), "--data_dir", str(data_dir)]
    return Job(child.experiment, command, model_dir / "train.log")


if __name__ == "__main__":
    run(main)
