"""A sweep: experiments that differ from a parent, and from each other, in the swept params alone.

They are child directories of the parent, named by what differs, each with a `params.json` of its
own: `train.py`, `visualize.py` and `compare.py` take them as any other experiment.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.atomic import atomic_write
from src.errors import UserError
from src.experiment import Experiment
from src.params import Params, check_params, format_value, load_params, read_json_object


@dataclass(frozen=True)
class Child:
    """One experiment of a sweep.

    Attributes:
        experiment: its directory.
        values: the content of its `params.json`.
        params: the same, checked, defaults filled in.
    """

    experiment: Experiment
    values: Mapping[str, Any]
    params: Params

    @property
    def name(self) -> str:
        """Its directory's name: `margin_0.5-triplet_strategy_batch_all`."""
        return self.experiment.model_dir.name

    @property
    def status(self) -> str:
        """`finished`, `diverged` and `collapsed`, which do not run again; `to run` for all else."""
        if self.experiment.is_finished(self.params):
            return "finished"
        status = (self.experiment.metrics() or {}).get("status")
        return str(status) if status in ("diverged", "collapsed") else "to run"


def parse_param(text: str) -> tuple[str, list[Any]]:
    """Return the key and the values of `key=value,value`.

    Values are JSON (`0.5`, `true`, `null`, `[1, 2]`, `{"shift": 2}`); what is not is text
    (`batch_all`, `soft`).

    Raises:
        UserError: there is no `=`, no key, an empty value, or a value twice.
    """
    key, equals, rest = text.partition("=")
    if not (key and equals):
        raise UserError(f"--param: found {text!r}; accepted: KEY=VALUE,VALUE,...")
    values: list[Any] = []
    decoder = json.JSONDecoder()
    position = 0
    while position <= len(rest):
        try:
            value, end = decoder.raw_decode(rest, position)
        except ValueError:
            value, end = None, -1
        if end != len(rest) and rest[end : end + 1] != ",":  # no JSON, or only its beginning
            end = rest.find(",", position) if "," in rest[position:] else len(rest)
            value = rest[position:end]
        if value == "":
            raise UserError(f"--param {key}: found an empty value; accepted: {key}=VALUE,VALUE,...")
        if any(json.dumps(value) == json.dumps(other) for other in values):
            raise UserError(
                f"--param {key}: found {format_value(value)} twice; accepted: each value once"
            )
        values.append(value)
        position = end + 1
    return key, values


def plan(
    parent_dir: Path, swept: Mapping[str, Sequence[Any]], num_seeds: int | None = None
) -> list[Child]:
    """Return the experiments of a sweep: every combination of the values. Nothing is written.

    Args:
        parent_dir: a directory with the `params.json` that they are made from.
        swept: the values of each key.
        num_seeds: how many seeds, from the parent's on; None for the parent's alone.

    Raises:
        UserError: the params of the parent, or of any child, have errors; one line each.
    """
    parent_path = Experiment(parent_dir).params_path
    parent = read_json_object(parent_path)
    seed = check_params(parent, parent_path).seed
    if num_seeds is not None:
        if "seed" in swept:
            raise UserError("--seeds: found --param seed as well; accepted: one of them")
        swept = {**swept, "seed": range(seed, seed + num_seeds)}
    if not swept:
        raise UserError("found nothing to sweep; accepted: --param KEY=VALUE,... or --seeds N")
    if str(parent.get("$schema", "")).startswith("."):
        parent = {**parent, "$schema": f"../{parent['$schema']}"}  # of a directory farther below

    children: dict[str, Child] = {}
    errors: list[tuple[str, str]] = []
    for values in itertools.product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        name = "-".join(f"{key}_{_name(value)}" for key, value in chosen.items())
        if name in children:
            raise UserError(
                f"{parent_dir / name}: found two combinations of values for this name; accepted: "
                "values that differ in letters and digits"
            )
        experiment = Experiment(parent_dir / name)
        content = {**parent, **chosen}
        try:
            params = check_params(content, Path(name))
        except UserError as error:
            lines = str(error).split("\n")
            errors += [(name, line.removeprefix(f"{name}: ")) for line in lines]
            continue
        children[name] = Child(experiment, content, params)
    if errors:
        raise UserError(_one_line_each(errors))
    return list(children.values())


def check_unchanged(children: Iterable[Child]) -> None:
    """Refuse children whose directories hold experiments of other params.

    Raises:
        UserError: the parent, or a child, was changed since; a line for each key and value.
    """
    errors: list[tuple[str, str]] = []
    for child in children:
        path = child.experiment.params_path
        if not path.exists():
            continue
        made = load_params(path)
        errors += [
            (
                child.name,
                f"{key}: found {_json(child.params, key)}, but {_json(made, key)} in its "
                "params.json; accepted: what it was made with, another --parent_dir, or "
                "--overwrite to start afresh",
            )
            for key in child.params.differences(made)
        ]
    if errors:
        raise UserError(_one_line_each(errors))
    for child in children:
        child.experiment.check_resumable(child.params)


def write_params(child: Child) -> None:
    """Write the `params.json` of a child, unless it is there with the same content."""
    content = json.dumps(child.values, indent=2).encode() + b"\n"
    path = child.experiment.params_path
    if not path.exists() or path.read_bytes() != content:
        with atomic_write(path) as file:
            file.write(content)


def _name(value: Any) -> str:
    """Return a value as part of a directory's name.

    Nothing that a shell, or a URL of TensorBoard, would take for something else.
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "_", format_value(value).replace("e+", "e")).strip("_")


def _json(params: Params, key: str) -> str:
    return json.dumps(params.model_dump()[key])


def _one_line_each(errors: Sequence[tuple[str, str]]) -> str:
    """Return `child: message` for every message, once: one bad value is in many children."""
    names: dict[str, list[str]] = {}
    for name, message in errors:
        names.setdefault(message, []).append(name)
    return "\n".join(
        f"{found[0]}: {message}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
        for message, found in names.items()
    )
