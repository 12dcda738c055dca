"""What a user asks of a search, and the checks before anything is written."""

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.experiment.experiment import Experiment
from src.experiment.facts import check_without_data
from src.params.messages import MAX_LINES
from src.params.reading import check_params, read_json_object
from src.params.schema import Params
from src.printable import printable
from src.searching.comparable import in_search
from src.searching.goal import Goal
from src.searching.record import WINNER_DIR
from src.sweeping.content import one_deeper, with_values
from src.sweeping.plan import DATA_KEYS, MAX_CHILDREN, Child, check_data
from src.sweeping.space import Dimension, Range

_MAX_CHECKED = 64  # values of a key whose data are checked before anything runs
_MAX_BEGUN = 8  # trainings of earlier runs, unless they share the data of these values
_MAX_TRIED = 200  # combinations of the other keys' values, for one that is wrong with the parent's


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
    _check_seeds(content, check_params(content, path).seed, request.num_seeds)
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
        errors: dict[str, None] = {}
        for value in _ends(dimension):
            try:
                _checked(with_values(parent, {key: value}), Path(key))
            except UserError as error:
                if not _is_right_with_others(parent, space, key, value):
                    errors |= dict.fromkeys(str(error).split("\n"))
            if len(errors) >= MAX_LINES:
                break
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


def _checked(content: Mapping[str, Any], path: Path) -> Params:
    """Return the params of a trial; refuse what contradicts itself."""
    params = check_params(content, path)
    check_without_data(params, path)
    return params


def _check_seeds(content: Mapping[str, Any], seed: int, num_seeds: int) -> None:
    """Refuse more seeds than there are from the parent's on: the last are needed at the end."""
    try:
        check_params({**content, "seed": seed + num_seeds - 1}, Path(f"--seeds {num_seeds}"))
    except UserError as error:
        raise UserError(f"{error}; the parent's is {seed}") from None


def _ends(dimension: Dimension) -> Sequence[Any]:
    """Return the ends of a range, or all choices."""
    return [dimension.low, dimension.high] if isinstance(dimension, Range) else dimension


def _is_right_with_others(
    parent: Mapping[str, Any], space: Mapping[str, Dimension], key: str, value: Any
) -> bool:
    """Return whether a value is right with some choices, or ends of ranges, of the other keys.

    What is wrong by itself is so with all of them.
    """
    others = {name: _ends(dimension) for name, dimension in space.items() if name != key}
    combinations: Iterable[Sequence[Any]]
    if math.prod(map(len, others.values())) <= _MAX_TRIED:
        combinations = itertools.product(*others.values())
    else:
        rng = random.Random(0)
        combinations = (tuple(map(rng.choice, others.values())) for _ in range(_MAX_TRIED))
    for chosen in combinations:
        values = {**dict(zip(others, chosen, strict=True)), key: value}
        with suppress(UserError):
            _checked(with_values(parent, values), Path(key))
            return True
    return False


def check_all_data(
    request: Request, parent: Mapping[str, Any], begun: Iterable[Child] = ()
) -> None:
    """Check the data that trials read, with each choice and each end of a range.

    Args:
        request: what is searched, and where the data are.
        parent: the content of the parent's `params.json`, as a child needs it.
        begun: trainings of earlier runs, whose data shall be the same.

    Raises:
        UserError: data are missing, wrong, or others than those of an earlier run.
    """
    children = []
    for key, dimension in request.space.items():
        for value in _ends(dimension)[:_MAX_CHECKED]:
            content = with_values(parent, {key: value})
            try:
                params = _checked(content, Path(key))
            except UserError:  # right only with another value of another key
                continue
            experiment = Experiment(request.parent_dir / "none")
            children.append(Child(experiment, content, params))
    loaded = {_data_of(child) for child in children}
    trained = [child for child in begun if _has_trained(child)]
    children += [  # not all: with a range of image_size, each loads data of its own
        child for n, child in enumerate(trained) if n < _MAX_BEGUN or _data_of(child) in loaded
    ]
    try:
        keeps_splits = request.keeps_splits
        check_data(children, request.data_dir, afresh=not trained, keeps_splits=keeps_splits)
    except UserError as error:
        lines = [line.removeprefix("none: ") for line in str(in_search(error)).split("\n")]
        raise UserError("\n".join(lines)) from None


def _data_of(child: Child) -> str:
    """Return a text that is equal for trainings that load the same data."""
    return child.params.model_dump_json(include=set(DATA_KEYS))


def _has_trained(child: Child) -> bool:
    """Return whether a training has saved a checkpoint; a damaged one cannot win anyway."""
    try:
        return child.experiment.latest_step() is not None
    except UserError:
        return False


def _check_no_best(parent_dir: Path) -> None:
    """Refuse a parent that was trained itself: its best checkpoint is where the winner will be.

    Raises:
        UserError: it was, or something else has the folder's name.
    """
    Experiment(parent_dir / WINNER_DIR)  # no file
    if (parent_dir / WINNER_DIR / "best.json").exists():
        raise UserError(
            f"{parent_dir}: trained itself, and its folder {WINNER_DIR} has a checkpoint; "
            "accepted: a directory with a params.json that is not trained, such as a copy"
        )
