"""A search from its beginning, or from where it was interrupted, to its winner."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.errors import SweepFailed, UserError
from src.experiment.status import Status
from src.params.reading import check_params
from src.params.schema import Params
from src.searching.child import child_of
from src.searching.comparable import check_comparable
from src.searching.director import Director
from src.searching.ending import trial_name
from src.searching.goal import Goal
from src.searching.record import SearchRecord, range_of, read_record
from src.searching.request import Request, check_all_data, check_space
from src.searching.study import JOURNAL_FILE, Study
from src.searching.winner import choose, finalists, finished_trials, how_found, write_winner
from src.sweeping.job import Job, Outcome
from src.sweeping.launchers import Launcher
from src.sweeping.plan import Child, write_params
from src.sweeping.run_jobs import run_jobs
from src.system.lock import InUse, one_writer


def search(
    request: Request, launcher: Launcher, make_job: Callable[[Child], Job]
) -> tuple[Outcome, Sequence[Path]]:
    """Search, train the best again, and write the winner.

    Returns:
        How the run ended, and the directories of all experiments that have been begun.

    Raises:
        SweepFailed: no training has finished.
        UserError: something the user gave is wrong, or another search runs there.
    """
    parent = check_space(request)
    parent_dir, goal = request.parent_dir, request.goal
    seed = check_params(parent, parent_dir / "params.json").seed
    try:
        with one_writer(parent_dir):
            launcher.check()
            is_new = not (parent_dir / JOURNAL_FILE).exists()
            if is_new:  # a refused search leaves no study behind, to which the next were bound
                check_all_data(request, parent)
            study = Study(
                parent_dir,
                request.space,
                search=goal.search,
                metric=goal.metric,
                is_higher_better=goal.is_higher_better,
                seed=seed,
                num_trials=goal.num_trials,
            )
            if not is_new:
                _check_all(request, parent, study)
            before = read_record(parent_dir)
            record = SearchRecord(
                search=goal.search,  # type: ignore[arg-type]
                prune="median" if goal.prunes else "none",
                metric=goal.metric,
                is_higher_better=goal.is_higher_better,
                seconds=before.seconds if before else 0.0,
                space={key: range_of(dimension) for key, dimension in request.space.items()},
            )
            director = Director(
                parent_dir, parent, study, request.space, goal, seed, make_job, record
            )
            return _run(request, launcher, director)
    except InUse as error:
        raise UserError(
            f"{parent_dir}: in use by {error.holder}; accepted: one search at a time"
        ) from None


def _check_all(request: Request, parent: Mapping[str, Any], study: Study) -> None:
    """Check the data, and whether the trainings of earlier runs can be compared with new ones."""
    begun = [
        child_of(request.parent_dir, parent, trial)
        for trial in study.trials()
        if (request.parent_dir / trial_name(trial.number)).exists()
    ]
    check_comparable(begun)
    check_all_data(request, parent, begun)


def _run(
    request: Request, launcher: Launcher, director: Director
) -> tuple[Outcome, Sequence[Path]]:
    """Run the trials, then the best with other seeds; print what is found."""
    goal, parent_dir = request.goal, request.parent_dir
    for note in misleading(check_params(director.parent, parent_dir / "params.json"), goal):
        print(f"--prune median: {note}: early values may mislead", flush=True)
    trials = director.study.trials()
    minutes = director.minutes_left
    left = "" if minutes is None else f", {minutes:.1f} minutes left"
    of = "" if goal.num_trials is None else f" of {goal.num_trials}"
    running = sum(one.status == Status.RUNNING for one in trials)
    print(
        f"{parent_dir}: {goal.search}, {director.num_ended}{of} trials have ended, {running} to "
        f"resume{left}, {launcher.at_once} at once",
        flush=True,
    )
    outcome = run_jobs(
        [], launcher, num_done=director.num_ended, cancels=request.cancels, source=director
    )
    seconds = director.seconds
    director.save()
    if outcome.stopped_by:
        return outcome, _begun(director)
    finished = finished_trials(director.study.trials(), director.child, goal, parent_dir)
    best = finalists(finished, goal, director.parent, request.num_seeds)
    if not best:
        raise SweepFailed(_why_nothing(director))
    again = [child for one in best for child in one.others]
    check_comparable(again)
    to_run = [child for child in again if child.status == Status.TO_RUN]
    if to_run:
        names = ", ".join(one.name for one in best)
        print(f"the best, with {request.num_seeds} seeds each: {names}", flush=True)
        for child in to_run:
            write_params(child)
        jobs = [director.make_job(child) for child in to_run]
        done = len(again) - len(to_run)
        outcome = run_jobs(jobs, launcher, num_done=done, cancels=request.cancels)
    _conclude(director, best, seconds, outcome)
    return outcome, [*_begun(director), *(child.experiment.model_dir for child in again)]


def misleading(params: Params, goal: Goal) -> list[str]:
    """Return which params make early values poor predictors of late ones, if these are pruned."""
    if not goal.prunes:
        return []
    found = {
        f"learning_rate_schedule is {params.learning_rate_schedule}": (
            params.learning_rate_schedule != "constant"
        ),
        f"learning_rate_warmup_steps is {params.learning_rate_warmup_steps}": (
            params.learning_rate_warmup_steps > 0
        ),
        f"warmup_strategy is {params.warmup_strategy}": params.warmup_strategy is not None,
    }
    return [note for note, is_so in found.items() if is_so]


def _conclude(director: Director, best: Sequence[Any], seconds: float, outcome: Outcome) -> None:
    """Write and print the winner, unless its trainings were stopped."""
    changes: dict[str, Any] = {
        "seconds": round(seconds, 1),  # trainings with other seeds do not count
        "importances": director.study.importances(),
    }
    winner = None if outcome.stopped_by else choose(best, director.goal)
    lost = [
        f"  {child.name}: {outcome.failed.get(child.name, child.status)}"
        for one in best
        for child in one.others
        if child.status != Status.FINISHED
    ]
    if winner is not None:
        num_trials = len(director.study.trials())
        line = how_found(winner, director.goal, num_trials, seconds / 60)
        written = write_winner(director.parent_dir, winner, line)
        changes["winner"] = winner.finalist.name
        print(f"\nwinner: {line}\n{written}", flush=True)
        if lost:
            print("\n".join(["not considered, as not all seeds have finished:", *lost]), flush=True)
    director.save(**changes)
    if winner is None and not outcome.stopped_by:
        raise SweepFailed("\n".join(["none of the best has finished with all seeds:", *lost]))


def _begun(director: Director) -> list[Path]:
    """Return the directories of all trials that have one."""
    paths = [
        director.child(trial).experiment.model_dir
        for trial in director.study.trials()
        if trial.status != Status.FAILED
    ]
    return [path for path in paths if path.is_dir()]


def _why_nothing(director: Director) -> str:
    """Return that no training has finished, with what the last ones say."""
    trials = director.study.trials()
    ends = [
        f"{trial_name(one.number)}: "
        + ("not finished" if one.status == Status.RUNNING else f"{one.status} {one.reason}")
        for one in trials[-5:]
    ]
    lines = [f"  {end}".rstrip() for end in ends]
    return "\n".join([f"none of {len(trials)} trials has finished", *lines])
