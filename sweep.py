"""Train an experiment with many params: `python sweep.py --parent_dir DIR --param margin=0.5,1`."""

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()  # before imports that take long

import argparse
import shlex
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from src.comparing.comparison import compare
from src.comparing.formats import for_console
from src.comparing.results import read_result
from src.errors import SweepFailed, UserError
from src.experiment.status import Status
from src.printable import printable
from src.registry import LAUNCHERS, look_up
from src.searching.arguments import PARAMS, add_search, refuse_without_search
from src.searching.goal import DEFAULT_METRIC, make_goal
from src.searching.request import Request, check_space
from src.sweeping.job import Job
from src.sweeping.launchers import DEFAULT, Launcher, Settings
from src.sweeping.plan import (
    Child,
    check_data,
    check_unchanged,
    plan,
    under_other_names,
    write_params,
)
from src.sweeping.run_jobs import run_jobs
from src.sweeping.space import parse_dimension, parse_param
from src.system.cli import (
    positive_int,
    positive_number,
    print_warnings,
    program_parser,
    run,
)
from src.system.lock import one_writer

USAGE = "sweep.py --parent_dir DIR --param KEY=VALUES ... [options]"

EXAMPLES = """\
  python sweep.py --parent_dir experiments/margins --param margin=0.5,1 --seeds 3
  python sweep.py --parent_dir experiments/margins --param 'augment={},{"shift": 2}'
  python sweep.py --parent_dir experiments/search --search tpe --trials 40 \\
      --param margin=0.05..1:log --prune median --launcher slurm --jobs 8"""

_CANCELS = {None: None, "cancel": True, "leave": False}


def main(argv: Sequence[str] | None = None) -> None:
    """Create the experiments, train the unfinished ones, and compare all of them."""
    args = _arguments(argv)
    if args.search:
        _search(args, argv)
        return
    refuse_without_search(args)
    children = _plan(args)
    # train.py itself checks whether the data have changed; --keep_splits accepts changed data.
    runs_all = args.overwrite or args.keep_splits
    statuses = {child.name: Status.TO_RUN if runs_all else child.status for child in children}
    to_run = [child for child in children if statuses[child.name] == Status.TO_RUN]
    options = ["--keep_splits"] if args.keep_splits else []
    jobs = [_job(child, args.data_dir, options) for child in to_run]
    launcher = _launcher(args, len(jobs))
    num_ended = len(children) - len(to_run)
    print(
        f"{args.parent_dir}: {len(children)} in the sweep, {num_ended} already trained, "
        f"{len(to_run)} to run, {launcher.at_once or 'all'} at once",
        flush=True,
    )
    if args.dry_run:
        for child in children:
            print(f"{statuses[child.name]:8}  {child.name}")
        for job in jobs:
            print(shlex.join(launcher.command(job)))
        return

    if jobs:
        launcher.check()
    _prepare(children, to_run, args)
    cancels = _CANCELS[args.on_interrupt]
    outcome = run_jobs(jobs, launcher, num_done=num_ended, cancels=cancels)
    if outcome.stopped_by:
        _exit_stopped(outcome.stopped_by, argv)

    print()
    results = [read_result(child.experiment.model_dir) for child in children]
    print(for_console(compare(results)), flush=True)
    failed = {
        name: f"{status} in an earlier run, not run again ({args.parent_dir / name})"
        for name, status in statuses.items()
        if status not in (Status.FINISHED, Status.TO_RUN)
    } | outcome.failed
    if failed:
        raise SweepFailed(
            f"{len(failed)} of {len(children)} failed:\n"
            + "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        )


def _exit_stopped(by: signal.Signals, argv: Sequence[str] | None) -> NoReturn:
    """Print how to resume, and exit as a program does that the signal has ended."""
    again = [word for word in (sys.argv[1:] if argv is None else argv) if word != "--overwrite"]
    print(f"stopped by {by.name}; to resume: {shlex.join(['python', 'sweep.py', *again])}")
    sys.exit(128 + by)


def _search(args: argparse.Namespace, argv: Sequence[str] | None) -> None:
    """Propose params one training after the other, and compare what was trained."""
    if args.overwrite:
        raise UserError(
            "--overwrite: found with --search; accepted: another --parent_dir, or remove "
            "trial_*, search.journal and search.json there"
        )
    prune, metric = args.prune or "none", args.metric or DEFAULT_METRIC
    goal = make_goal(args.search, metric, prune, args.trials, args.minutes)
    dimensions = [parse_dimension(text) for text in args.param]
    cancels = _CANCELS[args.on_interrupt]
    request = Request(
        args.parent_dir,
        _without_repeats(dimensions),
        goal,
        args.seeds or 1,
        args.data_dir,
        args.keep_splits,
        cancels,
    )
    check_space(request)
    launcher = _launcher(args, args.jobs or 1)
    if launcher.at_once is None:
        raise UserError(
            f"--jobs: found none with --search and --launcher {args.launcher}; accepted: how many "
            "trainings to propose before the first has ended"
        )
    options = ["--keep_splits"] if args.keep_splits else []
    if args.dry_run:
        for key, dimension in dimensions:
            print(f"{key}: {dimension}")
        print(goal)
        return
    from src.searching.search import search  # imports Optuna, which takes a while

    outcome, model_dirs = search(
        request, launcher, lambda child: _job(child, args.data_dir, options)
    )
    if outcome.stopped_by:
        _exit_stopped(outcome.stopped_by, argv)
    print()
    results = [read_result(model_dir) for model_dir in model_dirs]
    print(for_console(compare(results, sort=goal.metric)), flush=True)


def _without_repeats(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a dict; refuse a key that occurs twice, or is inside another one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise UserError("--param: found a key twice; accepted: each key once")
    for key in found:  # the later of both would replace the other one's values
        parts = key.split(".")
        outer = next((o for n in range(1, len(parts)) if (o := ".".join(parts[:n])) in found), None)
        if outer is not None:
            raise UserError(
                f"--param {printable(key)}: found --param {printable(outer)} as well; accepted: "
                "one of them"
            )
    return found


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = program_parser(
        "Train an experiment with all combinations of some params (a grid), or search for\n"
        "good ones. Each training has its own directory in DIR.\n"
        "To resume: the same command, without --overwrite.",
        f"{EXAMPLES}\n\n{PARAMS}",
    )
    parser.usage = USAGE
    parser.add_argument(
        "--parent_dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="the directory with the params.json to start from",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="values or a range of a param (see below); may be repeated",
    )
    parser.add_argument(
        "--seeds",
        type=positive_int,
        metavar="N",
        help="seeds of each combination, or of a search's 3 best",
    )
    parser.add_argument(
        "--jobs",
        type=positive_int,
        metavar="N",
        help="trainings at once (default: 1; on a cluster all, but a search must say)",
    )
    add_search(parser)
    _add_launchers(parser)
    _add_data(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="print what would run, and do nothing"
    )
    return parser.parse_args(argv)


def _add_data(parser: argparse.ArgumentParser) -> None:
    """Add the arguments about data, and about what earlier runs have trained."""
    parser.add_argument(
        "--data_dir",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="the folder of all datasets (default: data)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="train everything anew, also what is finished",
    )
    parser.add_argument(
        "--keep_splits",
        action="store_true",
        help="accept changed data: known images keep their splits",
    )


def _add_launchers(parser: argparse.ArgumentParser) -> None:
    """Add the arguments about where trainings run; each launcher but the default has options."""
    parser.add_argument(
        "--launcher",
        choices=sorted(LAUNCHERS),
        default=DEFAULT,
        metavar="WHERE",
        help=f"{' or '.join(sorted(LAUNCHERS))} (default: {DEFAULT}, on this machine)",
    )
    for name in sorted(LAUNCHERS.keys() - {DEFAULT}):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help=f"options of {name}'s jobs: partition=gpu,gres=gpu:1",
        )
    parser.add_argument(
        "--job_minutes",
        type=positive_number,
        metavar="M",
        help="stop a local training after M minutes; resumable",
    )
    parser.add_argument(
        "--on_interrupt",
        choices=("leave", "cancel"),
        metavar="WHAT",
        help="Ctrl-C's effect: cancel, or leave (default on a cluster)",
    )


def _launcher(args: argparse.Namespace, num_jobs: int) -> Launcher:
    """Return what runs the trainings."""
    for name in LAUNCHERS.keys() - {DEFAULT, args.launcher}:
        if getattr(args, name):
            raise UserError(
                f"--{name}: found --launcher {args.launcher}; accepted: --launcher {name}"
            )
    options = getattr(args, args.launcher, ())
    at_once = args.jobs and min(args.jobs, max(num_jobs, 1))  # the cores are divided by so many
    settings = Settings(at_once, args.job_minutes, options)
    launcher: Launcher = look_up(LAUNCHERS, args.launcher)(settings)
    return launcher


def _plan(args: argparse.Namespace) -> list[Child]:
    """Return the experiments of the sweep; write nothing."""
    swept = _without_repeats([parse_param(text) for text in args.param])
    children = plan(args.parent_dir, swept, args.seeds)
    if not args.overwrite:
        children = under_other_names(children, args.parent_dir)
        check_unchanged(children)
    return children


def _prepare(children: Sequence[Child], to_run: Sequence[Child], args: argparse.Namespace) -> None:
    """Check the data of all children, then make the directories of those to run."""
    if args.overwrite:
        _check_not_training(to_run)  # check now, because reading the data may take long
    check_data(children, args.data_dir, afresh=args.overwrite, keeps_splits=args.keep_splits)
    if args.overwrite:  # all at once, so that after an interruption finished ones are of this run
        _check_not_training(to_run)
        for child in to_run:
            with one_writer(child.experiment.model_dir):
                print_warnings(child.experiment.overwrite())
    for child in to_run:
        write_params(child)


def _check_not_training(children: Iterable[Child]) -> None:
    """Refuse to remove anything while a child is being trained.

    Children are checked one by one, because a process may not be allowed to hold so many locks.

    Raises:
        UserError: a child is being trained.
    """
    for child in children:
        if child.experiment.model_dir.exists():
            with one_writer(child.experiment.model_dir):
                pass


def _job(child: Child, data_dir: Path, options: Sequence[str]) -> Job:
    """Return the training of a child, with this Python and the `train.py` beside this file.

    Args:
        child: the child to train.
        data_dir: the folder of all datasets.
        options: other arguments of `train.py`.
    """
    model_dir = child.experiment.model_dir
    command = [sys.executable, str(Path(__file__).with_name("train.py"))]
    command += ["--model_dir", str(model_dir), "--data_dir", str(data_dir), *options]

    def status() -> str:
        found = child.status
        if found in (Status.FINISHED, Status.TO_RUN):
            return found
        return f"{found}, not run again ({model_dir})"

    return Job(child.experiment, command, model_dir / "train.log", status)


if __name__ == "__main__":
    run(main)
