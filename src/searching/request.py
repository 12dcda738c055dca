"""What a user asks of a search, and the checks before anything is written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.params.reading import check_params, read_json_object
from src.printable import printable
from src.searching.goal import Goal
from src.searching.record import WINNER_DIR
from src.sweeping.content import one_deeper, with_values
from src.sweeping.plan import MAX_CHILDREN, Child, check_data
from src.sweeping.space import Dimension, Range

_MAX_CHECKED = 64  # values of a key whose data are checked before anything runs


@dataclass(frozen=True)
class Request:
    """A search to be done.

    Attributes:
        parent_dir: the directory with the params that all trials start from.
        space: what is searched, by key.
        goal: what the user wants.
        num_seeds: the number of trainings of each of the best.
        data_dir: the folder of all datasets.
        keeps_splits: whether to accept data that have changed since a training began.
        cancels: whether Ctrl-C stops trainings; None if the launcher decides.
    """

    parent_dir: Path
    space: Mapping[str, Dimension]
    goal: Goal
    num_seeds: int
    data_dir: Path
    keeps_splits: bool = False
    cancels: bool | None = None


def check_space(request: Request) -> Mapping[str, Any]:
    """Check what is searched; write nothing.

    Returns:
        The content of the parent's `params.json`, as a child needs it.

    Raises:
        UserError: the params of the parent, a choice, or an end of a range have errors.
    """
    path = Experiment(request.parent_dir).params_path
    content = read_json_object(path)
    check_params(content, path)
    space = request.space
    if not space:
        raise UserError("--search: found nothing to search; accepted: --param KEY=LOW..HIGH, ...")
    if "seed" in space:
        raise UserError(
            "--param seed: found with --search; accepted: --seeds N, which trains the best again"
        )
    parent = one_deeper(content)
    count = 1
    for key, dimension in space.items():
        values = [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension
        errors: dict[str, None] = {}
        for value in values:
            try:
                check_params(with_values(parent, {key: value}), Path(key))
            except UserError as error:
                lines = str(error).split("\n")
                others = space.keys() - {key}
                errors |= dict.fromkeys(one for one in lines if not _is_of_others(one, others))
        if errors:
            raise UserError("\n".join(f"--param {printable(line)}" for line in errors))
        if request.goal.search == "grid":
            num = len(dimension.values(key) if isinstance(dimension, Range) else dimension)
            count *= num
            if count > MAX_CHILDREN:
                raise UserError(
                    f"--search grid: found more than {MAX_CHILDREN:,} combinations; accepted: at "
                    f"most {MAX_CHILDREN:,}, or --search random or tpe"
                )
    _check_no_best(request.parent_dir)
    return parent


def _is_of_others(line: str, others: Iterable[str]) -> bool:
    """Return whether an error may be right with another value of another key."""
    return any(other.partition(".")[0] in line for other in others)


def check_all_data(request: Request, parent: Mapping[str, Any]) -> None:
    """Check the data that trials read, with each choice and each end of a range."""
    children = []
    for key, dimension in request.space.items():
        values = [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension
        for value in values[:_MAX_CHECKED]:
            content = with_values(parent, {key: value})
            try:
                params = check_params(content, Path(key))
            except UserError:  # right only with another value of another key
                continue
            experiment = Experiment(request.parent_dir / "none")
            children.append(Child(experiment, content, params))
    try:
        check_data(children, request.data_dir, afresh=True, keeps_splits=request.keeps_splits)
    except UserError as error:
        lines = [line.removeprefix("none: ") for line in str(error).split("\n")]
        raise UserError("\n".join(lines)) from None


def _check_no_best(parent_dir: Path) -> None:
    """Refuse a parent that was trained itself: its best checkpoint is where the winner will be.

    Raises:
        UserError: it was.
    """
    if (parent_dir / WINNER_DIR / "best.json").exists():
        raise UserError(
            f"{parent_dir}: trained itself, and its folder {WINNER_DIR} has a checkpoint; "
            "accepted: a directory with a params.json that is not trained, such as a copy"
        )
